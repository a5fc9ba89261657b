"""The sockets that the server listens on, each alone or together with other worker processes."""

from __future__ import annotations

import contextlib
import socket
from typing import NamedTuple

from serving.errors import ServerConfigError

# Connections that wait to be accepted: one that finds no place tries again a second later.
_BACKLOG = 4096


class Port(NamedTuple):
    """Where an API listens. number: 0 picks a free one. shared: with other processes (SO_REUSEPORT)."""

    host: str
    number: int
    shared: bool = False

    def listen(self, api: str) -> socket.socket:
        """A socket that listens. Raises ServerConfigError, which says that it is for `api`, when it cannot."""
        try:
            family = socket.getaddrinfo(self.host, self.number, type=socket.SOCK_STREAM)[0][0]
            with contextlib.ExitStack() as stack:
                listener = stack.enter_context(socket.socket(family, socket.SOCK_STREAM))
                listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
                if self.shared:
                    listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
                listener.bind((self.host, self.number))
                listener.listen(_BACKLOG)
                stack.pop_all()
        except OSError as error:
            raise ServerConfigError(f"{self.host}:{self.number} cannot be listened on for {api}: {error}") from error
        return listener

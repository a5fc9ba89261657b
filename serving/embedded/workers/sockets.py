"""The sockets that the server listens on."""

from __future__ import annotations

import socket

from serving.errors import ServerConfigError

_BACKLOG = 2048


def listening(host: str, port: int, what: str, *, shared: bool) -> socket.socket:
    """A socket that listens on host:port; 0 picks a free port. shared: with other processes (SO_REUSEPORT).

    Raises ServerConfigError, which says that it is for `what`, when it cannot be.
    """
    try:
        family = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)[0][0]
        # asyncio sets TCP_NODELAY only where the protocol is named; without it an answer waits 40 ms for an ACK.
        made = socket.socket(family, socket.SOCK_STREAM, socket.IPPROTO_TCP)
        made.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        if shared:
            made.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
        made.bind((host, port))
        made.listen(_BACKLOG)
    except OSError as error:
        raise ServerConfigError(f"{host}:{port} cannot be listened on for {what}: {error}") from error
    return made

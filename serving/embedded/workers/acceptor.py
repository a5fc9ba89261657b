"""The connections of a port: how they are accepted, and how they end with it."""

from __future__ import annotations

import asyncio
import logging
import socket
import time
from collections.abc import Callable, Collection
from typing import Protocol

from serving.embedded.workers.handshakes import Handshakes

log = logging.getLogger(__name__)

# So many in one turn of the event loop.
_AT_ONCE = 128
# How long accepting rests when there are no descriptors left, and for how long handshakes go on when the port closes.
_REST_SECONDS = 0.2
# How often it is looked whether all are closed.
_CLOSED_SECONDS = 0.02


class Drainable(Protocol):
    """A connection, which goes when it is closed from the set that it is in."""

    def drain(self) -> None:
        """Answers what has arrived, and closes."""

    def abort(self) -> None:
        """Closes at once."""


async def drain(connections: Collection[Drainable], grace_seconds: float) -> None:
    """Ends connections; requests under way have the grace to finish."""
    for connection in list(connections):
        connection.drain()
    end = time.monotonic() + grace_seconds
    while connections and time.monotonic() < end:
        await asyncio.sleep(_CLOSED_SECONDS)
    for connection in list(connections):
        connection.abort()


class Acceptor:
    """Gives each connection of a listener a protocol, after a handshake where there are handshakes.

    asyncio's own server does the same, but uvloop's takes one connection in each turn of the loop: beside a few busy
    ones, new callers waited for seconds.
    """

    def __init__(
        self, listener: socket.socket, protocol: Callable[[], asyncio.Protocol], handshakes: Handshakes | None = None
    ) -> None:
        self._listener = listener
        self._protocol = protocol
        self._handshakes = handshakes
        self._loop = asyncio.get_running_loop()
        self._beginning: set[asyncio.Task[None]] = set()
        self._is_closed = False
        listener.setblocking(False)
        self._loop.add_reader(listener, self._accept)

    async def close(self) -> None:
        """Closes the port, once what the kernel has taken is accepted."""
        self._is_closed = True
        self._loop.remove_reader(self._listener)
        while self._accept():
            pass
        self._listener.close()
        if self._beginning:
            await asyncio.wait(self._beginning, timeout=_REST_SECONDS)
        if self._handshakes is not None:
            await self._handshakes.close(_REST_SECONDS)

    def _accept(self) -> bool:
        """Whether there may be more."""
        for _ in range(_AT_ONCE):
            try:
                connection, address = self._listener.accept()
            except BlockingIOError:
                return False
            except ConnectionError:
                # It was given up while it waited.
                continue
            except OSError as error:
                log.warning("connections wait to be accepted: %s", error)
                if not self._is_closed:
                    self._loop.remove_reader(self._listener)
                    self._loop.call_later(_REST_SECONDS, self._resume)
                return False
            connection.setblocking(False)
            connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            if self._handshakes is not None:
                self._handshakes.begin(connection, address[0])
                continue
            task = self._loop.create_task(self._begin(connection))
            self._beginning.add(task)
            task.add_done_callback(self._beginning.discard)
        return True

    def _resume(self) -> None:
        if not self._is_closed:
            self._loop.add_reader(self._listener, self._accept)

    async def _begin(self, connection: socket.socket) -> None:
        try:
            await self._loop.connect_accepted_socket(self._protocol, connection)
        except OSError as error:
            # Gone already.
            log.info("a connection ended before it began: %s", error)
            connection.close()

"""How connections begin in TLS."""

from __future__ import annotations

import asyncio
import logging
import socket
import ssl
from collections.abc import Callable
from typing import NamedTuple

from serving.embedded.admission.connections import Connections, Seat

log = logging.getLogger(__name__)

# So many in one turn of the event loop, at half a millisecond each.
_AT_ONCE = 4


class _Waiting(NamedTuple):
    seat: Seat
    timer: asyncio.TimerHandle


class Handshakes:
    """The handshakes of a port, after which a connection is given to `protocol(seat)`.

    A greeting costs its sender next to nothing, and the server a signature: a few are answered in each turn of the
    loop, the newest first, so that beside thousands a new caller's is among the next. A connection that says nothing
    costs a descriptor alone. context: gives the one of a new connection. seconds: for the greeting, and again for the
    rest. connections: among whom they have a place.
    """

    def __init__(
        self,
        context: Callable[[], ssl.SSLContext],
        seconds: float,
        connections: Connections,
        protocol: Callable[[Seat], asyncio.Protocol],
    ) -> None:
        self._context = context
        self._seconds = seconds
        self._connections = connections
        self._protocol = protocol
        self._loop = asyncio.get_running_loop()
        self._waiting: dict[socket.socket, _Waiting] = {}
        # Those of them that have sent something, in the order in which they did.
        self._greeted: dict[socket.socket, None] = {}
        self._tasks: set[asyncio.Task[None]] = set()

    def begin(self, connection: socket.socket, address: str) -> None:
        """Waits for a new connection's greeting, if there is a place for it."""
        seat = self._connections.enter(address, lambda: self._drop(connection))
        if seat is None:
            connection.close()
            return
        self._waiting[connection] = _Waiting(seat, self._loop.call_later(self._seconds, self._drop, connection))
        self._loop.add_reader(connection, self._take_greeting, connection)

    async def close(self, seconds: float) -> None:
        """Gives those that have begun so long, and none to the rest."""
        for connection in list(self._waiting):
            self._drop(connection)
        if self._tasks:
            await asyncio.wait(self._tasks, timeout=seconds)

    def _take_greeting(self, connection: socket.socket) -> None:
        self._loop.remove_reader(connection)
        if not self._greeted:
            self._loop.call_soon(self._answer)
        self._greeted[connection] = None

    def _answer(self) -> None:
        for _ in range(min(_AT_ONCE, len(self._greeted))):
            connection, _ = self._greeted.popitem()
            seat, timer = self._waiting.pop(connection)
            timer.cancel()
            task = self._loop.create_task(self._shake_hands(connection, seat))
            seat.close = task.cancel
            self._tasks.add(task)
            task.add_done_callback(self._tasks.discard)
        if self._greeted:
            self._loop.call_soon(self._answer)

    async def _shake_hands(self, connection: socket.socket, seat: Seat) -> None:
        try:
            await self._loop.connect_accepted_socket(
                lambda: self._protocol(seat), connection, ssl=self._context(), ssl_handshake_timeout=self._seconds
            )
        except (OSError, asyncio.CancelledError) as error:
            # No TLS, too slow, or it had to make room.
            log.info("a connection ended in its handshake: %s", error)
            self._connections.leave(seat)
            connection.close()

    def _drop(self, connection: socket.socket) -> None:
        seat, timer = self._waiting.pop(connection)
        timer.cancel()
        self._loop.remove_reader(connection)
        self._greeted.pop(connection, None)
        self._connections.leave(seat)
        connection.close()

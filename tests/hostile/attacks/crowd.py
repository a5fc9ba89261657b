"""Connections that an attacker has open: none of them ever waits for anything."""

from __future__ import annotations

import contextlib
import errno
import itertools
import socket
import sys
from collections.abc import Callable, Iterator

from tests.hostile.attacks import Address

_CONNECT_SECONDS = 0.2
_READ_BYTES = 2**18
_numbers = itertools.count()


class Crowd:
    """Many connections from many addresses, none of which is an innocent caller's. reads: what is sent to them."""

    def __init__(self, target: Address, *, reads: bool = True) -> None:
        self._target = target
        self._reads = reads
        self._unsent: dict[socket.socket, list[memoryview]] = {}
        self.received = 0

    def __len__(self) -> int:
        return len(self._unsent)

    def __iter__(self) -> Iterator[socket.socket]:
        return iter(list(self._unsent))

    def open(self, data: bytes = b"") -> socket.socket | None:
        """A new connection that sends some bytes first; None when there is none to be had."""
        connection = socket.socket()
        connection.settimeout(_CONNECT_SECONDS)
        try:
            if sys.platform == "linux":
                # The whole of 127.0.0.0/8 is this machine.
                connection.bind((f"127.0.{1 + next(_numbers) // 200 % 200}.{1 + next(_numbers) % 200}", 0))
            connection.connect(self._target)
        except OSError:
            connection.close()
            return None
        connection.setblocking(False)
        self._unsent[connection] = []
        self.send(connection, data)
        return connection

    def fill(self, count: int, data: Callable[[], bytes] = bytes, *, at_once: int = 500) -> None:
        """Opens more connections until there are so many, some at each call."""
        for _ in range(min(at_once, count - len(self))):
            if self.open(data()) is None:
                break

    def send(self, connection: socket.socket, data: bytes) -> None:
        """Sends bytes, after those that are still to be sent."""
        if data and connection in self._unsent:
            self._unsent[connection].append(memoryview(data))
            self._flush(connection)

    def pump(self) -> None:
        """Sends and reads what can be at this moment; forgets the connections that have ended."""
        for connection in self:
            self._flush(connection)
            if self._reads and connection in self._unsent:
                self._read(connection)

    def close(self) -> None:
        """Ends all connections."""
        for connection in self:
            self.drop(connection)

    def drop(self, connection: socket.socket) -> None:
        """Ends one connection."""
        self._unsent.pop(connection, None)
        connection.close()

    def is_idle(self, connection: socket.socket) -> bool:
        """Whether everything is sent."""
        return not self._unsent.get(connection)

    def _flush(self, connection: socket.socket) -> None:
        unsent = self._unsent[connection]
        try:
            while unsent:
                size = connection.send(unsent[0])
                unsent[0] = unsent[0][size:]
                if unsent[0]:
                    return
                del unsent[0]
        except BlockingIOError:
            pass
        except OSError:
            self.drop(connection)

    def _read(self, connection: socket.socket) -> None:
        with contextlib.suppress(BlockingIOError):
            try:
                data = connection.recv(_READ_BYTES)
            except OSError as error:
                if error.errno in (errno.EAGAIN, errno.EWOULDBLOCK):
                    return
                data = b""
            self.received += len(data)
            if not data:
                self.drop(connection)

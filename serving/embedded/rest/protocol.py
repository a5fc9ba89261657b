"""One REST connection on asyncio: the transport, the time limits, and the task that answers a request."""

from __future__ import annotations

import asyncio
import socket
import time
from collections.abc import Awaitable, Callable, Mapping
from email.utils import formatdate
from functools import lru_cache
from typing import cast

from serving.embedded.admission import Admission
from serving.embedded.admission.budget import Holding
from serving.embedded.admission.connections import Seat
from serving.embedded.offload import LARGE_BYTES
from serving.embedded.rest.connection import Connection, Phase
from serving.embedded.rest.messages import Answer, HttpRequest, Refusal
from serving.errors import ResourceExhausted

# From the last bytes sent to the close: closing while the client's bytes are unread resets the connection, and what was
# sent last may be lost with it (RFC 9112, section 9.6).
_LINGER_SECONDS = 1.0
# The same for one that is idle and has to go because there are too many.
_FAREWELL_SECONDS = 0.1
# How long an idle connection may still ask something when the server stops: what is on its way is answered.
_LAST_REQUEST_SECONDS = 0.5
# What is written to TLS at a time.
_TLS_PIECE_BYTES = 2**16
# Between two pieces of what is read for that reason only.
_UNWANTED_SECONDS = 0.05


class RestProtocol(asyncio.Protocol):
    """One connection.

    answer: answers a request of a peer; refused: takes note of what was refused before it was one; admit: as
    `Connection` has it, told whether the client has shown a certificate. seat: the one that it has had since its
    handshake began. connections: those
    that are open, this one among them while it is. clock: in seconds.
    """

    def __init__(
        self,
        answer: Callable[[HttpRequest, Callable[[], str]], Awaitable[Answer]],
        refused: Callable[[Refusal, Callable[[], str]], Answer],
        admission: Admission,
        connections: set[RestProtocol],
        admit: Callable[[str, str, Mapping[bytes, bytes], bool], str],
        clock: Callable[[], float] = time.monotonic,
        seat: Seat | None = None,
    ) -> None:
        self._answer = answer
        self._refused = refused
        self._admission = admission
        self._connections = connections
        self._clock = clock
        self._admit = admit
        self._seat = seat
        self._loop = asyncio.get_running_loop()
        self._connection = Connection(admission.limits, admission.budget, self._advance, self._admitted)
        # What the client has not read of the answers.
        self._unread = Holding(lambda _: self.abort())
        self._task: asyncio.Task[None] | None = None
        self._draining = False
        self._closing = False
        self._paused = False
        self._reading = True
        # Whether it reads nothing for a moment, so that others are read.
        self._yields = False
        # Whether an answer was sent; since when what is due is due.
        self._is_known = False
        self._since = clock()

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Waits for the first request, if there is a place for the connection."""
        # uvloop's transports are asyncio's in all but ancestry.
        self.transport = cast("asyncio.Transport", transport)
        self._peer_name = self.transport.get_extra_info("peername") or ("", 0)
        if self._seat is not None:
            self._seat.close = self._make_way
        else:
            self._seat = self._admission.connections.enter(self._peer_name[0], self._make_way)
        if self._seat is None:
            self.abort()
            return
        self._connections.add(self)
        self._is_encrypted = self.transport.get_extra_info("ssl_object") is not None
        self._is_certified = bool(self.transport.get_extra_info("peercert"))
        # Every byte that the kernel does not take at once counts as unread; in TLS, none is more than none at all.
        self.transport.set_write_buffer_limits(high=1 if self._is_encrypted else 0)
        self.transport.get_extra_info("socket").setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)

    def connection_lost(self, exc: Exception | None) -> None:  # noqa: ARG002 - asyncio's signature
        """Gives up the request under way: nobody waits for its answer."""
        self._closing = True
        self._connections.discard(self)
        if self._seat is not None:
            self._admission.connections.leave(self._seat)
            self._seat = None
        self._admission.budget.end(self._unread)
        self._connection.lose()
        if self._task is not None:
            self._task.cancel()
            self._task = None

    def data_received(self, data: bytes) -> None:
        """Takes what the client sent."""
        if len(data) > LARGE_BYTES:
            self._let_others_go_on()
        if self._closing:
            return
        phase = self._connection.phase
        self._connection.receive_data(data)
        if self._connection.phase != phase or phase == Phase.BODY:
            self._since = self._clock()
        self._advance()

    def eof_received(self) -> bool:
        """The client sends no more, and may still want its answers."""
        self._connection.end()
        self._advance()
        # TLS has no half-closed connections in asyncio.
        return not (self._closing or self._is_encrypted)

    def pause_writing(self) -> None:
        """The client does not read: what it has not read is held."""
        self._paused = True
        self._since = self._clock()
        self._hold_unread()

    def resume_writing(self) -> None:
        """The client has read everything."""
        self._paused = False
        self._admission.budget.release(self._unread)
        self._advance()

    def drain(self) -> None:
        """Answers what has arrived, and closes with the last answer; an idle connection, soon."""
        self._draining = True
        self._loop.call_later(_LAST_REQUEST_SECONDS, self._close_if_idle)

    def _close_if_idle(self) -> None:
        if self._task is None and self._connection.phase in (Phase.REQUEST, Phase.NOTHING):
            self._close()

    def check_time(self) -> None:
        """Ends what has taken too long; to be called from time to time."""
        limits, seconds = self._admission.limits, self._clock() - self._since
        if self._paused:
            if self.transport.get_write_buffer_size() != self._unread.size:
                self._since = self._clock()
                self._hold_unread()
            elif seconds > limits.stall_timeout_seconds:
                self.abort()
        elif self._task is None and not self._closing:
            self._check_due(seconds)

    def abort(self) -> None:
        """Closes at once."""
        self._closing = True
        self.transport.abort()

    def peer(self) -> str:
        """Who asks: `127.0.0.1:50514`."""
        return f"{self._peer_name[0]}:{self._peer_name[1]}"

    def _admitted(self, method: str, target: str, headers: Mapping[bytes, bytes]) -> str:
        return self._admit(method, target, headers, self._is_certified)

    def _check_due(self, seconds: float) -> None:
        limits, phase = self._admission.limits, self._connection.phase
        if phase == Phase.REQUEST:
            if seconds > (limits.idle_timeout_seconds if self._is_known else limits.header_timeout_seconds):
                self._close()
        elif seconds > (limits.header_timeout_seconds if phase == Phase.HEAD else limits.stall_timeout_seconds):
            self._connection.time_out()
            self._advance()

    def _advance(self) -> None:
        """Answers what is due next, if anything is, and reads while nothing waits for its answer."""
        connection = self._connection
        if self._closing:
            return
        if connection.interim:
            self.transport.write(connection.interim)
            connection.interim = b""
        if self._task is None and not self._paused:
            if connection.requests:
                self._begin(connection.next_request())
            elif connection.refusal is not None:
                self._send(self._refused(connection.refusal, self.peer), None, closes=True)
            elif connection.phase == Phase.NOTHING:
                self._close()
        self._update_reading()

    def _begin(self, request: HttpRequest) -> None:
        if self._seat is not None:
            self._admission.connections.work(self._seat)
        self._task = self._loop.create_task(self._respond(request))

    async def _respond(self, request: HttpRequest) -> None:
        answer = await self._answer(request, self.peer)
        self._task = None
        connection = self._connection
        closes = not request.keeps_alive or (self._draining and not connection.requests)
        self._send(answer, request, closes=closes)
        self._is_known = True
        self._since = self._clock()
        if self._seat is not None:
            self._admission.connections.rest(self._seat)
        self._advance()

    def _send(self, answer: Answer, request: HttpRequest | None, *, closes: bool) -> None:
        head, body = answer.data(request, _date(int(time.time())), closes=closes)
        if len(body) <= LARGE_BYTES:
            self.transport.write(head + body)
        elif self._is_encrypted:
            # Of one write, TLS keeps what is unread where nobody sees it: only of the next ones is it told.
            self.transport.write(head)
            view = memoryview(body)
            for start in range(0, len(view), _TLS_PIECE_BYTES):
                self.transport.write(view[start : start + _TLS_PIECE_BYTES])
        else:
            # Not another copy of it, and not in two writes: what the first leaves unread is all that is held.
            self.transport.writelines((head, body))
        if closes:
            self._close()

    def _make_way(self) -> None:
        """Goes, since there are too many connections: at once if nothing was ever answered."""
        if self._is_known:
            self._close(_FAREWELL_SECONDS)
        else:
            self.abort()

    def _close(self, linger: float = _LINGER_SECONDS) -> None:
        """Sends the last bytes, and closes when the client does, or soon."""
        if self._closing:
            return
        self._closing = True
        self._connection.end()
        if self.transport.can_write_eof():
            self.transport.write_eof()
        self._update_reading()
        self._loop.call_later(linger, self._finish)

    def _finish(self) -> None:
        if not self._paused:
            self.transport.close()

    def _hold_unread(self) -> None:
        unread = self.transport.get_write_buffer_size()
        try:
            self._admission.budget.hold(self._unread, unread - self._unread.size)
        except ResourceExhausted:
            self.abort()

    def _let_others_go_on(self) -> None:
        """Reads on later: the event loop would read on at once, as long as there is more, whoever else waits."""
        self._yields = True
        self._update_reading()
        self._loop.call_later(_UNWANTED_SECONDS if self._closing else 0, self._read_on)

    def _read_on(self) -> None:
        self._yields = False
        self._update_reading()

    def _update_reading(self) -> None:
        # What comes after the end is read on, and dropped.
        waits = not self._closing and (self._connection.requests or self._paused)
        reads = not (waits or self._yields)
        if reads != self._reading and not self.transport.is_closing():
            self._reading = reads
            if reads:
                self.transport.resume_reading()
            else:
                self.transport.pause_reading()


@lru_cache(1)
def _date(second: int) -> bytes:
    return formatdate(second, usegmt=True).encode()

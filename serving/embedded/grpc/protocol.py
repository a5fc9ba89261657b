"""One gRPC connection on asyncio: the transport, the timers, and the tasks that run methods.

Why not grpc.aio: it takes longer over a request than the model does, in threads that contend for the interpreter. Here
a small request is one read, one task and one write. docs/architecture.md has the figures.
"""

from __future__ import annotations

import asyncio
import logging
import socket
import time
from collections.abc import AsyncIterator, Callable, Mapping
from typing import cast

from serving.embedded.admission import Admission
from serving.embedded.admission.budget import Budget, Holding
from serving.embedded.admission.connections import Connections, Seat
from serving.embedded.grpc import events
from serving.embedded.grpc.connection import Connection
from serving.embedded.grpc.messages import Message
from serving.embedded.grpc.options import ConnectionOptions
from serving.embedded.grpc.stream import Method, Stream
from serving.errors import DeadlineExceeded, Internal, ResourceExhausted, ServingError

log = logging.getLogger(__name__)

# Of each connection: what a peer that does not read can make the server keep without a place in the budget.
_WRITE_BUFFER_BYTES = 2**16
# For the last words to a connection that has to go because there are too many.
_FAREWELL_SECONDS = 0.1
# So many events are handled at a time: there may be one for each of 30,000 calls when others need their bytes.
_TURN_EVENTS = 64
# Whether a connection is idle is looked at so often: to note it after each call would cost more.
_REST_SECONDS = 1.0


class GrpcProtocol(asyncio.Protocol):
    """One connection.

    connections: those that are open, this one among them while it is. refused: called with a call that fails before its
    method begins, or for want of one. clock: its time is what calls' deadlines refer to, in seconds. admission: what
    the server lets in; without it, everything. seat: the one that it has had since its handshake began.
    """

    def __init__(
        self,
        methods: Mapping[str, Method],
        options: ConnectionOptions,
        connections: set[GrpcProtocol],
        refused: Callable[[Stream, ServingError], None] = lambda *_: None,
        clock: Callable[[], float] = time.monotonic,
        admission: Admission | None = None,
        seat: Seat | None = None,
    ) -> None:
        self._options = options
        self._connections = connections
        self._refused = refused
        self._clock = clock
        self._loop = asyncio.get_running_loop()
        self._timers: dict[Callable[..., None], asyncio.TimerHandle] = {}
        # By stream number: what runs, and a streaming call's messages.
        self._tasks: dict[int, asyncio.Task[None]] = {}
        self._exchanges: dict[int, _Exchange] = {}
        self._paused = False
        self._lost = False
        self._draining = False
        self._closing = False
        self._admission = admission or Admission(options.limits, Budget(0, clock), Connections(0, 0, clock))
        self._seat = seat
        self._is_resting = True
        self._is_woken = False
        self._unread = Holding(lambda _: self.abort())
        self.connection = Connection(methods, options, self.peer, self._admission.budget, self._wake)

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Waits for the peer's preface."""
        # uvloop's transports are asyncio's in all but ancestry.
        self.transport = cast("asyncio.Transport", transport)
        self._peer_name = self.transport.get_extra_info("peername")
        self._family = self.transport.get_extra_info("socket").family
        if self._seat is not None:
            self._seat.close = self._make_way
        elif isinstance(self._peer_name, tuple):
            self._seat = self._admission.connections.enter(self._peer_name[0], self._make_way)
            if self._seat is None:
                self._closing = self.connection.closed = True
                self.abort()
                return
        self._connections.add(self)
        self.transport.set_write_buffer_limits(high=_WRITE_BUFFER_BYTES)
        self.transport.get_extra_info("socket").setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
        self._after(self._options.limits.header_timeout_seconds, self._check_greeted)
        if self._options.max_age is not None:
            self._after(self._options.max_age, self.drain)
        if self._options.max_idle is not None:
            self._after(self._options.max_idle, self._check_idle, 0)

    def data_received(self, data: bytes) -> None:
        """Takes what the peer sent."""
        connection = self.connection
        connection.receive_data(data, self._clock())
        self._advance()
        if connection.has_more:
            self.transport.pause_reading()
            self._loop.call_soon(self._receive_more)
        if connection.is_partial and self._check_partial not in self._timers:
            self._after(self._options.limits.header_timeout_seconds, self._check_partial)

    def _receive_more(self) -> None:
        """Takes more of what has arrived, now that other connections have had their turn."""
        connection = self.connection
        if self._paused or connection.closed or not connection.has_more:
            return
        connection.receive_more(self._clock())
        self._advance()
        if not self._paused and not self._closing:
            self._read_on()

    def _read_on(self) -> None:
        """Takes the rest of what has arrived before more is read."""
        if self.connection.has_more:
            self._loop.call_soon(self._receive_more)
        else:
            self.transport.resume_reading()

    def connection_lost(self, exc: Exception | None) -> None:  # noqa: ARG002 - asyncio's signature
        """Cancels every call."""
        self._closing = True
        self._connections.discard(self)
        for timer in self._timers.values():
            timer.cancel()
        if self._seat is not None:
            self._admission.connections.leave(self._seat)
            self._seat = None
        self._timers.clear()
        self._admission.budget.end(self._unread)
        # Nothing is written any more.
        self._paused = self._lost = True
        self.connection.lose()
        self._advance()
        self._cancel_more()

    def pause_writing(self) -> None:
        """A peer that does not read is not read from either."""
        self._paused = self.connection.calls.outbox.is_blocked = True
        self.transport.pause_reading()
        try:
            self._admission.budget.hold(self._unread, self.transport.get_write_buffer_size())
        except ResourceExhausted:
            self.abort()

    def resume_writing(self) -> None:
        """The peer reads again."""
        self._paused = self.connection.calls.outbox.is_blocked = False
        self._admission.budget.release(self._unread)
        self._read_on()
        self._advance()

    def drain(self) -> None:
        """Takes no more calls, and closes when those under way are answered."""
        if self._draining or self._closing:
            return
        self._draining = True
        if not self.connection.greeted:
            self.transport.close()
            return
        self.connection.drain()
        self._advance()
        self._after(self._options.drain_seconds, self._refuse_calls)
        if self._options.max_age_grace is not None:
            self._after(self._options.max_age_grace, self.abort)

    def abort(self) -> None:
        """Closes at once."""
        self.transport.abort()

    def peer(self) -> str:
        """Who asks, as gRPC writes it: `ipv4:127.0.0.1:50514`, `unix:`."""
        if self._family == socket.AF_UNIX:
            return "unix:"
        # There is no name when the peer had gone before it was accepted.
        host, port = (self._peer_name or ("0.0.0.0", 0))[:2]  # noqa: S104 - nothing listens there
        return f"{'ipv6' if self._family == socket.AF_INET6 else 'ipv4'}:{host}:{port}"

    def _advance(self) -> None:
        """Writes what there is to write while the peer reads, and does what the events ask for."""
        connection = self.connection
        while not self._paused and (data := connection.data_to_send()):
            self.transport.write(data)
        for _ in range(min(len(connection.events), _TURN_EVENTS)):
            self._handle(connection.events.popleft())
        if connection.events:
            self._wake()
        if connection.closed and not self._closing:
            self._close()
        elif connection.calls.under_way and self._is_resting:
            self._work()

    def _work(self) -> None:
        """Keeps its seat: a whole request is there."""
        self._is_resting = False
        if self._seat is not None:
            self._admission.connections.work(self._seat)
            self._after(_REST_SECONDS, self._check_rest, self.connection.calls.answered)

    def _check_rest(self, answered: int) -> None:
        """Lets others have the seat when nothing was asked since the last look, when so many calls were answered."""
        calls = self.connection.calls
        if calls.under_way or calls.answered != answered:
            self._after(_REST_SECONDS, self._check_rest, calls.answered)
        elif self._seat is not None:
            self._is_resting = True
            self._admission.connections.rest(self._seat)

    def _wake(self) -> None:
        if not self._is_woken:
            self._is_woken = True
            self._loop.call_soon(self._wake_up)

    def _wake_up(self) -> None:
        self._is_woken = False
        self._advance()

    def _make_way(self) -> None:
        """Goes, since there are too many connections: with a GOAWAY where something was asked."""
        if not self.connection.calls.last_number:
            self.abort()
            return
        self.connection.end("too many connections: --max_connections, --max_connections_per_address")
        self._advance()
        self._after(_FAREWELL_SECONDS, self.abort)

    def _handle(self, event: events.Event) -> None:
        match event:
            case events.RequestReceived():
                stream = event.stream
                self._tasks[stream.number] = self._loop.create_task(self._answer(stream))
            case events.StreamOpened(stream):
                exchange = self._exchanges[stream.number] = _Exchange()
                self._tasks[stream.number] = self._loop.create_task(self._answer_stream(stream, exchange))
            case events.MessageReceived(stream, message):
                self._receive(stream, message)
            case events.InputEnded(stream):
                self._receive(stream, None)
            case events.MessagesSent(stream):
                # Its handler may have been cancelled meanwhile.
                if waiting := self._exchanges.get(stream.number):
                    waiting.sent.set()
            case events.CallRejected(stream, error):
                self._reject(stream, error)
            case events.CallCancelled(stream):
                self._stop(stream)

    def _receive(self, stream: Stream, message: Message | None) -> None:
        # A handler that has returned, while what it said waits for a window, takes no more.
        if exchange := self._exchanges.get(stream.number):
            exchange.received.put_nowait(message)

    async def _answer(self, stream: Stream) -> None:
        assert stream.method.unary is not None
        try:
            # The message is nobody's but the method's, which can let go of it.
            answer = await stream.method.unary(stream.take_message(), stream)
        except Exception as error:  # noqa: BLE001 - every error becomes an answer
            self.connection.calls.fail(stream, _serving_error(error))
        else:
            self.connection.calls.answer(stream, answer)
        self._tasks.pop(stream.number, None)
        self._advance()

    async def _answer_stream(self, stream: Stream, exchange: _Exchange) -> None:
        calls = self.connection.calls
        timer = None
        if stream.deadline is not None:
            timer = self._loop.call_later(max(0.0, stream.deadline - self._clock()), self._expire, stream)
        try:
            await self._send_all(stream, exchange)
        except Exception as error:  # noqa: BLE001 - every error becomes an answer
            calls.fail(stream, _serving_error(error))
        else:
            calls.end(stream)
        finally:
            if timer is not None:
                timer.cancel()
        self._forget(stream)
        self._advance()

    def _expire(self, stream: Stream) -> None:
        error = DeadlineExceeded("Deadline Exceeded")
        self.connection.calls.fail(stream, error, at_once=True)
        self._reject(stream, error)
        self._advance()

    async def _send_all(self, stream: Stream, exchange: _Exchange) -> None:
        assert stream.method.streaming is not None
        async for message in stream.method.streaming(self._received(stream, exchange), stream):
            # A handler may not have noticed that it was cancelled.
            if stream.is_over:
                return
            exchange.sent.clear()
            self.connection.calls.send(stream, message)
            self._advance()
            await exchange.sent.wait()

    async def _received(self, stream: Stream, exchange: _Exchange) -> AsyncIterator[Message]:
        while (message := await exchange.received.get()) is not None:
            self.connection.calls.message_taken(stream, message)
            yield message

    def _reject(self, stream: Stream, error: ServingError) -> None:
        """Cancels the handler of a call that was answered with an error; where none has begun, `refused` takes note."""
        if stream.call is None:
            self._refused(stream, error)
        else:
            stream.call.code = error.code
        self._stop(stream)

    def _stop(self, stream: Stream) -> None:
        if task := self._forget(stream):
            task.cancel()

    def _forget(self, stream: Stream) -> asyncio.Task[None] | None:
        self._exchanges.pop(stream.number, None)
        return self._tasks.pop(stream.number, None)

    def _close(self) -> None:
        """Sends the last bytes, and closes when the peer does, or soon."""
        self._closing = True
        while data := self.connection.data_to_send():
            self.transport.write(data)
        if self.transport.can_write_eof():
            self.transport.write_eof()
        self._after(self._options.linger_seconds, self.transport.close)
        self._cancel_more()

    def _cancel_more(self) -> None:
        """Cancels what is left of the calls, some in each turn of the event loop: there may be ten thousands."""
        calls = self.connection.calls
        if len(calls):
            calls.cancel_some()
            self._advance()
            self._loop.call_soon(self._cancel_more)
        elif self._lost:
            self.connection.let_go()

    def _refuse_calls(self) -> None:
        self.connection.refuse_calls()
        self._advance()

    def _check_greeted(self) -> None:
        if not self.connection.greeted:
            self.transport.close()

    def _check_partial(self) -> None:
        """Hangs up on a peer that takes too long over a frame, or over a request's headers."""
        del self._timers[self._check_partial]
        since = self.connection.partial_since()
        if since is None:
            return
        left = since + self._options.limits.header_timeout_seconds - self._clock()
        if left <= 0:
            log.info("gRPC connection of %s ended: a frame took longer than --header_timeout_seconds", self.peer())
            self.abort()
        else:
            self._after(left, self._check_partial)

    def _check_idle(self, answered: int) -> None:
        """Drains when nothing was asked since the last check, when so many calls were answered."""
        calls = self.connection.calls
        if calls.answered == answered and not len(calls):
            self.drain()
        elif self._options.max_idle is not None:
            self._after(self._options.max_idle, self._check_idle, calls.answered)

    def _after(self, seconds: float, action: Callable[..., None], *arguments: object) -> None:
        self._timers[action] = self._loop.call_later(seconds, action, *arguments)


class _Exchange:
    """What passes between a streaming call and its handler. received: its messages; None after the last."""

    def __init__(self) -> None:
        self.received: asyncio.Queue[Message | None] = asyncio.Queue()
        self.sent = asyncio.Event()


def _serving_error(error: Exception) -> ServingError:
    if isinstance(error, ServingError):
        return error
    log.error("unforeseen error in a gRPC method", exc_info=error)
    return Internal(f"{type(error).__name__}: {error}")

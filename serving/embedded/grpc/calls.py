"""The calls of one gRPC connection: opened, fed, answered, given up."""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Callable, Mapping
from typing import NamedTuple

from serving.embedded.grpc import frames, messages
from serving.embedded.grpc.frames import ProtocolError
from serving.embedded.grpc.outbox import Outbox
from serving.embedded.grpc.stream import Method, Stream
from serving.errors import DeadlineExceeded, Internal, ResourceExhausted, ServingError, Unimplemented

log = logging.getLogger(__name__)

# More than a client has under way; it bounds what a peer can make us remember.
MAX_STREAMS = 2**16
# A peer may give up as many calls as were answered, or have us do it, and this many more:
# https://nvd.nist.gov/vuln/detail/CVE-2023-44487, https://kb.cert.org/vuls/id/767506
_FREE_STRIKES = 1000
# Of one streaming call, before its handler takes them.
_MAX_QUEUED_MESSAGES = 1000


class CallOptions(NamedTuple):
    """What calls may do: the bytes of a message either way, and how many there may be at a time."""

    max_receive_bytes: int = 2**31 - 1
    max_send_bytes: int = 2**31 - 1
    max_streams: int = MAX_STREAMS


class Calls:
    """The calls of one connection, by stream number.

    peer: who asks. over: called whenever one has ended. refused: called with one that fails before its method begins.
    """

    def __init__(
        self,
        methods: Mapping[str, Method],
        options: CallOptions,
        outbox: Outbox,
        peer: Callable[[], str],
        over: Callable[[], None],
        refused: Callable[[Stream, ServingError], None],
    ) -> None:
        self._methods = methods
        self._options = options
        self._outbox = outbox
        self._peer = peer
        self._over = over
        self._refused = refused
        self._loop = asyncio.get_running_loop()
        self._streams: dict[int, Stream] = {}
        self._strikes = 0
        self.refusing = False
        self.last_number = 0
        self.answered = 0
        outbox.sent = self._sent

    def __len__(self) -> int:
        """How many are under way."""
        return len(self._streams)

    def get(self, number: int) -> Stream | None:
        """The call of a stream, or None when it is over. Raises ProtocolError for one that was never opened."""
        if number > self.last_number or number % 2 == 0:
            raise ProtocolError(frames.PROTOCOL_ERROR, f"stream {number} was never opened")
        return self._streams.get(number)

    def take_headers(self, number: int, head: messages.Head, *, ends: bool) -> None:
        """Opens a call, or ends one's input with trailers. Raises ProtocolError."""
        if number > self.last_number and number % 2:
            self.last_number = number
            self._open(number, head, ends=ends)
            return
        stream = self.get(number)
        if stream is None:
            # The trailers of a call that we ended may be on their way, and nothing else.
            if head.is_request or not ends:
                raise ProtocolError(frames.STREAM_CLOSED, f"HEADERS on stream {number}, which is closed")
        elif stream.ended:
            self.break_off(stream, frames.STREAM_CLOSED)
        elif head.is_request or not ends:
            self.break_off(stream, frames.PROTOCOL_ERROR)
        else:
            self._end_input(stream)

    def take_data(self, stream: Stream, data: bytes, *, ends: bool) -> None:
        """A piece of a call's messages. A call that was answered already takes no more."""
        if stream.number not in self._streams:
            return
        if stream.ended:
            self.break_off(stream, frames.STREAM_CLOSED)
            return
        stream.taken += len(data)
        try:
            for message in stream.reader.feed(data):
                _receive(stream, message)
        except ServingError as error:
            self._cut(stream, error)
            return
        if ends:
            self._end_input(stream)

    def reset(self, number: int) -> None:
        """The peer gives a call up. Raises ProtocolError when it does too often."""
        stream = self.get(number)
        if stream is not None:
            self._give_up(stream)
            self._over()
        self.strike()

    def break_off(self, stream: Stream, code: int) -> None:
        """Ends a call whose peer broke the rules. Raises ProtocolError when it does too often."""
        self._outbox.write(frames.rst_stream(stream.number, code))
        self._give_up(stream)
        self._over()
        self.strike()

    def strike(self) -> None:
        """Counts what costs us more than the peer. Raises ProtocolError when there is too much of it."""
        self._strikes += 1
        if self._strikes > self.answered + _FREE_STRIKES:
            raise ProtocolError(frames.ENHANCE_YOUR_CALM, "more calls are given up than answered")

    def set_window(self, size: int) -> None:
        """Takes the peer's SETTINGS_INITIAL_WINDOW_SIZE over. Raises ProtocolError."""
        self._outbox.set_stream_window(size, self._streams.values())

    def give_up_all(self) -> None:
        """Gives up whatever is under way."""
        for stream in list(self._streams.values()):
            self._give_up(stream)

    def _open(self, number: int, head: messages.Head, *, ends: bool) -> None:
        if self.refusing or len(self._streams) >= self._options.max_streams:
            self._outbox.write(frames.rst_stream(number, frames.REFUSED_STREAM))
            return
        if head.fault:
            log.info("malformed gRPC request of %s: %s", self._peer(), head.fault)
            self._outbox.write(frames.rst_stream(number, frames.PROTOCOL_ERROR))
            self.strike()
            return
        if head.refusal:
            self._outbox.write_headers(number, messages.refusal(head.refusal), ends=True)
            if not ends:
                self._outbox.write(frames.rst_stream(number, frames.NO_ERROR))
            return
        method = self._methods.get(head.path)
        reader = messages.MessageReader(head.encoding, self._options.max_receive_bytes)
        stream = self._streams[number] = Stream(number, method or Method(), head, reader, self._peer)
        if method is None:
            stream.ended = ends
            self._fail(stream, Unimplemented(f"Method not found: {head.path}"))
            return
        if self._outbox.is_full:
            stream.ended = ends
            self._fail(stream, ResourceExhausted("too many answers wait for the client to read them"))
            return
        if method.streaming is not None:
            stream.incoming = asyncio.Queue()
            stream.task = self._loop.create_task(self._answer_stream(stream))
        if ends:
            self._end_input(stream)

    def _end_input(self, stream: Stream) -> None:
        stream.ended = True
        if stream.length is not None and stream.length != stream.taken:
            self.break_off(stream, frames.PROTOCOL_ERROR)
        elif not stream.reader.is_empty:
            self._cut(stream, Internal("the request ends before its message does"))
        elif stream.incoming is not None:
            stream.incoming.put_nowait(None)
        elif stream.received is None:
            self._fail(stream, Unimplemented("a unary call takes one message, not none"))
        elif stream.task is None:
            stream.task = self._loop.create_task(self._answer(stream, stream.received))

    async def _answer(self, stream: Stream, message: bytes) -> None:
        assert stream.method.unary is not None
        try:
            answer = await stream.method.unary(message, stream)
        except Exception as error:  # noqa: BLE001 - every error becomes an answer
            self._fail(stream, error)
        else:
            if len(answer) > self._options.max_send_bytes:
                self._fail(stream, _too_long(answer, self._options.max_send_bytes))
            elif stream.number in self._streams:
                self._outbox.answer(stream, answer, messages.OK_TRAILERS + stream.trailers)

    async def _answer_stream(self, stream: Stream) -> None:
        timer = None
        if stream.deadline is not None:
            left = max(0.0, stream.deadline - time.monotonic())
            timer = self._loop.call_later(left, self._cut, stream, DeadlineExceeded("Deadline Exceeded"))
        try:
            await self._send_all(stream)
        except Exception as error:  # noqa: BLE001 - every error becomes an answer
            self._fail(stream, error)
        else:
            if stream.number in self._streams:
                self._outbox.end(stream, messages.OK_TRAILERS + stream.trailers)
        finally:
            if timer is not None:
                timer.cancel()

    async def _send_all(self, stream: Stream) -> None:
        assert stream.method.streaming is not None
        async for message in stream.method.streaming(stream.messages(), stream):
            # A call that is over may not have noticed that it was cancelled.
            if stream.number not in self._streams:
                return
            await self._outbox.send(stream, message)

    def _cut(self, stream: Stream, error: ServingError) -> None:
        """Fails a call without what still waits of its answer."""
        self._outbox.forget(stream)
        if stream.call is not None:
            stream.call.code = error.code
        if stream.task is not None:
            stream.task.cancel()
        self._fail(stream, error)

    def _fail(self, stream: Stream, error: Exception) -> None:
        if stream.number not in self._streams:
            return
        if not isinstance(error, ServingError):
            log.error("unforeseen error in a gRPC method", exc_info=error)
            error = Internal(f"{type(error).__name__}: {error}")
        if stream.call is None:
            self._refused(stream, error)
        self._outbox.end(stream, messages.status_trailers(error.code, str(error)) + stream.trailers)

    def _sent(self, stream: Stream) -> None:
        """An answer is out: the call is over, whether or not the peer has said all that it wanted to say."""
        self.answered += 1
        del self._streams[stream.number]
        if not stream.ended:
            self._outbox.write(frames.rst_stream(stream.number, frames.NO_ERROR))
        self._over()

    def _give_up(self, stream: Stream) -> None:
        del self._streams[stream.number]
        self._outbox.forget(stream)
        if stream.task is not None:
            stream.task.cancel()


def _receive(stream: Stream, message: bytes) -> None:
    if stream.incoming is not None:
        if stream.incoming.qsize() >= _MAX_QUEUED_MESSAGES:
            raise ResourceExhausted("messages come faster than they are answered")
        stream.incoming.put_nowait(message)
    elif stream.received is None:
        stream.received = message
    else:
        raise Unimplemented("a unary call takes one message, not several")


def _too_long(answer: bytes, limit: int) -> ServingError:
    return ResourceExhausted(f"Sent message larger than max ({len(answer)} vs. {limit})")

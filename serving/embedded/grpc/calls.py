"""The calls of one gRPC connection: begun, fed, answered, cancelled."""

from __future__ import annotations

import itertools
import logging
from collections import deque
from collections.abc import Callable, Mapping
from functools import partial

from serving.embedded.access.tokens import LastVerdict
from serving.embedded.admission.budget import Budget, Holding
from serving.embedded.grpc import events, frames, messages
from serving.embedded.grpc.frames import ProtocolError
from serving.embedded.grpc.options import ConnectionOptions
from serving.embedded.grpc.outbox import Outbox
from serving.embedded.grpc.stream import Method, Stream
from serving.errors import Internal, ResourceExhausted, ServingError, Unimplemented, quoted

log = logging.getLogger(__name__)

# So many calls are cancelled at a time.
_CANCELLED_AT_ONCE = 500
# What a call takes that waits for its message.
_CALL_BYTES = 2048


class Calls:
    """The calls of one connection, by stream number. peer: who asks.

    budget: of what waits for the peer to send or to read. wake: called when there are events or frames for another
    reason than one of these methods: others needed the bytes of a call.

    `Connection` feeds them with `take_...`; whoever runs the methods answers with `answer` (unary), or `send` and `end`
    (streaming), or `fail`. What is sent to a call that is over goes nowhere.
    """

    def __init__(
        self,
        methods: Mapping[str, Method],
        options: ConnectionOptions,
        queue: deque[events.Event],
        peer: Callable[[], str],
        budget: Budget,
        wake: Callable[[], None],
    ) -> None:
        self._methods = methods
        self._options = options
        self._limits = options.limits
        self._events = queue
        self._peer = peer
        self._streams: dict[int, Stream] = {}
        self._strikes = 0
        self._budget = budget
        self._wake = wake
        self._last_verdict = LastVerdict()
        # Those that may wait for the rest of a message.
        self.unsettled: set[Stream] = set()
        self.outbox = Outbox(options, queue, self._answered, budget, self._give_up)
        # Whether new calls get REFUSED_STREAM; the number of the last that did not; how many were answered; how many
        # unary calls whose request is whole are not, and how many streaming ones.
        self.refusing = False
        self.last_number = 0
        self.answered = 0
        self.under_way = 0
        self.streaming = 0

    def __len__(self) -> int:
        """How many are under way."""
        return len(self._streams)

    def get(self, number: int) -> Stream | None:
        """The call of a stream, or None when it is over. Raises ProtocolError for one that was never opened."""
        if number > self.last_number or number % 2 == 0:
            raise ProtocolError(frames.PROTOCOL_ERROR, f"stream {number} was never opened")
        return self._streams.get(number)

    def take_headers(self, number: int, head: messages.Head, *, ends: bool, now: float) -> None:
        """Begins a call, or ends the input of one with trailers. Raises ProtocolError."""
        # RFC 9113, section 5.1.1: clients' streams have odd numbers that grow.
        if number > self.last_number and number % 2:
            self.last_number = number
            self._begin(number, head, ends=ends, now=now)
            return
        stream = self.get(number)
        if stream is None:
            # Trailers of a call that was ended early may be on their way, and nothing else (section 5.1, closed).
            if head.is_request or not ends:
                raise ProtocolError(frames.STREAM_CLOSED, f"HEADERS on stream {number}, which is closed")
        elif stream.input_ended:
            self.reset(stream, frames.STREAM_CLOSED)
        elif head.is_request or not ends:
            self.reset(stream, frames.PROTOCOL_ERROR)
        else:
            self._end_input(stream)

    def take_data(self, stream: Stream, data: bytes, *, ends: bool) -> None:
        """A piece of a call's messages. Raises ProtocolError when too many calls break the rules."""
        if stream.input_ended:
            self.reset(stream, frames.STREAM_CLOSED)
            return
        stream.received_bytes += len(data)
        try:
            for message in stream.reader.feed(data):
                self._take_message(stream, message)
        except ServingError as error:
            self._reject(stream, error)
            return
        if ends:
            self._end_input(stream)
        else:
            self.unsettled.add(stream)

    def settle(self) -> None:
        """Holds bytes for what is there of messages that are not whole, once all that has arrived is taken."""
        for stream in self.unsettled:
            if not (stream.input_ended or stream.is_over):
                self._hold_input(stream)
        self.unsettled.clear()

    def take_reset(self, number: int) -> None:
        """The peer cancels a call. Raises ProtocolError when it does too often."""
        stream = self.get(number)
        if stream is not None:
            self._cancel(stream)
        self.strike()

    def reset(self, stream: Stream, code: int) -> None:
        """Ends a call whose peer broke the rules with RST_STREAM. Raises ProtocolError when it does too often."""
        self.outbox.write(frames.rst_stream(stream.number, code))
        self._cancel(stream)
        self.strike()

    def strike(self) -> None:
        """Counts what costs the server more than its peer. Raises ProtocolError when there is too much of it."""
        self._strikes += 1
        if self._strikes > self.answered + self._options.free_strikes:
            raise ProtocolError(frames.ENHANCE_YOUR_CALM, "more calls are given up than answered")

    def set_window(self, size: int) -> None:
        """The peer's SETTINGS_INITIAL_WINDOW_SIZE. Raises ProtocolError."""
        self.outbox.set_stream_window(size, self._streams.values())

    def cancel_some(self) -> None:
        """Cancels the first calls under way: of a connection that has ended, until there are none left."""
        for stream in list(itertools.islice(self._streams.values(), _CANCELLED_AT_ONCE)):
            self._cancel(stream)

    def message_taken(self, stream: Stream, message: messages.Message) -> None:
        """A streaming call's handler has taken a message."""
        stream.untaken_messages -= 1
        stream.untaken_bytes -= messages.message_bytes(message)
        if stream.input is not None and not stream.is_over:
            self._hold_input(stream)

    def let_go(self, peer: Callable[[], str], wake: Callable[[], None]) -> None:
        """All calls are over, and none will begin. peer, wake: in the place of the owner's."""
        self._peer, self._wake = peer, wake
        del self.outbox

    def answer(self, stream: Stream, message: bytes) -> None:
        """The answer of a unary call."""
        if stream.is_over:
            return
        try:
            self.outbox.answer(stream, message, messages.OK_TRAILERS + stream.trailers)
        except ResourceExhausted as error:
            self._reject(stream, error)

    def send(self, stream: Stream, message: bytes) -> None:
        """One message of a streaming call; MessagesSent says when there is room for the next."""
        if stream.is_over:
            return
        try:
            self.outbox.send(stream, message)
        except ResourceExhausted as error:
            self._reject(stream, error)

    def end(self, stream: Stream) -> None:
        """Ends a streaming call after its last message."""
        if not stream.is_over:
            self.outbox.end(stream, messages.OK_TRAILERS + stream.trailers)

    def fail(self, stream: Stream, error: ServingError, *, at_once: bool = False) -> None:
        """Ends a call with an error's status. at_once: without the messages that wait for a window."""
        if stream.is_over:
            return
        if at_once:
            self.outbox.forget(stream)
        trailers = messages.status_trailers(error.code, str(error)) + stream.trailers
        if stream.call is not None:
            trailers += messages.error_details(
                error.code, str(error), stream.call.request_id, stream.call.trace.traceparent
            )
        self.outbox.end(stream, trailers)

    def _begin(self, number: int, head: messages.Head, *, ends: bool, now: float) -> None:
        if self.refusing or len(self._streams) >= self._limits.max_streams:
            self.outbox.write(frames.rst_stream(number, frames.REFUSED_STREAM))
            return
        if head.fault:
            log.info("malformed gRPC request of %s: %s", self._peer(), head.fault)
            self.outbox.write(frames.rst_stream(number, frames.PROTOCOL_ERROR))
            self.strike()
            return
        if not head.http_status:
            self._open(number, head, ends=ends, now=now)
        else:
            self.outbox.write_headers(number, frames.header(b":status", b"%d" % head.http_status), ends=True)
            if not ends:
                self.outbox.write(frames.rst_stream(number, frames.NO_ERROR))

    def _open(self, number: int, head: messages.Head, *, ends: bool, now: float) -> None:
        method = self._methods.get(head.path)
        reader = messages.MessageReader(head.encoding, self._limits.max_message_bytes)
        stream = self._streams[number] = Stream(number, method or Method(), head, reader, self._peer, now)
        stream.input_ended = ends
        if method is None:
            self._reject(stream, Unimplemented(f"Method not found: {quoted(head.path)}"))
            return
        if method.streaming is not None:
            self.streaming += 1
        if self.outbox.is_full:
            self._reject(stream, ResourceExhausted("too many answers wait for the client to read them"))
            return
        if method.gate is not None:
            stream.caller, refusal, _ = self._last_verdict.at(method.gate, head.metadata)
            if refusal is not None:
                self._reject(stream, refusal)
                return
        if method.streaming is not None:
            if self.streaming > self._options.max_streaming_calls:
                self._reject(stream, ResourceExhausted("too many streaming calls are open on this connection"))
                return
            self._events.append(events.StreamOpened(stream))
        if ends:
            self._end_input(stream)
        else:
            self.unsettled.add(stream)

    def _take_message(self, stream: Stream, message: messages.Message) -> None:
        if stream.method.streaming is not None:
            if stream.untaken_messages >= self._options.max_queued_messages:
                raise ResourceExhausted("messages come faster than they are answered")
            stream.untaken_messages += 1
            stream.untaken_bytes += messages.message_bytes(message)
            self._events.append(events.MessageReceived(stream, message))
        elif stream.message is None:
            stream.message = message
        else:
            raise Unimplemented("a unary call takes one message, not several")

    def _end_input(self, stream: Stream) -> None:
        stream.input_ended = True
        if stream.content_length is not None and stream.content_length != stream.received_bytes:
            # RFC 9113, section 8.1.1.
            self.reset(stream, frames.PROTOCOL_ERROR)
        elif not stream.reader.is_empty:
            self._reject(stream, Internal("the request ends before its message does"))
        elif stream.method.streaming is not None:
            self._events.append(events.InputEnded(stream))
        elif stream.message is None:
            self._reject(stream, Unimplemented("a unary call takes one message, not none"))
        else:
            # Its bytes are the call's from here on.
            if stream.input is not None:
                self._budget.release(stream.input)
            self.under_way += 1
            stream.is_whole = True
            self._events.append(events.RequestReceived(stream))

    def _hold_input(self, stream: Stream) -> None:
        """Holds what is there of a call's messages, or rejects it."""
        size = stream.reader.waiting_bytes + stream.untaken_bytes
        if stream.message is not None:
            size += messages.message_bytes(stream.message)
        if size or stream.method.streaming is None or not stream.reader.is_empty:
            size += stream.header_bytes + _CALL_BYTES
        if stream.input is None:
            if not size:
                return
            stream.input = Holding(partial(self._give_up, stream))
        try:
            if size:
                self._budget.hold(stream.input, size - stream.input.size)
            else:
                self._budget.release(stream.input)
        except ResourceExhausted as error:
            self._reject(stream, error)

    def _give_up(self, stream: Stream, error: ServingError) -> None:
        """Others need the bytes of a call whose peer is silent."""
        if not stream.is_over:
            self._reject(stream, error)
            self._wake()

    def _reject(self, stream: Stream, error: ServingError) -> None:
        """Fails a call for the connection's own reasons."""
        self.fail(stream, error, at_once=True)
        self._events.append(events.CallRejected(stream, error))

    def _answered(self, stream: Stream) -> None:
        """Forgets a call whose trailers are out, whether or not the peer has sent all that it wanted to send."""
        self.answered += 1
        self._over(stream)
        if not stream.input_ended:
            # RFC 9113, section 8.1: the rest of the request is not needed.
            self.outbox.write(frames.rst_stream(stream.number, frames.NO_ERROR))

    def _cancel(self, stream: Stream) -> None:
        self._over(stream)
        self.outbox.forget(stream)
        self._events.append(events.CallCancelled(stream))

    def _over(self, stream: Stream) -> None:
        stream.is_over = True
        del self._streams[stream.number]
        if stream.input is not None:
            self._budget.release(stream.input)
            # It refers to the stream: a cycle would wait for the garbage collector, of which there may be thousands.
            stream.input = None
            stream.reader.drop()
        if stream.is_whole:
            self.under_way -= 1
        elif stream.method.streaming is not None:
            self.streaming -= 1

"""The bytes that go out on one gRPC connection, under the peer's flow control (RFC 9113, section 5.2)."""

from __future__ import annotations

import struct
from collections import deque
from collections.abc import Callable, Iterable
from functools import partial

from serving.embedded.admission.budget import Budget, Holding
from serving.embedded.grpc import frames, messages
from serving.embedded.grpc.events import Event, MessagesSent
from serving.embedded.grpc.frames import ProtocolError
from serving.embedded.grpc.options import ConnectionOptions
from serving.embedded.grpc.stream import Stream
from serving.errors import ServingError

# As much as `take` gives at a time, give or take a frame.
_CHUNK_BYTES = 2**18
# What a message that waits takes beside its bytes.
_MESSAGE_OVERHEAD = 1024
# RFC 7541, section 6.3: a dynamic table of 0 bytes. No header block of the server's uses a table.
_NO_TABLE = b"\x20"
# The frame of the response's headers, the head of a DATA frame and the prefix of the message in it.
_ANSWER_HEAD = struct.Struct(f">IBI{len(messages.RESPONSE_HEADERS)}sIBIBI")
_RESPONSE_HEADERS_HEAD = len(messages.RESPONSE_HEADERS) << 8 | frames.HEADERS


class Outbox:
    """Frames to send, and the messages that wait for a window.

    answered: called when a stream's trailers are out. budget: of the messages that wait. give_up: called with a stream
    whose peer reads nothing while others need the bytes.
    """

    def __init__(
        self,
        options: ConnectionOptions,
        events: deque[Event],
        answered: Callable[[Stream], None],
        budget: Budget,
        give_up: Callable[[Stream, ServingError], None],
    ) -> None:
        self._options = options
        self._events = events
        self._answered = answered
        self._budget = budget
        self._give_up = give_up
        # Whether the transport takes no more for now.
        self.is_blocked = False
        self._frames: list[bytes | memoryview] = []
        # The streams that wait for the connection's window only, in turn.
        self._queue: deque[Stream] = deque()
        self._waiting_bytes = 0
        self._window = frames.DEFAULT_WINDOW
        self._stream_window = frames.DEFAULT_WINDOW
        self._frame_bytes = frames.DEFAULT_FRAME_BYTES
        self._table_update = b""
        # The streams with messages that wait, whatever for; whether a change of SETTINGS may have opened their windows;
        # no stream's window differs from a new stream's by more than the last.
        self._waiting: dict[int, Stream] = {}
        self._is_window_new = False
        self._most_credit = 0

    @property
    def is_full(self) -> bool:
        """Whether so much waits for the peer that no further call may begin."""
        options = self._options
        return self._waiting_bytes > options.max_waiting_bytes and len(self._waiting) > options.max_waiting_calls

    def write(self, data: bytes) -> None:
        """Frames that are under no flow control."""
        self._frames.append(data)

    def write_headers(self, number: int, block: bytes, *, ends: bool) -> None:
        """A header block. ends: the stream ends with it."""
        flags = frames.END_HEADERS | frames.END_STREAM if ends else frames.END_HEADERS
        self.write(frames.frame(frames.HEADERS, flags, number, self._table_update + block))
        self._table_update = b""

    def send(self, stream: Stream, message: bytes) -> None:
        """Queues one message, after the headers where it is the first.

        Raises ResourceExhausted when too much waits for peers.
        """
        if stream.output is None:
            stream.output = Holding(partial(self._give_up, stream))
        self._budget.hold(stream.output, len(message) + _MESSAGE_OVERHEAD)
        if not stream.has_headers:
            stream.has_headers = True
            self.write_headers(stream.number, messages.RESPONSE_HEADERS, ends=False)
        if not stream.pending:
            self._waiting[stream.number] = stream
        prefix = len(message).to_bytes(messages.PREFIX_BYTES, "big")
        # A large message is not copied for its prefix.
        parts = (prefix, message) if len(message) > _CHUNK_BYTES else (prefix + message,)
        stream.pending.extend(map(memoryview, parts))
        self._waiting_bytes += messages.PREFIX_BYTES + len(message)
        self._enqueue(stream)

    def answer(self, stream: Stream, message: bytes, trailers: bytes) -> None:
        """Queues a whole answer: headers, one message, trailers.

        One that need not wait for a window becomes frames at once: the queue would cost 4 % of a small request's time.
        Raises ResourceExhausted when too much waits for peers.
        """
        size = len(message) + messages.PREFIX_BYTES
        if self._queue or self._table_update or self.is_blocked or size > self._room(stream):
            self.send(stream, message)
            self.end(stream, trailers)
            return
        self._window -= size
        number = stream.number
        head = _ANSWER_HEAD.pack(
            _RESPONSE_HEADERS_HEAD, frames.END_HEADERS, number, messages.RESPONSE_HEADERS,
            size << 8 | frames.DATA, 0, number, 0, len(message),
        )  # fmt: skip
        flags = frames.END_HEADERS | frames.END_STREAM
        self._frames += (head, message, frames.frame(frames.HEADERS, flags, number, trailers))
        self._answered(stream)

    def end(self, stream: Stream, trailers: bytes) -> None:
        """Queues the trailers after all messages, and the headers before them where there was no message."""
        if stream.pending:
            stream.final_block = trailers
        else:
            # Headers and trailers in one: gRPC calls it Trailers-Only.
            self._end(stream, trailers if stream.has_headers else messages.RESPONSE_HEADERS + trailers)

    def forget(self, stream: Stream) -> None:
        """Drops what waits of a stream."""
        self._waiting_bytes -= sum(map(len, stream.pending))
        stream.pending.clear()
        self._release(stream)

    def take(self) -> bytes:
        """The next bytes to send: all frames, and of the messages what the windows allow, a frame of each in turn."""
        if self._is_window_new:
            self._is_window_new = False
            for stream in self._waiting.values():
                self._enqueue(stream)
        if self._queue:
            self._send_waiting()
        if not self._frames:
            return b""
        data = b"".join(self._frames)
        self._frames.clear()
        return data

    def set_table_bytes(self, size: int) -> None:
        """The peer's SETTINGS_HEADER_TABLE_SIZE: a smaller one is to be confirmed (RFC 9113, section 4.3.1)."""
        if size < frames.DEFAULT_TABLE_BYTES:
            self._table_update = _NO_TABLE

    def set_frame_bytes(self, size: int) -> None:
        """The peer's SETTINGS_MAX_FRAME_SIZE."""
        self._frame_bytes = min(size, _CHUNK_BYTES)

    def set_stream_window(self, size: int, streams: Iterable[Stream]) -> None:
        """The peer's SETTINGS_INITIAL_WINDOW_SIZE, which changes open streams' windows too (section 6.9.2).

        Raises ProtocolError when that makes one larger than 2^31-1.
        """
        if size + self._most_credit > frames.MAX_WINDOW:
            self._most_credit = max(0, max((stream.credit for stream in streams), default=0))
            if size + self._most_credit > frames.MAX_WINDOW:
                raise ProtocolError(frames.FLOW_CONTROL_ERROR, "SETTINGS open a window beyond 2^31-1")
        self._stream_window = size
        # Seen to when frames are made: a peer may send SETTINGS by the thousands, and have as many calls.
        self._is_window_new = True

    def widen(self, increment: int) -> None:
        """Opens the connection's window. Raises ProtocolError for one beyond 2^31-1."""
        self._window += increment
        if self._window > frames.MAX_WINDOW:
            raise ProtocolError(frames.FLOW_CONTROL_ERROR, "WINDOW_UPDATE beyond 2^31-1")

    def widen_stream(self, stream: Stream, increment: int) -> bool:
        """Opens a stream's window. False when it is beyond 2^31-1 then."""
        stream.credit += increment
        if self._stream_window + stream.credit > frames.MAX_WINDOW:
            return False
        self._most_credit = max(self._most_credit, stream.credit)
        self._enqueue(stream)
        return True

    def _room(self, stream: Stream) -> int:
        """The bytes of a stream that may be sent in a DATA frame now."""
        return min(self._window, self._stream_window + stream.credit, self._frame_bytes)

    def _enqueue(self, stream: Stream) -> None:
        if stream.pending and not stream.is_queued:
            stream.is_queued = True
            self._queue.append(stream)

    def _send_waiting(self) -> None:
        """Makes frames of what the windows allow."""
        size = 0
        while self._queue and self._window > 0 and size < _CHUNK_BYTES:
            stream = self._queue.popleft()
            stream.is_queued = False
            room = self._room(stream)
            # A stream that was dropped meanwhile has nothing pending.
            if stream.pending and room > 0:
                size += self._send_piece(stream, room)

    def _send_piece(self, stream: Stream, room: int) -> int:
        """One DATA frame of at most `room` bytes, and the trailers after the last. The length of its payload."""
        message = stream.pending[0]
        size = min(len(message), room)
        self._window -= size
        stream.credit -= size
        self._waiting_bytes -= size
        assert stream.output is not None
        # All of a message stays in memory until its last byte is out.
        self._budget.hold(stream.output, 0)
        self._frames += (frames.frame_head(size, frames.DATA, 0, stream.number), message[:size])
        if size < len(message):
            stream.pending[0] = message[size:]
        else:
            stream.pending.popleft()
        if stream.pending:
            self._enqueue(stream)
            return size
        self._release(stream)
        if stream.final_block is not None:
            self._end(stream, stream.final_block)
        else:
            self._events.append(MessagesSent(stream))
        return size

    def _release(self, stream: Stream) -> None:
        self._waiting.pop(stream.number, None)
        if stream.output is not None:
            self._budget.release(stream.output)
            stream.output = None

    def _end(self, stream: Stream, block: bytes) -> None:
        self.write_headers(stream.number, block, ends=True)
        self._answered(stream)

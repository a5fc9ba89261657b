"""What goes out on one gRPC connection, under the peer's flow control (RFC 9113, section 5.2)."""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Callable, Iterable

from serving.embedded.grpc import frames as http2
from serving.embedded.grpc import messages
from serving.embedded.grpc.frames import ProtocolError, frame_head
from serving.embedded.grpc.stream import Stream

# A peer that opens no window is answered no further when this much waits for it. A few answers may be of any size.
_MAX_WAITING_BYTES = 2**26
_MAX_WAITING = 100
# What a call that waits takes beside its message.
_CALL_BYTES = 1024
# RFC 7541, section 6.3: a dynamic table of 0 bytes, which is what we use of it anyway.
_NO_TABLE = b"\x20"


class Outbox:
    """Sends answers: at once where the windows let them, else in turns as they open. `sent` is told of each."""

    sent: Callable[[Stream], None]

    def __init__(self, transport: asyncio.Transport) -> None:
        self._transport = transport
        # All that have something to send, and of these, in turns, those that their own window did not hold up.
        self._waiting: dict[int, Stream] = {}
        self._turns: deque[Stream] = deque()
        self._waiting_bytes = 0
        self._ends: dict[int, bytes] = {}
        self._window = http2.DEFAULT_WINDOW
        self._frame_bytes = http2.DEFAULT_FRAME_BYTES
        self._stream_window = http2.DEFAULT_WINDOW
        self._table_update = b""
        self._paused = False

    @property
    def is_full(self) -> bool:
        """Whether so much waits for the peer that nothing more may be begun."""
        return self._waiting_bytes > _MAX_WAITING_BYTES and len(self._waiting) > _MAX_WAITING

    def write(self, frames: bytes) -> None:
        """Sends frames that no window holds up."""
        self._transport.write(frames)

    def write_headers(self, number: int, block: bytes, *, ends: bool) -> None:
        """Sends a header block. ends: the stream."""
        flags = http2.END_HEADERS | http2.END_STREAM if ends else http2.END_HEADERS
        self.write(http2.frame(http2.HEADERS, flags, number, self._table_update + block))
        self._table_update = b""

    def answer(self, stream: Stream, message: bytes, trailers: bytes) -> None:
        """Sends a whole answer: headers, one message, trailers."""
        size = len(message) + messages.PREFIX_BYTES
        if self._turns or self._table_update or size > self._room(stream):
            self._enqueue(stream, message)
            self.end(stream, trailers)
            return
        self._window -= size
        stream.credit -= size
        number = stream.number
        head = messages.RESPONSE_HEADERS
        self._transport.write(
            b"".join((
                frame_head(len(head), http2.HEADERS, http2.END_HEADERS, number), head,
                frame_head(size, http2.DATA, 0, number), messages.message_prefix(len(message)), message,
                frame_head(len(trailers), http2.HEADERS, http2.END_HEADERS | http2.END_STREAM, number), trailers,
            ))
        )  # fmt: skip
        self.sent(stream)

    async def send(self, stream: Stream, message: bytes) -> None:
        """Sends one message of several; returns when the peer has room for the next."""
        self._enqueue(stream, message)
        self.flush()
        if stream.pending:
            stream.drained = asyncio.get_running_loop().create_future()
            await stream.drained

    def end(self, stream: Stream, trailers: bytes) -> None:
        """Sends the trailers after all that waits, and the headers before them where there was nothing."""
        if stream.pending:
            self._ends[stream.number] = trailers
            self.flush()
            return
        # Without a message the trailers are the headers: gRPC calls it Trailers-Only.
        block = trailers if stream.headed else messages.RESPONSE_HEADERS + trailers
        self._end(stream, block)

    def forget(self, stream: Stream) -> None:
        """Sends nothing more of what waits of a stream."""
        if self._waiting.pop(stream.number, None) is not None:
            self._waiting_bytes -= sum(len(piece) + _CALL_BYTES for piece in stream.pending)
            stream.pending.clear()
        self._ends.pop(stream.number, None)
        if stream.drained is not None:
            stream.drained.cancel()

    def pause(self) -> None:
        """Keeps messages back until `resume`."""
        self._paused = True

    def resume(self) -> None:
        """Goes on."""
        self._paused = False
        self.flush()

    def set_table_bytes(self, size: int) -> None:
        """Takes the peer's SETTINGS_HEADER_TABLE_SIZE over: a smaller table must be confirmed, used or not."""
        if size < http2.DEFAULT_TABLE_BYTES:
            self._table_update = _NO_TABLE

    def set_stream_window(self, size: int, streams: Iterable[Stream]) -> None:
        """Takes the peer's SETTINGS_INITIAL_WINDOW_SIZE over, for the streams that there are too.

        Raises ProtocolError when the window of one is beyond 2^31-1 then.
        """
        self._stream_window = size
        for stream in streams:
            if size + stream.credit > http2.MAX_WINDOW:
                raise ProtocolError(http2.FLOW_CONTROL_ERROR, "SETTINGS open a window beyond 2^31-1")
            self._queue(stream)
        self.flush()

    def set_frame_bytes(self, size: int) -> None:
        """Takes the peer's SETTINGS_MAX_FRAME_SIZE over."""
        self._frame_bytes = size

    def widen(self, increment: int) -> None:
        """Opens the connection's window. Raises ProtocolError for one beyond 2^31-1."""
        self._window += increment
        if self._window > http2.MAX_WINDOW:
            raise ProtocolError(http2.FLOW_CONTROL_ERROR, "WINDOW_UPDATE beyond 2^31-1")
        self.flush()

    def widen_stream(self, stream: Stream, increment: int) -> bool:
        """Opens a stream's window; False when it is beyond 2^31-1 then."""
        stream.credit += increment
        if self._stream_window + stream.credit > http2.MAX_WINDOW:
            return False
        self._queue(stream)
        self.flush()
        return True

    def flush(self) -> None:
        """Sends what the windows let through, a frame of each stream in turn."""
        while self._turns and self._window > 0 and not self._paused:
            stream = self._turns.popleft()
            stream.queued = False
            # What was forgotten meanwhile has nothing pending.
            if stream.pending and (room := self._room(stream)) > 0:
                self._send_piece(stream, room)

    def _room(self, stream: Stream) -> int:
        """The bytes that may be sent of a stream now."""
        return 0 if self._paused else min(self._window, self._stream_window + stream.credit, self._frame_bytes)

    def _enqueue(self, stream: Stream, message: bytes) -> None:
        if not stream.headed:
            stream.headed = True
            self.write_headers(stream.number, messages.RESPONSE_HEADERS, ends=False)
        stream.pending.append(memoryview(messages.message_prefix(len(message)) + message))
        self._waiting_bytes += len(stream.pending[-1]) + _CALL_BYTES
        self._waiting[stream.number] = stream
        self._queue(stream)

    def _queue(self, stream: Stream) -> None:
        if stream.pending and not stream.queued:
            stream.queued = True
            self._turns.append(stream)

    def _send_piece(self, stream: Stream, room: int) -> None:
        first = stream.pending[0]
        piece = first[:room]
        self._window -= len(piece)
        stream.credit -= len(piece)
        self._waiting_bytes -= len(piece)
        self.write(frame_head(len(piece), http2.DATA, 0, stream.number) + piece)
        if len(piece) < len(first):
            stream.pending[0] = first[room:]
        else:
            stream.pending.popleft()
            self._waiting_bytes -= _CALL_BYTES
        if stream.pending:
            self._queue(stream)
        else:
            self._emptied(stream)

    def _emptied(self, stream: Stream) -> None:
        del self._waiting[stream.number]
        trailers = self._ends.pop(stream.number, None)
        if trailers is not None:
            self._end(stream, trailers)
        if stream.drained is not None and not stream.drained.done():
            stream.drained.set_result(None)

    def _end(self, stream: Stream, block: bytes) -> None:
        self.write_headers(stream.number, block, ends=True)
        self.sent(stream)

"""What goes out on one gRPC connection, under the peer's flow control (RFC 9113, section 5.2)."""

from __future__ import annotations

import asyncio
from collections.abc import Callable

from serving.embedded import grpc_messages as messages
from serving.embedded import http2
from serving.embedded.grpc_stream import Stream
from serving.embedded.http2 import ProtocolError, frame, frame_head


class Outbox:
    """Sends answers: at once where the windows let them, else in turns as they open. `sent` is told of each."""

    sent: Callable[[Stream], None]

    def __init__(self, transport: asyncio.Transport) -> None:
        self._transport = transport
        self._waiting: dict[int, Stream] = {}
        self._ends: dict[int, bytes] = {}
        self._window = http2.DEFAULT_WINDOW
        self._frame_bytes = http2.DEFAULT_FRAME_BYTES
        self._stream_window = http2.DEFAULT_WINDOW
        self._paused = False

    def write(self, frames: bytes) -> None:
        """Sends frames that no window holds up."""
        self._transport.write(frames)

    def answer(self, stream: Stream, message: bytes, trailers: bytes) -> None:
        """Sends a whole answer: headers, one message, trailers."""
        size = len(message) + messages.PREFIX_BYTES
        if self._waiting or size > self._room(stream):
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
        """Sends nothing more of a stream."""
        self._waiting.pop(stream.number, None)
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

    def set_stream_window(self, size: int) -> None:
        """Takes the peer's SETTINGS_INITIAL_WINDOW_SIZE over, for the streams that there are too."""
        self._stream_window = size
        self.flush()

    def set_frame_bytes(self, size: int) -> None:
        """Takes the peer's SETTINGS_MAX_FRAME_SIZE over."""
        self._frame_bytes = size

    def widen(self, stream: Stream | None, increment: int) -> None:
        """Opens the connection's window, or a stream's. Raises ProtocolError for one beyond 2^31-1."""
        if stream is None:
            self._window += increment
        else:
            stream.credit += increment
        if (self._window if stream is None else self._stream_window + stream.credit) > http2.MAX_WINDOW:
            raise ProtocolError(http2.FLOW_CONTROL_ERROR, "WINDOW_UPDATE beyond 2^31-1")
        self.flush()

    def flush(self) -> None:
        """Sends what the windows let through, a frame of each stream in turn."""
        while ready := [stream for stream in self._waiting.values() if self._room(stream) > 0]:
            for stream in ready:
                self._send_piece(stream)

    def _room(self, stream: Stream) -> int:
        """The bytes that may be sent of a stream now."""
        return 0 if self._paused else min(self._window, self._stream_window + stream.credit, self._frame_bytes)

    def _enqueue(self, stream: Stream, message: bytes) -> None:
        if not stream.headed:
            stream.headed = True
            self.write(frame(http2.HEADERS, http2.END_HEADERS, stream.number, messages.RESPONSE_HEADERS))
        stream.pending.append(memoryview(messages.message_prefix(len(message)) + message))
        self._waiting[stream.number] = stream

    def _send_piece(self, stream: Stream) -> None:
        room = self._room(stream)
        if room <= 0:
            return
        first = stream.pending[0]
        piece = first[:room]
        self._window -= len(piece)
        stream.credit -= len(piece)
        self.write(frame_head(len(piece), http2.DATA, 0, stream.number) + piece)
        if len(piece) < len(first):
            stream.pending[0] = first[room:]
            return
        stream.pending.popleft()
        if not stream.pending:
            self._emptied(stream)

    def _emptied(self, stream: Stream) -> None:
        del self._waiting[stream.number]
        trailers = self._ends.pop(stream.number, None)
        if trailers is not None:
            self._end(stream, trailers)
        if stream.drained is not None and not stream.drained.done():
            stream.drained.set_result(None)

    def _end(self, stream: Stream, block: bytes) -> None:
        self.write(frame(http2.HEADERS, http2.END_HEADERS | http2.END_STREAM, stream.number, block))
        self.sent(stream)

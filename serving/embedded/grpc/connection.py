"""One gRPC connection: an asyncio protocol that takes HTTP/2 frames apart and lets methods answer.

Why not grpc.aio: it takes longer over a request than the model does, in threads that contend for the interpreter. Here
a small request is one read, one task and one write. docs/architecture.md has the figures.
"""

from __future__ import annotations

import asyncio
import logging
import socket
from collections.abc import Callable, Mapping
from typing import NamedTuple, cast

from serving.embedded.grpc import frames
from serving.embedded.grpc.calls import CallOptions, Calls
from serving.embedded.grpc.frames import ProtocolError, frame
from serving.embedded.grpc.messages import HARD_LIMIT, HeadReader
from serving.embedded.grpc.outbox import Outbox
from serving.embedded.grpc.stream import Method, Stream
from serving.errors import ServingError

log = logging.getLogger(__name__)

# Larger frames than HTTP/2's 16 KiB: fewer of them for large tensors.
MAX_FRAME_BYTES = 2**20
MAX_HEADER_BYTES = 2**16
_WRITE_BUFFER_BYTES = 2**20
# The window for all streams is filled up when so much of it is used.
_REFILL_BYTES = 2**30
_PREFACE_SECONDS = 20.0
# A peer that does not answer the PING of an orderly end is not waited for any longer.
_DRAIN_SECONDS = 1.0
_DRAIN_PING = b"drained?"
# Closing while the peer's bytes are unread resets the connection, and our last words may be lost with it.
_LINGER_SECONDS = 1.0
# HTTP/2 sets no limit, but https://nvd.nist.gov/vuln/detail/CVE-2024-27316
_MAX_CONTINUATIONS = 32
_HINT = b"This is the gRPC port: it speaks HTTP/2 only. REST is on the other one (--rest_api_port).\n"
_NOT_HTTP2 = (
    b"HTTP/1.1 505 HTTP Version Not Supported\r\ncontent-type: text/plain\r\n"
    b"content-length: %d\r\nconnection: close\r\n\r\n%s" % (len(_HINT), _HINT)
)


class ConnectionOptions(NamedTuple):
    """What a connection may do. Times in seconds, None = any; max_age_grace: for the calls of one that is too old."""

    calls: CallOptions = CallOptions()
    max_idle: float | None = None
    max_age: float | None = None
    max_age_grace: float | None = None


class GrpcProtocol(asyncio.Protocol):
    """One connection.

    connections: those that are open, this one among them while it is. refused: called with a call that fails before its
    method begins, or for want of one.
    """

    def __init__(
        self,
        methods: Mapping[str, Method],
        options: ConnectionOptions,
        connections: set[GrpcProtocol],
        refused: Callable[[Stream, ServingError], None] = lambda *_: None,
    ) -> None:
        self._methods = methods
        self._options = options
        self._connections = connections
        self._refused = refused
        self._loop = asyncio.get_running_loop()
        self._timers: dict[Callable[..., None], asyncio.TimerHandle] = {}
        self._heads = HeadReader(MAX_HEADER_BYTES)
        self._draining = False
        self._hung_up = False
        # Where in the bytes of the peer we are: pieces of a frame and how much of it is missing, the only frame that is
        # due, a header block that goes on (its flags, bytes and CONTINUATIONs), a DATA frame.
        self._greeted = False
        self._rest: list[bytes] = []
        self._missing = 0
        self._awaited: tuple[int, int] | None = (frames.SETTINGS, 0)
        self._block: tuple[int, bytes, int] | None = None
        self._data_stream: Stream | None = None
        self._data_left = 0
        self._data_ends = False
        self._unacknowledged = 0
        self._on_frame: dict[int, Callable[[int, int, bytes], None]] = {
            frames.DATA: self._on_padded_data,
            frames.HEADERS: self._on_headers,
            frames.PRIORITY: lambda number, _, payload: frames.check_priority(number, payload),
            frames.RST_STREAM: self._on_reset,
            frames.SETTINGS: self._on_settings,
            frames.PUSH_PROMISE: self._on_push_promise,
            frames.PING: self._on_ping,
            frames.GOAWAY: self._on_goaway,
            frames.WINDOW_UPDATE: self._on_window_update,
            frames.CONTINUATION: self._on_continuation,
        }

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Waits for the peer's preface."""
        # uvloop's transports are asyncio's in all but ancestry.
        self._transport = cast("asyncio.Transport", transport)
        self._connections.add(self)
        self._peer_name = self._transport.get_extra_info("peername")
        self._transport.set_write_buffer_limits(high=_WRITE_BUFFER_BYTES)
        self._transport.get_extra_info("socket").setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
        self._outbox = Outbox(self._transport)
        self._calls = Calls(
            self._methods, self._options.calls, self._outbox, self.peer, self._close_if_done, self._refused
        )
        self._after(_PREFACE_SECONDS, self._check_greeted)
        if self._options.max_age is not None:
            self._after(self._options.max_age, self.drain)

    def data_received(self, data: bytes) -> None:
        """Takes what the peer sent apart."""
        if self._hung_up:
            return
        if self._rest:
            self._rest.append(data)
            self._missing -= len(data)
            if self._missing > 0:
                return
            data = b"".join(self._rest)
            self._rest.clear()
        try:
            if self._greeted:
                self._take(data)
            else:
                self._greet(data)
        except ProtocolError as error:
            log.info("gRPC connection of %s ended: %s", self.peer(), error)
            self._hang_up(frames.goaway(self._calls.last_number, error.code, str(error)))

    def connection_lost(self, exc: Exception | None) -> None:  # noqa: ARG002 - asyncio's signature
        """Gives every call up."""
        self._connections.discard(self)
        for timer in self._timers.values():
            timer.cancel()
        self._calls.give_up_all()

    def pause_writing(self) -> None:
        """A peer that does not read is not read from either."""
        self._outbox.pause()
        self._transport.pause_reading()

    def resume_writing(self) -> None:
        """The peer reads again."""
        self._transport.resume_reading()
        self._outbox.resume()

    def drain(self) -> None:
        """Takes no more calls, and closes when those under way are answered.

        In two steps, so that no call that is on its way is lost (RFC 9113, section 6.8).
        """
        if self._draining:
            return
        self._draining = True
        if not self._greeted:
            self._transport.close()
            return
        self._outbox.write(frames.goaway(frames.MAX_STREAM_ID, frames.NO_ERROR) + frame(frames.PING, 0, 0, _DRAIN_PING))
        self._after(_DRAIN_SECONDS, self._refuse_more)
        if self._options.max_age_grace is not None:
            self._after(self._options.max_age_grace, self.abort)

    def abort(self) -> None:
        """Closes at once."""
        self._transport.abort()

    def peer(self) -> str:
        """Who asks, as gRPC writes it: `ipv4:127.0.0.1:50514`, `unix:`."""
        name = self._peer_name
        if not isinstance(name, tuple):
            return "unix:"
        version = "ipv6" if self._transport.get_extra_info("socket").family == socket.AF_INET6 else "ipv4"
        return f"{version}:{name[0]}:{name[1]}"

    def _take(self, data: bytes) -> None:
        position, size = 0, len(data)
        while position < size and not self._hung_up:
            if self._data_left:
                end = min(position + self._data_left, size)
                self._data_left -= end - position
                self._on_data(data[position:end])
                position = end
                continue
            if size - position < frames.FRAME_HEAD_BYTES:
                self._keep(data[position:], frames.FRAME_HEAD_BYTES)
                return
            length, kind, flags, number = frames.parse_frame_head(data, position)
            if length > MAX_FRAME_BYTES or self._awaited is not None:
                self._check_frame(length, kind, number)
            start = position + frames.FRAME_HEAD_BYTES
            if kind == frames.DATA and not flags & frames.PADDED:
                self._begin_data(number, length, ends=bool(flags & frames.END_STREAM))
                position = start
                continue
            on_frame = self._on_frame.get(kind)
            if on_frame is None:
                # An extension's frame: passed over like the data of no stream.
                self._data_stream, self._data_left = None, length
                position = start
                continue
            if size - start < length:
                self._keep(data[position:], frames.FRAME_HEAD_BYTES + length)
                return
            position = start + length
            on_frame(number, flags, data[start:position])

    def _keep(self, data: bytes, wanted: int) -> None:
        """Keeps the beginning of a frame until so many bytes are there."""
        self._rest.append(data)
        self._missing = wanted - len(data)

    def _greet(self, data: bytes) -> None:
        """Takes the preface, and answers it: messages may be long, and no window of ours holds them up."""
        if not frames.PREFACE.startswith(data[: len(frames.PREFACE)]):
            self._hang_up(_NOT_HTTP2)
            return
        if len(data) < len(frames.PREFACE):
            self._keep(data, len(data) + 1)
            return
        self._greeted = True
        settings = {
            frames.MAX_CONCURRENT_STREAMS: self._options.calls.max_streams,
            frames.INITIAL_WINDOW_SIZE: frames.MAX_WINDOW,
            frames.MAX_FRAME_SIZE: MAX_FRAME_BYTES,
            frames.MAX_HEADER_LIST_SIZE: MAX_HEADER_BYTES,
        }
        self._outbox.write(frames.settings_frame(settings))
        self._outbox.write(frames.window_update(frames.MAX_WINDOW - frames.DEFAULT_WINDOW))
        self._watch_idleness(-1)
        self._take(data[len(frames.PREFACE) :])

    def _check_frame(self, length: int, kind: int, number: int) -> None:
        if length > MAX_FRAME_BYTES:
            raise ProtocolError(frames.FRAME_SIZE_ERROR, f"a frame of {length} bytes is longer than agreed")
        if (kind, number) != self._awaited:
            raise ProtocolError(
                frames.PROTOCOL_ERROR, f"a frame of type {kind} where SETTINGS or the rest of a header block is due"
            )

    def _on_headers(self, number: int, flags: int, payload: bytes) -> None:
        self._take_block(number, flags, frames.header_block(payload, flags), 0)

    def _on_continuation(self, number: int, flags: int, payload: bytes) -> None:
        if self._block is None:
            raise ProtocolError(frames.PROTOCOL_ERROR, "CONTINUATION of nothing")
        first_flags, begun, count = self._block
        self._block = self._awaited = None
        self._take_block(number, first_flags | flags & frames.END_HEADERS, begun + payload, count + 1)

    def _take_block(self, number: int, flags: int, block: bytes, continuations: int) -> None:
        if len(block) > HARD_LIMIT * MAX_HEADER_BYTES or continuations > _MAX_CONTINUATIONS:
            raise ProtocolError(frames.ENHANCE_YOUR_CALM, "the request's headers are too long")
        if flags & frames.END_HEADERS:
            self._calls.take_headers(number, self._heads.read(block), ends=bool(flags & frames.END_STREAM))
        else:
            self._block = (flags, block, continuations)
            self._awaited = (frames.CONTINUATION, number)

    def _begin_data(self, number: int, length: int, *, ends: bool) -> None:
        self._data_stream = self._calls.get(number)
        self._data_left = length
        self._data_ends = ends
        self._refill(length)
        if not length:
            self._on_data(b"")

    def _on_data(self, data: bytes) -> None:
        """A piece of a DATA frame, or all of it."""
        if self._data_stream is not None:
            self._calls.take_data(self._data_stream, data, ends=self._data_ends and not self._data_left)

    def _on_padded_data(self, number: int, flags: int, payload: bytes) -> None:
        stream = self._calls.get(number)
        data = frames.unpadded(payload, flags)
        self._refill(len(payload))
        if stream is not None:
            self._calls.take_data(stream, data, ends=bool(flags & frames.END_STREAM))

    def _refill(self, length: int) -> None:
        """Opens the window for all streams again, now and then; one stream's holds a message of any length."""
        self._unacknowledged += length
        if self._unacknowledged > _REFILL_BYTES:
            self._outbox.write(frames.window_update(self._unacknowledged))
            self._unacknowledged = 0

    def _on_reset(self, number: int, _: int, payload: bytes) -> None:
        frames.check_size(payload, 4, "RST_STREAM")
        self._calls.reset(number)

    def _on_settings(self, number: int, flags: int, payload: bytes) -> None:
        frames.check_connection(number, "SETTINGS")
        if flags & frames.ACK:
            frames.check_size(payload, 0, "SETTINGS with ACK")
            return
        self._awaited = None
        self._calls.strike()
        settings = dict(frames.parse_settings(payload))
        # First, so that whatever follows is what the peer has to expect from there on.
        self._outbox.write(frame(frames.SETTINGS, frames.ACK, 0))
        if (size := settings.get(frames.HEADER_TABLE_SIZE)) is not None:
            self._outbox.set_table_bytes(size)
        if (size := settings.get(frames.MAX_FRAME_SIZE)) is not None:
            self._outbox.set_frame_bytes(size)
        if (size := settings.get(frames.INITIAL_WINDOW_SIZE)) is not None:
            self._calls.set_window(size)

    def _on_push_promise(self, number: int, _: int, __: bytes) -> None:
        raise ProtocolError(frames.PROTOCOL_ERROR, f"PUSH_PROMISE of stream {number}: clients push nothing")

    def _on_goaway(self, number: int, _: int, payload: bytes) -> None:
        """A peer that opens no more calls still wants its answers, and closes the connection itself."""
        frames.check_connection(number, "GOAWAY")
        frames.check_size(payload[:8], 8, "GOAWAY")

    def _on_ping(self, number: int, flags: int, payload: bytes) -> None:
        frames.check_connection(number, "PING")
        frames.check_size(payload, len(_DRAIN_PING), "PING")
        if not flags & frames.ACK:
            self._outbox.write(frame(frames.PING, frames.ACK, 0, payload))
        elif self._draining and payload == _DRAIN_PING:
            self._refuse_more()

    def _on_window_update(self, number: int, _: int, payload: bytes) -> None:
        frames.check_size(payload, 4, "WINDOW_UPDATE")
        increment = int.from_bytes(payload, "big") & frames.MAX_WINDOW
        if not number:
            if not increment:
                raise ProtocolError(frames.PROTOCOL_ERROR, "WINDOW_UPDATE by 0")
            self._outbox.widen(increment)
        elif (stream := self._calls.get(number)) is not None:
            if not increment:
                self._calls.break_off(stream, frames.PROTOCOL_ERROR)
            elif not self._outbox.widen_stream(stream, increment):
                self._calls.break_off(stream, frames.FLOW_CONTROL_ERROR)

    def _refuse_more(self) -> None:
        if not self._calls.refusing:
            self._calls.refusing = True
            self._outbox.write(frames.goaway(self._calls.last_number, frames.NO_ERROR))
            self._close_if_done()

    def _close_if_done(self) -> None:
        if self._calls.refusing and not len(self._calls):
            self._hang_up(b"")

    def _hang_up(self, farewell: bytes) -> None:
        """Says a last word, and closes when the peer does, or soon."""
        if self._hung_up:
            return
        self._hung_up = self._draining = self._calls.refusing = True
        self._calls.give_up_all()
        self._outbox.write(farewell)
        if self._transport.can_write_eof():
            self._transport.write_eof()
        self._after(_LINGER_SECONDS, self._transport.close)

    def _check_greeted(self) -> None:
        if not self._greeted:
            self._transport.close()

    def _watch_idleness(self, answered: int) -> None:
        """Drains when nothing was asked since the last look, when that many were answered."""
        if self._options.max_idle is None:
            return
        if self._calls.answered == answered and not len(self._calls):
            self.drain()
        else:
            self._after(self._options.max_idle, self._watch_idleness, self._calls.answered)

    def _after(self, seconds: float, action: Callable[..., None], *arguments: object) -> None:
        self._timers[action] = self._loop.call_later(seconds, action, *arguments)

"""One gRPC connection as a state: takes the peer's bytes, gives bytes to send and events.

It knows no socket, task, timer or clock; `protocol.py` has those. HTTP/2's rules: RFC 9113,
https://www.rfc-editor.org/rfc/rfc9113.
"""

from __future__ import annotations

import logging
from collections import deque
from collections.abc import Callable, Iterator, Mapping
from typing import ClassVar

from serving.embedded.admission.budget import Budget, Holding
from serving.embedded.grpc import frames
from serving.embedded.grpc.calls import Calls
from serving.embedded.grpc.events import Event
from serving.embedded.grpc.frames import ProtocolError, frame
from serving.embedded.grpc.messages import HARD_LIMIT, HeadReader
from serving.embedded.grpc.options import ConnectionOptions
from serving.embedded.grpc.stream import Method
from serving.errors import ResourceExhausted, ServingError

log = logging.getLogger(__name__)

# So many frames are taken at a time, and so many bytes of headers count as one more: other connections come in between.
_TURN_FRAMES = 16
_HEADER_BYTES_SHIFT = 10
# What a header block that goes on takes beside its bytes.
_BLOCK_BYTES = 64

# The window for all streams is opened again when so much of it is used.
_REFILL_BYTES = 2**30
_DRAIN_PING = b"drained?"
_HINT = b"This is the gRPC port: it speaks HTTP/2 only. REST is on the other one (--rest_api_port).\n"
_NOT_HTTP2 = (
    b"HTTP/1.1 505 HTTP Version Not Supported\r\ncontent-type: text/plain\r\n"
    b"content-length: %d\r\nconnection: close\r\n\r\n%s" % (len(_HINT), _HINT)
)


class Connection:
    """The server's side of an HTTP/2 connection that carries gRPC. peer: who asks, for logs and handlers.

    budget: of what waits for the peer to send or to read. wake: called when events, frames or the end have come about
    for another reason than one of these methods: others needed the bytes of a call.

    Call `receive_data` with what arrives, and `receive_more` while `has_more`, act on `events` (taken from the left),
    answer through `calls`, and send what `data_to_send` gives until it gives nothing: after each of these, and when the
    transport has room again. Once `closed`, call `calls.cancel_some` from time to time until no call is left.
    """

    def __init__(
        self,
        methods: Mapping[str, Method],
        options: ConnectionOptions,
        peer: Callable[[], str],
        budget: Budget,
        wake: Callable[[], None],
    ) -> None:
        self._options = options
        self._peer = peer
        self._budget = budget
        self._wake = wake
        self.events: deque[Event] = deque()
        self.calls = Calls(methods, options, self.events, peer, budget, wake)
        self._outbox = self.calls.outbox
        self._frames = frames.FrameReader(options.max_frame_bytes)
        self._heads = HeadReader(options.limits.max_header_bytes)
        # Whether the peer's preface is there; whether nothing more is taken, and the transport is to be closed once
        # `data_to_send` has given the last bytes.
        self.greeted = False
        self.closed = False
        self._preface = b""
        self._now = 0.0
        self._draining = False
        # The only frame that may come next; a header block that goes on: its flags, bytes and CONTINUATIONs.
        self._due: tuple[int, int] | None = (frames.SETTINGS, 0)
        self._block: tuple[int, bytes, int] | None = None
        self._unacknowledged = 0
        # What is there of a frame or a header block that is not whole, since when, and the number of such a frame.
        self._input = Holding(self._give_up)
        self._block_begin = self._frame_begin = 0.0
        self._beginning = 0
        self.is_partial = False
        # What has arrived and is not taken yet.
        self._incoming: Iterator[tuple[int, int, int, bytes]] = iter(())
        self._incoming_bytes = 0
        self.has_more = False

    def receive_data(self, data: bytes, now: float) -> None:
        """Takes bytes of the peer. now: seconds by any clock, to which deadlines refer."""
        if self.closed:
            return
        self._now = now
        try:
            if not self.greeted:
                data = self._greet(data)
        except ProtocolError as error:
            self._fail(error)
            return
        self._incoming, self._incoming_bytes = self._frames.feed(data), len(data)
        self.receive_more(now)

    def receive_more(self, now: float) -> None:
        """Takes more of what has arrived."""
        self._now = now
        try:
            self.has_more = not self.closed and self._take_frames()
        except ProtocolError as error:
            self._fail(error)
        if self.calls.unsettled:
            self.calls.settle()
        if self._frames.waiting_bytes or self._block or self.is_partial or self.has_more:
            self._hold_input()

    def partial_since(self) -> float | None:
        """When the frame or the header block began that is not whole, by the clock of `receive_data`."""
        if self._block is not None:
            return self._block_begin
        return self._frame_begin if self._frames.waiting_bytes else None

    def end(self, text: str) -> None:
        """Ends at once, with a GOAWAY: calls under way are cancelled."""
        if not self.closed:
            self._close(frames.goaway(self.calls.last_number, frames.NO_ERROR, text))

    def data_to_send(self) -> bytes:
        """The next bytes to send, some hundred KiB at most; empty when there are none, or no window is open."""
        data = self._outbox.take()
        if self.calls.refusing:
            self._close_if_done()
        return data

    def drain(self) -> None:
        """Begins the orderly end in two steps, so that no call on its way is lost (RFC 9113, section 6.8).

        `refuse_calls` is the second step: when the peer answers the PING, or when it took too long over it.
        """
        self._draining = True
        self._outbox.write(frames.goaway(frames.MAX_STREAM_ID, frames.NO_ERROR) + frame(frames.PING, 0, 0, _DRAIN_PING))

    def refuse_calls(self) -> None:
        """Takes no more calls; the connection ends when those under way are answered."""
        if not self.calls.refusing:
            self.calls.refusing = True
            self._outbox.write(frames.goaway(self.calls.last_number, frames.NO_ERROR))
            self._close_if_done()

    def lose(self) -> None:
        """The transport is gone: begins to cancel every call."""
        self.closed = True
        self.calls.cancel_some()
        self._budget.end(self._input)

    def let_go(self) -> None:
        """The transport is gone, and all calls are over: refers to nobody any more, so that no cycle is left."""
        self._peer, self._wake = str, _nobody
        self.calls.let_go(self._peer, self._wake)

    def _close_if_done(self) -> None:
        if not self.closed and not len(self.calls):
            self._close(b"")

    def _close(self, farewell: bytes) -> None:
        self.closed = self.calls.refusing = True
        self.has_more, self._incoming = False, iter(())
        self.calls.cancel_some()
        self._budget.release(self._input)
        self._outbox.write(farewell)

    def _hold_input(self) -> None:
        """Holds what is there of a frame or a header block that is not whole, or ends the connection."""
        if self._frames.beginnings != self._beginning:
            self._beginning = self._frames.beginnings
            self._frame_begin = self._now
        size = self._frames.waiting_bytes + (len(self._block[1]) + _BLOCK_BYTES if self._block else 0)
        if self.has_more:
            size += self._incoming_bytes
        self.is_partial = size > 0
        if self.closed or not size:
            self._budget.release(self._input)
            return
        try:
            self._budget.hold(self._input, size - self._input.size)
        except ResourceExhausted as error:
            self._end_calm(error)

    def _give_up(self, error: ServingError) -> None:
        """Others need the bytes of a frame or a header block whose peer is silent."""
        if not self.closed:
            self._end_calm(error)
            self._wake()

    def _end_calm(self, error: ServingError) -> None:
        self._close(frames.goaway(self.calls.last_number, frames.ENHANCE_YOUR_CALM, str(error)))

    def _greet(self, data: bytes) -> bytes:
        """Takes the preface (section 3.4), and answers with the server's; what follows it."""
        data = self._preface + data
        if not frames.PREFACE.startswith(data[: len(frames.PREFACE)]):
            self._close(_NOT_HTTP2)
            return b""
        if len(data) < len(frames.PREFACE):
            self._preface = data
            return b""
        self.greeted = True
        # No window is to hold up a message: messages are kept whole anyway, and their length is checked at its prefix.
        settings = {
            frames.MAX_CONCURRENT_STREAMS: self._options.limits.max_streams,
            frames.INITIAL_WINDOW_SIZE: frames.MAX_WINDOW,
            frames.MAX_FRAME_SIZE: self._options.max_frame_bytes,
            frames.MAX_HEADER_LIST_SIZE: self._options.limits.max_header_bytes,
        }
        self._outbox.write(frames.settings_frame(settings))
        self._outbox.write(frames.window_update(frames.MAX_WINDOW - frames.DEFAULT_WINDOW))
        return data[len(frames.PREFACE) :]

    def _fail(self, error: ProtocolError) -> None:
        log.info("gRPC connection of %s ended: %s", self._peer(), error)
        self._close(frames.goaway(self.calls.last_number, error.code, str(error)))

    def _take_frames(self) -> bool:
        """Takes as many frames as one turn may; whether there are more."""
        left = _TURN_FRAMES
        for kind, flags, number, payload in self._incoming:
            if self._due is not None and (kind, number) != self._due:
                raise ProtocolError(
                    frames.PROTOCOL_ERROR, f"a frame of type {kind} where SETTINGS or the rest of a header block is due"
                )
            # Frames of unknown types are extensions', to be ignored (section 5.5).
            take = self._TAKE.get(kind)
            if take is not None:
                take(self, number, flags, payload)
            if self.closed:
                return False
            left -= 1 if kind == frames.DATA else 1 + (len(payload) >> _HEADER_BYTES_SHIFT)
            if left <= 0:
                return True
        return False

    def _take_data(self, number: int, flags: int, payload: bytes) -> None:
        stream = self.calls.get(number)
        data = frames.unpadded(payload, flags) if flags & frames.PADDED else payload
        # Padding counts too, and so does what comes for a call that is over (section 6.9).
        self._unacknowledged += len(payload)
        if self._unacknowledged > _REFILL_BYTES:
            self._outbox.write(frames.window_update(self._unacknowledged))
            self._unacknowledged = 0
        if stream is not None:
            self.calls.take_data(stream, data, ends=bool(flags & frames.END_STREAM))

    def _take_headers(self, number: int, flags: int, payload: bytes) -> None:
        self._take_block(number, flags, frames.header_block(payload, flags), 0)

    def _take_continuation(self, number: int, flags: int, payload: bytes) -> None:
        if self._block is None:
            raise ProtocolError(frames.PROTOCOL_ERROR, "CONTINUATION of nothing")
        first_flags, begin, count = self._block
        self._block = self._due = None
        self._take_block(number, first_flags | flags & frames.END_HEADERS, begin + payload, count + 1)

    def _take_block(self, number: int, flags: int, block: bytes, continuations: int) -> None:
        options = self._options
        if len(block) > HARD_LIMIT * options.limits.max_header_bytes or continuations > options.max_continuations:
            raise ProtocolError(frames.ENHANCE_YOUR_CALM, "the request's headers are too long")
        if flags & frames.END_HEADERS:
            ends = bool(flags & frames.END_STREAM)
            self.calls.take_headers(number, self._heads.read(block), ends=ends, now=self._now)
        else:
            if not continuations:
                self._block_begin = self._now
            self._block = (flags, block, continuations)
            self._due = (frames.CONTINUATION, number)

    def _take_reset(self, number: int, _: int, payload: bytes) -> None:
        frames.check_size(payload, 4, "RST_STREAM")
        self.calls.take_reset(number)

    def _take_settings(self, number: int, flags: int, payload: bytes) -> None:
        frames.check_connection(number, "SETTINGS")
        if flags & frames.ACK:
            frames.check_size(payload, 0, "SETTINGS with ACK")
            return
        self._due = None
        self.calls.strike()
        settings = dict(frames.parse_settings(payload))
        # Before anything that follows the new settings (section 6.5.3).
        self._outbox.write(frame(frames.SETTINGS, frames.ACK, 0))
        if (size := settings.get(frames.HEADER_TABLE_SIZE)) is not None:
            self._outbox.set_table_bytes(size)
        if (size := settings.get(frames.MAX_FRAME_SIZE)) is not None:
            self._outbox.set_frame_bytes(size)
        if (size := settings.get(frames.INITIAL_WINDOW_SIZE)) is not None:
            self.calls.set_window(size)

    def _take_push_promise(self, number: int, _: int, __: bytes) -> None:
        raise ProtocolError(frames.PROTOCOL_ERROR, f"PUSH_PROMISE of stream {number}: clients push nothing")

    def _take_ping(self, number: int, flags: int, payload: bytes) -> None:
        frames.check_connection(number, "PING")
        frames.check_size(payload, len(_DRAIN_PING), "PING")
        if not flags & frames.ACK:
            self._outbox.write(frame(frames.PING, frames.ACK, 0, payload))
        elif self._draining and payload == _DRAIN_PING:
            self.refuse_calls()

    def _take_goaway(self, number: int, _: int, payload: bytes) -> None:
        """A peer that opens no more calls still wants its answers, and closes the connection itself."""
        frames.check_connection(number, "GOAWAY")
        frames.check_size(payload[:8], 8, "GOAWAY")

    def _take_window_update(self, number: int, _: int, payload: bytes) -> None:
        frames.check_size(payload, 4, "WINDOW_UPDATE")
        increment = int.from_bytes(payload, "big") & frames.MAX_WINDOW
        if not number:
            if not increment:
                raise ProtocolError(frames.PROTOCOL_ERROR, "WINDOW_UPDATE by 0")
            self._outbox.widen(increment)
        elif (stream := self.calls.get(number)) is not None:
            if not increment:
                self.calls.reset(stream, frames.PROTOCOL_ERROR)
            elif not self._outbox.widen_stream(stream, increment):
                self.calls.reset(stream, frames.FLOW_CONTROL_ERROR)

    _TAKE: ClassVar[Mapping[int, Callable[[Connection, int, int, bytes], None]]] = {
        frames.DATA: _take_data,
        frames.HEADERS: _take_headers,
        frames.PRIORITY: lambda _, number, __, payload: frames.check_priority(number, payload),
        frames.RST_STREAM: _take_reset,
        frames.SETTINGS: _take_settings,
        frames.PUSH_PROMISE: _take_push_promise,
        frames.PING: _take_ping,
        frames.GOAWAY: _take_goaway,
        frames.WINDOW_UPDATE: _take_window_update,
        frames.CONTINUATION: _take_continuation,
    }


def _nobody() -> None:
    """Whom a connection wakes whose transport is gone."""

"""HTTP/2's frames and header blocks, as far as a gRPC server needs them.

Frames: RFC 9113, https://www.rfc-editor.org/rfc/rfc9113. Header blocks: RFC 7541, https://www.rfc-editor.org/rfc/rfc7541.
"""

from __future__ import annotations

import struct
from collections.abc import Iterator

from fashion_common.errors import FashionError

PREFACE = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"
FRAME_HEAD_BYTES = 9
DEFAULT_WINDOW = 65535
DEFAULT_TABLE_BYTES = 4096
DEFAULT_FRAME_BYTES = 16384
MAX_WINDOW = 2**31 - 1
MAX_STREAM_ID = 2**31 - 1

# Frame types (section 6).
DATA, HEADERS, PRIORITY, RST_STREAM, SETTINGS, PUSH_PROMISE, PING, GOAWAY, WINDOW_UPDATE, CONTINUATION = range(10)
# Flags.
ACK = END_STREAM = 0x1
END_HEADERS = 0x4
PADDED = 0x8
HAS_PRIORITY = 0x20
# Settings (section 6.5.2).
HEADER_TABLE_SIZE, ENABLE_PUSH, MAX_CONCURRENT_STREAMS, INITIAL_WINDOW_SIZE, MAX_FRAME_SIZE, MAX_HEADER_LIST_SIZE = (
    range(1, 7)
)
# Error codes (section 7).
NO_ERROR = 0
PROTOCOL_ERROR = 1
FLOW_CONTROL_ERROR = 3
STREAM_CLOSED = 5
FRAME_SIZE_ERROR = 6
REFUSED_STREAM = 7
COMPRESSION_ERROR = 9
ENHANCE_YOUR_CALM = 11

_HEAD = struct.Struct(">IBI")
_SETTING = struct.Struct(">HI")
_PRIORITY_BYTES = 5
_LONGEST_SHORT_INTEGER = 126
# What a piece of a frame takes beside its bytes.
_PIECE_OVERHEAD = 64


class ProtocolError(FashionError):
    """What a peer did that ends its connection. code: the error code of the GOAWAY that tells it."""

    def __init__(self, code: int, message: str) -> None:
        super().__init__(message)
        self.code = code


class FrameReader:
    """Takes a connection's bytes as they come, and gives the frames in them. max_bytes: of a payload."""

    def __init__(self, max_bytes: int) -> None:
        self._max_bytes = max_bytes
        # The beginning of a frame, and how many bytes are missing until something can be done with it.
        self._beginning: list[bytes] = []
        self._missing = 0
        # The bytes that the beginning takes, and how many frames had one.
        self.waiting_bytes = 0
        self.beginnings = 0
        # The head of a frame that is given in pieces, and how much of it is still to come.
        self._head = (0, 0, 0)
        self._rest = 0

    def feed(self, data: bytes) -> Iterator[tuple[int, int, int, bytes]]:
        """Type, flags, stream and payload of each frame. Raises ProtocolError for one that is too long.

        DATA without padding, and frames of unknown types, come in pieces as they arrive; END_STREAM with the last.
        """
        if self._beginning:
            self._beginning.append(data)
            self._missing -= len(data)
            self.waiting_bytes += len(data) + _PIECE_OVERHEAD
            if self._missing > 0:
                return
            data = b"".join(self._beginning)
            self._beginning.clear()
            self.waiting_bytes = 0
        position, size = 0, len(data)
        while position < size:
            if self._rest:
                end = min(position + self._rest, size)
                self._rest -= end - position
                kind, flags, number = self._head
                yield kind, flags & ~END_STREAM if self._rest else flags, number, data[position:end]
                position = end
                continue
            if size - position < FRAME_HEAD_BYTES:
                self._keep(data[position:], FRAME_HEAD_BYTES)
                return
            length_and_kind, flags, number = _HEAD.unpack_from(data, position)
            length, kind, number = length_and_kind >> 8, length_and_kind & 0xFF, number & MAX_STREAM_ID
            if length > self._max_bytes:
                raise ProtocolError(FRAME_SIZE_ERROR, f"a frame of {length} bytes is longer than agreed")
            start = position + FRAME_HEAD_BYTES
            if size - start >= length:
                position = start + length
                yield kind, flags, number, data[start:position]
            elif kind > CONTINUATION or (kind == DATA and not flags & PADDED):
                self._head, self._rest = (kind, flags, number), length
                position = start
            else:
                self._keep(data[position:], FRAME_HEAD_BYTES + length)
                return

    def _keep(self, data: bytes, wanted: int) -> None:
        self._beginning.append(data)
        self._missing = wanted - len(data)
        self.waiting_bytes = len(data) + _PIECE_OVERHEAD
        self.beginnings += 1


def frame_head(length: int, kind: int, flags: int, stream_id: int) -> bytes:
    """The 9 bytes before a frame's payload of `length` bytes."""
    return _HEAD.pack(length << 8 | kind, flags, stream_id)


def frame(kind: int, flags: int, stream_id: int, payload: bytes = b"") -> bytes:
    """A whole frame."""
    return _HEAD.pack(len(payload) << 8 | kind, flags, stream_id) + payload


def settings_frame(settings: dict[int, int]) -> bytes:
    """A SETTINGS frame."""
    return frame(SETTINGS, 0, 0, b"".join(_SETTING.pack(*setting) for setting in settings.items()))


def rst_stream(number: int, code: int) -> bytes:
    """A RST_STREAM frame."""
    return frame(RST_STREAM, 0, number, code.to_bytes(4, "big"))


def goaway(last_number: int, code: int, text: str = "") -> bytes:
    """A GOAWAY frame. last_number: of the last stream that is, or will be, answered. text: for who debugs the peer."""
    payload = last_number.to_bytes(4, "big") + code.to_bytes(4, "big") + text.encode("utf-8", "replace")
    return frame(GOAWAY, 0, 0, payload)


def window_update(increment: int) -> bytes:
    """A WINDOW_UPDATE frame for the whole connection."""
    return frame(WINDOW_UPDATE, 0, 0, increment.to_bytes(4, "big"))


def parse_settings(payload: bytes) -> Iterator[tuple[int, int]]:
    """The settings of a SETTINGS frame, checked. Raises ProtocolError."""
    if len(payload) % _SETTING.size:
        raise ProtocolError(FRAME_SIZE_ERROR, f"SETTINGS of {len(payload)} bytes: expected a multiple of 6")
    for key, value in _SETTING.iter_unpack(payload):
        if key == ENABLE_PUSH and value > 1:
            raise ProtocolError(PROTOCOL_ERROR, f"SETTINGS_ENABLE_PUSH of {value}: expected 0 or 1")
        if key == INITIAL_WINDOW_SIZE and value > MAX_WINDOW:
            raise ProtocolError(FLOW_CONTROL_ERROR, f"SETTINGS_INITIAL_WINDOW_SIZE of {value}: at most 2^31-1")
        if key == MAX_FRAME_SIZE and not DEFAULT_FRAME_BYTES <= value < 2**24:
            raise ProtocolError(PROTOCOL_ERROR, f"SETTINGS_MAX_FRAME_SIZE of {value}: expected 2^14 to 2^24-1")
        yield key, value


def check_size(payload: bytes, size: int, what: str) -> None:
    """Raises ProtocolError for a frame whose payload has not the size that its type asks for."""
    if len(payload) != size:
        raise ProtocolError(FRAME_SIZE_ERROR, f"{what} of {len(payload)} bytes: expected {size}")


def check_connection(number: int, what: str) -> None:
    """Raises ProtocolError for a frame of the whole connection that names a stream."""
    if number:
        raise ProtocolError(PROTOCOL_ERROR, f"{what} on stream {number}: it concerns the connection")


def unpadded(payload: bytes, flags: int, fields: int = 0) -> bytes:
    """A DATA or HEADERS frame's payload without its padding and the bytes of its fields. Raises ProtocolError."""
    begin = fields + 1 if flags & PADDED else fields
    if len(payload) < begin:
        raise ProtocolError(FRAME_SIZE_ERROR, "a frame ends within its fields")
    padding = payload[0] if flags & PADDED else 0
    if padding > len(payload) - begin:
        raise ProtocolError(PROTOCOL_ERROR, "a frame's padding is longer than the frame")
    return payload[begin : len(payload) - padding]


def header_block(payload: bytes, flags: int) -> bytes:
    """The piece of a header block that a HEADERS frame carries. Raises ProtocolError."""
    if not flags & (PADDED | HAS_PRIORITY):
        return payload
    return unpadded(payload, flags, _PRIORITY_BYTES if flags & HAS_PRIORITY else 0)


def check_priority(number: int, payload: bytes) -> None:
    """Raises ProtocolError for a broken PRIORITY frame; what it asks for is of no meaning any more."""
    if not number:
        raise ProtocolError(PROTOCOL_ERROR, "PRIORITY of the whole connection")
    check_size(payload, _PRIORITY_BYTES, "PRIORITY")


def header(name: bytes, value: bytes) -> bytes:
    """A header field as a literal that no table remembers (RFC 7541, section 6.2.2): a block may be used again."""
    return b"\x00" + _string(name) + _string(value)


def _string(text: bytes) -> bytes:
    if len(text) <= _LONGEST_SHORT_INTEGER:
        return bytes((len(text),)) + text
    # RFC 7541, section 5.1: seven bits, then groups of seven, the lowest first.
    length, rest = bytearray((0x7F,)), len(text) - 0x7F
    while rest > 0x7F:  # noqa: PLR2004 - seven bits
        length.append(rest & 0x7F | 0x80)
        rest >>= 7
    length.append(rest)
    return bytes(length) + text

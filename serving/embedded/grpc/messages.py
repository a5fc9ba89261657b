"""gRPC over HTTP/2: requests' headers, length-prefixed messages, and statuses in trailers.

https://github.com/grpc/grpc/blob/master/doc/PROTOCOL-HTTP2.md
"""

from __future__ import annotations

import re
import struct
import zlib
from collections.abc import Iterator, Mapping, Sequence
from typing import NamedTuple
from urllib.parse import quote_from_bytes

import hpack

from serving.apis.status import Code
from serving.embedded.grpc import frames
from serving.errors import Internal, ResourceExhausted, ServingError

PREFIX_BYTES = 5
# Identical header blocks mean identical requests while the dynamic table stays as it is. A client has few of them, and
# to decode one takes three times as long as all else that a small request costs here.
MAX_KNOWN_BLOCKS = 64
MAX_KNOWN_BYTES = 4096
# What is too long is read to its end all the same, up to so many times the limit: the table must not be lost.
HARD_LIMIT = 4

# Whether a message is compressed, and its length.
_PREFIX = struct.Struct(">BI")
_LENGTH = re.compile(rb"[0-9]{1,18}")
_TIMEOUT = re.compile(rb"([0-9]{1,8})([HMSmun])")
_SECONDS = {b"H": 3600.0, b"M": 60.0, b"S": 1.0, b"m": 1e-3, b"u": 1e-6, b"n": 1e-9}
_ENCODINGS = {b"gzip": zlib.MAX_WBITS | 16, b"deflate": zlib.MAX_WBITS}
_ACCEPTED = frames.header(b"grpc-accept-encoding", b"identity, deflate, gzip")
# Index 8 of the static table: `:status: 200`.
RESPONSE_HEADERS = b"\x88" + frames.header(b"content-type", b"application/grpc") + _ACCEPTED
# RFC 9113, sections 8.2 and 8.3.
_PSEUDO = frozenset((b":method", b":scheme", b":path", b":authority"))
_REQUIRED = (b":method", b":scheme", b":path")
_OF_HTTP1 = frozenset((b"connection", b"keep-alive", b"proxy-connection", b"transfer-encoding", b"upgrade"))
_NAME = re.compile(rb":?[!-9;-@\[-~]+")
# Spaces around a value are left alone: gRPC lets them be.
_VALUE = re.compile(rb"[^\0\r\n]*")
_CONTENT_TYPE = re.compile(rb"application/grpc(?:[+;].*)?", re.IGNORECASE)
OK_TRAILERS = frames.header(b"grpc-status", b"0")
_PRINTABLE = "".join(map(chr, range(0x20, 0x7F))).replace("%", "")


class Head(NamedTuple):
    """The headers of a request, or its trailers.

    timeout: in seconds. encoding: of its compressed messages. metadata: all fields. http_status: what answers a request
    that is not gRPC, else 0. fault: what HTTP/2 forbids in it, else empty. is_request: False for trailers.
    """

    path: str
    timeout: float | None
    encoding: bytes
    metadata: Mapping[bytes, bytes]
    http_status: int
    content_length: int | None
    fault: str
    is_request: bool


class HeadReader:
    """Reads one connection's header blocks in the order in which they arrive.

    max_bytes: beyond it a request is refused; much beyond it, its connection ends.
    """

    def __init__(self, max_bytes: int) -> None:
        self._max_bytes = max_bytes
        self._decoder = hpack.Decoder(HARD_LIMIT * max_bytes)
        self._known: dict[bytes, Head] = {}

    def read(self, block: bytes) -> Head:
        """The request that a header block stands for. Raises ProtocolError when it cannot be decoded."""
        head = self._known.get(block)
        if head is not None:
            return head
        size, count, newest = self._table()
        try:
            head = _head(list(self._decoder.decode(block, raw=True)), self._max_bytes)
        except hpack.OversizedHeaderListError as error:
            raise frames.ProtocolError(frames.ENHANCE_YOUR_CALM, "the request's headers are too long") from error
        except hpack.HPACKError as error:
            raise frames.ProtocolError(frames.COMPRESSION_ERROR, f"a header block is broken: {error}") from error
        size_now, count_now, newest_now = self._table()
        if size_now != size or count_now != count or newest_now is not newest:
            self._known.clear()
        elif len(self._known) < MAX_KNOWN_BLOCKS and len(block) <= MAX_KNOWN_BYTES:
            self._known[block] = head
        return head

    def _table(self) -> tuple[int, int, object]:
        """What tells one state of the dynamic table from the next: its size, how many entries, the newest."""
        table = self._decoder.header_table
        entries = table.dynamic_entries
        return table.maxsize, len(entries), entries[0] if entries else None


def _head(headers: Sequence[tuple[bytes, bytes]], max_bytes: int) -> Head:
    fields = dict(headers)
    match = _TIMEOUT.fullmatch(fields.get(b"grpc-timeout", b""))
    timeout = int(match[1]) * _SECONDS[match[2]] if match else None
    http_status = 0
    # RFC 9113, section 6.5.2: 32 more for each.
    if sum(len(name) + len(value) + 32 for name, value in headers) > max_bytes:
        http_status = 431
    elif fields.get(b":method") != b"POST":
        http_status = 405
    elif not _CONTENT_TYPE.fullmatch(fields.get(b"content-type", b"")):
        http_status = 415
    elif b"grpc-timeout" in fields and match is None:
        http_status = 400
    path = fields.get(b":path", b"").decode("latin-1")
    length = fields.get(b"content-length", b"")
    return Head(
        path,
        timeout,
        fields.get(b"grpc-encoding", b"identity"),
        fields,
        http_status,
        int(length) if _LENGTH.fullmatch(length) else None,
        _fault(headers),
        any(name.startswith(b":") for name in fields),
    )


def _fault(headers: Sequence[tuple[bytes, bytes]]) -> str:
    """What makes a request malformed (RFC 9113, section 8.1.1), or nothing."""
    names = [name for name, _ in headers]
    pseudo = [name for name in names if name.startswith(b":")]
    if names[: len(pseudo)] != pseudo or len(set(pseudo)) < len(pseudo) or not _PSEUDO.issuperset(pseudo):
        return "pseudo-headers that are unknown, repeated or not the first"
    fields = dict(headers)
    if not all(fields.get(name) for name in _REQUIRED):
        return "no :method, :scheme or :path"
    if not all(_NAME.fullmatch(name) and _VALUE.fullmatch(value) for name, value in headers):
        return "a header with characters that it may not have"
    if not _OF_HTTP1.isdisjoint(names) or fields.get(b"te", b"trailers") != b"trailers":
        return "a header of HTTP/1.1's connections"
    if b"content-length" in fields and not _LENGTH.fullmatch(fields[b"content-length"]):
        return "a content-length that is no number"
    return ""


class MessageReader:
    """Takes a call's bytes as they come, and gives the messages in them. limit: bytes of one, decompressed or not."""

    __slots__ = ("_beginning", "_compressed", "_encoding", "_length", "_limit", "_size")

    def __init__(self, encoding: bytes, limit: int) -> None:
        self._encoding = encoding
        self._limit = limit
        # Bytes that are less than a prefix, or than the message of `_length` bytes whose prefix is taken off; -1: none.
        self._beginning: list[bytes] = []
        self._size = 0
        self._length = -1
        self._compressed = 0

    def feed(self, data: bytes) -> Iterator[bytes]:
        """The messages that are complete now. Raises ServingError for one that is too long or wrongly compressed."""
        if not data:
            return
        if self._beginning:
            self._beginning.append(data)
            self._size += len(data)
            if self._size < (PREFIX_BYTES if self._length < 0 else self._length):
                return
            data = b"".join(self._beginning)
            self._beginning.clear()
        position, size = 0, len(data)
        while True:
            if self._length < 0:
                if size - position < PREFIX_BYTES:
                    break
                self._begin(*_PREFIX.unpack_from(data, position))
                position += PREFIX_BYTES
            end = position + self._length
            if size < end:
                break
            message = data[position:end]
            position, self._length = end, -1
            yield self._decompressed(message) if self._compressed else message
        if position < size:
            self._beginning.append(data[position:])
            self._size = size - position

    @property
    def is_empty(self) -> bool:
        """Whether no message has begun."""
        return self._length < 0 and not self._beginning

    def _begin(self, compressed: int, length: int) -> None:
        """Takes what a prefix says."""
        if compressed > 1:
            raise Internal(f"a message is flagged {compressed}: expected 0, or 1 when it is compressed")
        if length > self._limit:
            raise ResourceExhausted(f"Received message larger than max ({length} vs. {self._limit})")
        self._compressed, self._length = compressed, length

    def _decompressed(self, message: bytes) -> bytes:
        if self._encoding == b"identity":
            raise Internal("a message is flagged as compressed, but the request names no grpc-encoding")
        if self._encoding not in _ENCODINGS:
            raise ServingError(
                f"grpc-encoding {self._encoding.decode('latin-1')} is not known here: send identity, deflate or gzip",
                Code.UNIMPLEMENTED,
            )
        unpacker = zlib.decompressobj(_ENCODINGS[self._encoding])
        try:
            result = unpacker.decompress(message, self._limit + 1)
        except zlib.error as error:
            raise Internal(f"a message cannot be decompressed: {error}") from error
        if len(result) > self._limit:
            raise ResourceExhausted(f"Received message larger than max (more than {self._limit} when unpacked)")
        if not unpacker.eof or unpacker.unused_data:
            raise Internal("a message cannot be decompressed: it ends too early, or goes on after its end")
        return result


def status_trailers(code: Code, message: str) -> bytes:
    """The header block of a status that is not OK. message: percent-encoded but for printable ASCII."""
    text = quote_from_bytes(message.encode("utf-8", "replace"), safe=_PRINTABLE).encode()
    return frames.header(b"grpc-status", str(int(code)).encode()) + frames.header(b"grpc-message", text)

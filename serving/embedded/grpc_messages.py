"""gRPC over HTTP/2: requests' headers, length-prefixed messages, and statuses in trailers.

https://github.com/grpc/grpc/blob/master/doc/PROTOCOL-HTTP2.md
"""

from __future__ import annotations

import re
import zlib
from collections.abc import Iterable, Iterator, Mapping
from typing import NamedTuple
from urllib.parse import quote_from_bytes

import hpack

from serving.embedded import http2
from serving.errors import Code, Internal, InvalidArgument, ResourceExhausted, ServingError

PREFIX_BYTES = 5
# Identical header blocks mean identical requests while the dynamic table stays as it is; a client has few of them.
MAX_KNOWN_BLOCKS = 64

_TIMEOUT = re.compile(rb"(\d{1,8})([HMSmun])")
_SECONDS = {b"H": 3600.0, b"M": 60.0, b"S": 1.0, b"m": 1e-3, b"u": 1e-6, b"n": 1e-9}
_ENCODINGS = {b"gzip": zlib.MAX_WBITS | 16, b"deflate": zlib.MAX_WBITS}
_ACCEPTED = http2.header(b"grpc-accept-encoding", b"identity, deflate, gzip")
# Index 8 of the static table: `:status: 200`.
RESPONSE_HEADERS = b"\x88" + http2.header(b"content-type", b"application/grpc") + _ACCEPTED
OK_TRAILERS = http2.header(b"grpc-status", b"0")
_PRINTABLE = "".join(map(chr, range(0x20, 0x7F))).replace("%", "")


class Head(NamedTuple):
    """A request's headers. timeout: in seconds. encoding: how its messages are packed. refusal: an HTTP status."""

    path: str
    timeout: float | None
    encoding: bytes
    metadata: Mapping[bytes, bytes]
    refusal: int = 0


class HeadReader:
    """Reads one connection's header blocks in the order in which they arrive."""

    def __init__(self, max_bytes: int) -> None:
        self._decoder = hpack.Decoder(max_bytes)
        self._known: dict[bytes, Head] = {}

    def read(self, block: bytes) -> Head:
        """The request that a header block stands for. Raises ProtocolError when it cannot be decoded."""
        head = self._known.get(block)
        if head is not None:
            return head
        size, count, newest = self._table()
        try:
            head = _head(self._decoder.decode(block, raw=True))
        except hpack.OversizedHeaderListError as error:
            raise http2.ProtocolError(http2.ENHANCE_YOUR_CALM, "the request's headers are too long") from error
        except hpack.HPACKError as error:
            raise http2.ProtocolError(http2.COMPRESSION_ERROR, f"a header block is broken: {error}") from error
        size_now, count_now, newest_now = self._table()
        if size_now != size or count_now != count or newest_now is not newest:
            self._known.clear()
        elif len(self._known) < MAX_KNOWN_BLOCKS:
            self._known[block] = head
        return head

    def _table(self) -> tuple[int, int, object]:
        """What tells one state of the dynamic table from the next: its size, how many entries, the newest."""
        table = self._decoder.header_table
        entries = table.dynamic_entries
        return table.maxsize, len(entries), entries[0] if entries else None


def _head(headers: Iterable[tuple[bytes, bytes]]) -> Head:
    fields = dict(headers)
    match = _TIMEOUT.fullmatch(fields.get(b"grpc-timeout", b""))
    timeout = int(match[1]) * _SECONDS[match[2]] if match else None
    refusal = 0
    if fields.get(b":method") != b"POST":
        refusal = 405
    elif not fields.get(b"content-type", b"").startswith(b"application/grpc"):
        refusal = 415
    elif b"grpc-timeout" in fields and match is None:
        refusal = 400
    path = fields.get(b":path", b"").decode("latin-1")
    return Head(path, timeout, fields.get(b"grpc-encoding", b"identity"), fields, refusal)


class MessageReader:
    """Takes a stream's bytes as they come and gives the messages in them. limit: the bytes of one, packed or not."""

    __slots__ = ("_encoding", "_limit", "_packed", "_parts", "_size", "_wanted")

    def __init__(self, encoding: bytes, limit: int) -> None:
        self._encoding = encoding
        self._limit = limit
        self._parts: list[bytes] = []
        self._size = 0
        self._wanted = -1
        self._packed = False

    def feed(self, data: bytes) -> Iterator[bytes]:
        """The messages that are complete now. Raises ServingError for one that is too long or cannot be unpacked."""
        self._parts.append(data)
        self._size += len(data)
        while True:
            if self._wanted < 0:
                if self._size < PREFIX_BYTES:
                    return
                self._begin()
            if self._size < self._wanted:
                return
            data = self._joined()
            message, rest = (data, b"") if self._size == self._wanted else (data[: self._wanted], data[self._wanted :])
            self._parts, self._size, self._wanted = [rest], len(rest), -1
            yield self._unpacked(message) if self._packed else message

    @property
    def is_empty(self) -> bool:
        """Whether no message has begun."""
        return self._wanted < 0 and not self._size

    def _begin(self) -> None:
        """Takes the prefix off: a byte that says whether the message is packed, and its length in four."""
        first = self._parts[0] if len(self._parts[0]) >= PREFIX_BYTES else self._joined()
        self._packed = first[0] != 0
        self._wanted = int.from_bytes(first[1:PREFIX_BYTES], "big")
        if self._wanted > self._limit:
            raise ResourceExhausted(f"Received message larger than max ({self._wanted} vs. {self._limit})")
        self._parts[0] = first[PREFIX_BYTES:]
        self._size -= PREFIX_BYTES

    def _joined(self) -> bytes:
        if len(self._parts) > 1:
            self._parts = [b"".join(self._parts)]
        return self._parts[0]

    def _unpacked(self, message: bytes) -> bytes:
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
            raise InvalidArgument(f"a message cannot be decompressed: {error}") from error
        if len(result) > self._limit:
            raise ResourceExhausted(f"Received message larger than max (more than {self._limit} when unpacked)")
        return result


def status_trailers(code: Code, message: str) -> bytes:
    """The header block of a status that is not OK. message: percent-encoded but for printable ASCII."""
    text = quote_from_bytes(message.encode("utf-8", "replace"), safe=_PRINTABLE).encode()
    return http2.header(b"grpc-status", str(int(code)).encode()) + http2.header(b"grpc-message", text)


def refusal(number: int, status: int) -> bytes:
    """The frame that answers what is not gRPC with an HTTP status."""
    block = http2.header(b":status", str(status).encode())
    return http2.frame(http2.HEADERS, http2.END_HEADERS | http2.END_STREAM, number, block)


def message_prefix(length: int) -> bytes:
    """The 5 bytes before a message that is not packed."""
    return length.to_bytes(PREFIX_BYTES, "big")

"""gRPC over HTTP/2: requests' headers, length-prefixed messages, and statuses in trailers.

https://github.com/grpc/grpc/blob/master/doc/PROTOCOL-HTTP2.md
"""

from __future__ import annotations

import base64
import re
import struct
import zlib
from collections import deque
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import NamedTuple, TypeAlias
from urllib.parse import quote_from_bytes

import hpack

from fashion_common import trace_context
from serving.apis.messages import RequestInfo, Status
from serving.apis.status import Code
from serving.embedded.grpc import frames
from serving.errors import Internal, ResourceExhausted, ServingError, quoted

PREFIX_BYTES = 5
# Identical header blocks mean identical requests while the dynamic table stays as it is. A client has few of them, and
# to decode one takes three times as long as all else that a small request costs here.
MAX_KNOWN_BLOCKS = 64
MAX_KNOWN_BYTES = 1024
# What is too long is read to its end all the same, up to so many times the limit: the table must not be lost.
HARD_LIMIT = 4
_REQUEST_INFO = "type.googleapis.com/google.rpc.RequestInfo"
_MAX_DETAILED_BYTES = 1024
# A status's message: what is longer is cut off.
_MAX_STATUS_TEXT = 4096

# What a piece of a message takes beside its bytes.
_PIECE_OVERHEAD = 64
# A message that came in pieces and is no longer than this is put together at once.
_SMALL_BYTES = 2**16
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
    that is not gRPC, else 0. fault: what HTTP/2 forbids in it, else empty. is_request: False for trailers. size: as RFC
    9113, section 6.5.2, counts it.
    """

    path: str
    timeout: float | None
    encoding: bytes
    metadata: Mapping[bytes, bytes]
    http_status: int
    content_length: int | None
    fault: str
    is_request: bool
    size: int


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
    if len(fields) < len(headers):
        # A list may come in several fields (RFC 9110, section 5.2); several traceparents are none.
        for key in trace_context.FIELDS:
            if key in fields:
                fields[key] = b",".join(value for name, value in headers if name == key)
    match = _TIMEOUT.fullmatch(fields.get(b"grpc-timeout", b""))
    timeout = int(match[1]) * _SECONDS[match[2]] if match else None
    http_status = 0
    # RFC 9113, section 6.5.2: 32 more for each.
    size = sum(len(name) + len(value) + 32 for name, value in headers)
    if size > max_bytes:
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
        size,
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


class Parcel:
    """A message that is whole, but in pieces, or compressed: putting it together is work for a thread.

    encoding: empty for a message that is not compressed. limit: bytes of what is unpacked. size: bytes of the pieces,
    which `unpack` and `joined` let go of.
    """

    __slots__ = ("_count", "_is_unpacked", "_limit", "_pieces", "_unpacked", "_unpacker", "size")

    def __init__(self, pieces: Iterable[bytes], size: int, encoding: bytes, limit: int) -> None:
        self._pieces = deque(pieces)
        self.size = size
        self._limit = limit
        self._count = 0
        self._unpacker = zlib.decompressobj(_ENCODINGS[encoding]) if encoding else None
        self._unpacked: deque[bytes] = deque()
        self._is_unpacked = not encoding

    @property
    def is_unpacked(self) -> bool:
        """Whether `joined` gives the message: `unpack` is to be called until it does."""
        return self._is_unpacked

    def unpack(self, room: int) -> int:
        """Unpacks up to so many bytes more; how many they were. Raises ServingError."""
        assert self._unpacker is not None
        count = 0
        while count < room:
            if not self._pieces or self._unpacker.eof:
                self._finish()
                break
            piece = self._pieces.popleft()
            try:
                unpacked = self._unpacker.decompress(piece, room - count)
            except zlib.error as error:
                raise Internal(f"a message cannot be decompressed: {error}") from error
            if self._unpacker.unconsumed_tail:
                self._pieces.appendleft(self._unpacker.unconsumed_tail)
            count += len(unpacked)
            self._unpacked.append(unpacked)
        self._count += count
        if self._count > self._limit:
            raise ResourceExhausted(f"Received message larger than max (more than {self._limit} when unpacked)")
        return count

    def joined(self) -> bytearray:
        """The message. Each piece is let go of as it is copied: a large message is not in memory twice."""
        data = bytearray()
        pieces = self._unpacked or self._pieces
        while pieces:
            data += pieces.popleft()
        return data

    def drop(self) -> None:
        """Lets go of all bytes."""
        self._pieces.clear()
        self._unpacked.clear()

    def _finish(self) -> None:
        assert self._unpacker is not None
        if not self._unpacker.eof or self._unpacker.unused_data or self._pieces:
            raise Internal("a message cannot be decompressed: it ends too early, or goes on after its end")
        self._is_unpacked = True


Message: TypeAlias = bytes | Parcel


def message_bytes(message: Message) -> int:
    """The bytes that a message takes until it is unpacked."""
    return len(message) if isinstance(message, bytes) else message.size


class MessageReader:
    """Takes a call's bytes as they come, and gives the messages in them. limit: bytes of one, decompressed or not."""

    __slots__ = ("_compressed", "_encoding", "_length", "_limit", "_pieces", "_prefix", "_size")

    def __init__(self, encoding: bytes, limit: int) -> None:
        self._encoding = encoding
        self._limit = limit
        # The beginning of a prefix; or pieces of the message of `_length` bytes whose prefix is taken off, -1: none.
        self._prefix = b""
        self._pieces: list[bytes] = []
        self._size = 0
        self._length = -1
        self._compressed = 0

    def feed(self, data: bytes) -> Iterator[Message]:
        """The messages that are complete now. Raises ServingError for one that is too long or wrongly compressed."""
        position, size = 0, len(data)
        while position < size:
            if self._length < 0:
                if size - position < PREFIX_BYTES or self._prefix:
                    position = self._read_prefix(data, position)
                    if self._length < 0:
                        return
                else:
                    self._compressed, self._length = _PREFIX.unpack_from(data, position)
                    position += PREFIX_BYTES
                    if self._compressed or self._length > self._limit:
                        self._check()
            end = position + self._length - self._size
            if size < end:
                if position < size:
                    self._pieces.append(data[position:])
                    self._size += size - position
                return
            message = data[position:end]
            yield self._whole(message) if self._pieces or self._compressed else message
            position, self._length = end, -1

    @property
    def is_empty(self) -> bool:
        """Whether no message has begun."""
        return self._length < 0 and not self._prefix

    @property
    def waiting_bytes(self) -> int:
        """What the message that is not whole yet takes."""
        return self._size + _PIECE_OVERHEAD * len(self._pieces)

    def drop(self) -> None:
        """Lets go of all bytes."""
        self._pieces, self._size = [], 0

    def _read_prefix(self, data: bytes, position: int) -> int:
        """Takes what a prefix says, once it is whole; where its message begins."""
        end = position + PREFIX_BYTES - len(self._prefix)
        self._prefix += data[position:end]
        if len(self._prefix) == PREFIX_BYTES:
            self._compressed, self._length = _PREFIX.unpack(self._prefix)
            self._prefix = b""
            self._check()
        return end

    def _check(self) -> None:
        """Raises ServingError for a prefix that says what cannot be."""
        compressed, length = self._compressed, self._length
        if compressed > 1:
            raise Internal(f"a message is flagged {compressed}: expected 0, or 1 when it is compressed")
        if length > self._limit:
            raise ResourceExhausted(f"Received message larger than max ({length} vs. {self._limit})")
        if compressed and self._encoding == b"identity":
            raise Internal("a message is flagged as compressed, but the request names no grpc-encoding")
        if compressed and self._encoding not in _ENCODINGS:
            encoding = quoted(self._encoding.decode("latin-1"))
            raise ServingError(
                f"grpc-encoding {encoding} is not known here: send identity, deflate or gzip",
                Code.UNIMPLEMENTED,
            )

    def _whole(self, last: bytes) -> Message:
        pieces = [*self._pieces, last]
        self.drop()
        if not self._compressed and self._length <= _SMALL_BYTES:
            return b"".join(pieces)
        return Parcel(pieces, self._length, self._encoding if self._compressed else b"", self._limit)


def error_details(code: Code, message: str, request_id: str, traceparent: str) -> bytes:
    """The header block of an error's details, by which its request is found in logs and traces.

    A google.rpc.Status with a RequestInfo, whose serving_data is the traceparent: https://google.aip.dev/193. Empty for
    a long message, which it would repeat: peers take no more than 8 KiB of headers.
    """
    text = message.encode("utf-8", "replace")
    if len(text) > _MAX_DETAILED_BYTES:
        return b""
    status = Status(code=int(code), message=text.decode())
    info = RequestInfo(request_id=request_id, serving_data=traceparent)
    status.details.add(type_url=_REQUEST_INFO, value=info.SerializeToString())
    return frames.header(b"grpc-status-details-bin", base64.b64encode(status.SerializeToString()).rstrip(b"="))


def status_trailers(code: Code, message: str) -> bytes:
    """The header block of a status that is not OK. message: percent-encoded but for printable ASCII."""
    if len(message) > _MAX_STATUS_TEXT:
        message = message[:_MAX_STATUS_TEXT] + "..."
    text = quote_from_bytes(message.encode("utf-8", "replace"), safe=_PRINTABLE).encode()
    return frames.header(b"grpc-status", str(int(code)).encode()) + frames.header(b"grpc-message", text)

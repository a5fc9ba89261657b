"""Header blocks and messages as they are read; statuses as they are written."""

from __future__ import annotations

import base64
import gzip
import random
import zlib
from collections.abc import Iterable

import hpack
import pytest

from serving.apis.messages import RequestInfo, Status
from serving.apis.status import Code
from serving.embedded.grpc.frames import ProtocolError
from serving.embedded.grpc.messages import (
    Head,
    HeadReader,
    MessageReader,
    Parcel,
    error_details,
    message_bytes,
    status_trailers,
)
from serving.errors import Internal, ResourceExhausted, ServingError
from tests.support.http2_peer import message, request

NOISE = random.Random(0).randbytes(100_000)


def block(encoder: hpack.Encoder, text: str) -> bytes:
    """Headers that leave nothing in the table."""
    return bytes(encoder.encode([hpack.NeverIndexedHeaderTuple("x", text)], huffman=False))


@pytest.fixture
def encoder() -> hpack.Encoder:
    """What a client has."""
    return hpack.Encoder()


def test_64_blocks_are_kept(encoder: hpack.Encoder) -> None:
    """What is one too many is read anew each time."""
    reader = HeadReader(10_000)
    blocks = [block(encoder, str(number)) for number in range(65)]
    heads = [reader.read(sent) for sent in blocks]
    again = [reader.read(sent) for sent in blocks]
    assert [one is other for one, other in zip(heads, again, strict=True)] == [True] * 64 + [False]


def test_blocks_of_a_kibibyte_are_kept(encoder: hpack.Encoder) -> None:
    """A byte more is too much."""
    reader = HeadReader(10_000)
    around = len(block(encoder, "x" * 1000)) - 1000
    for size, is_kept in ((1024, True), (1025, False)):
        sent = block(encoder, "x" * (size - around))
        assert len(sent) == size
        assert (reader.read(sent) is reader.read(sent)) is is_kept


def test_what_changes_the_table_is_read_anew(encoder: hpack.Encoder) -> None:
    """The same bytes may then stand for other headers."""
    reader = HeadReader(10_000)
    reader.read(bytes(encoder.encode([("x", "first")])))
    newest = bytes(encoder.encode([("x", "first")]))
    assert reader.read(newest).metadata == {b"x": b"first"}
    reader.read(bytes(encoder.encode([("x", "second")])))
    assert reader.read(newest).metadata == {b"x": b"second"}


def test_a_trace_that_comes_in_several_fields(encoder: hpack.Encoder) -> None:
    """A tracestate is one list; several traceparents are none. Of other fields the last counts."""
    fields = [("traceparent", "1"), ("tracestate", "a=1"), ("x", "1"), ("tracestate", "b=2"), ("x", "2")]
    metadata = HeadReader(10_000).read(bytes(encoder.encode(fields))).metadata
    assert metadata == {b"traceparent": b"1", b"tracestate": b"a=1,b=2", b"x": b"2"}
    twice = HeadReader(10_000).read(bytes(hpack.Encoder().encode(fields[:1] * 2))).metadata
    assert twice == {b"traceparent": b"1,1"}


def head(fields: Iterable[tuple[str, str]], max_bytes: int = 10_000) -> Head:
    """What headers stand for."""
    return HeadReader(max_bytes).read(bytes(hpack.Encoder().encode(list(fields))))


def test_the_headers_of_a_request() -> None:
    """All that is told by them."""
    fields = request("/t/Echo", grpc_timeout="1500m", grpc_encoding="gzip", content_length="7", x="\xe4")
    assert head(fields) == Head(
        "/t/Echo",
        1.5,
        b"gzip",
        {name.encode(): value.encode() for name, value in fields},
        0,
        7,
        "",
        True,
        sum(len(name) + len(value.encode()) + 32 for name, value in fields),
    )
    assert head([("checksum", "1")])[1:] == (
        None,
        b"identity",
        {b"checksum": b"1"},
        405,
        None,
        "no :method, :scheme or :path",
        False,
        len("checksum1") + 32,
    )


@pytest.mark.parametrize(
    ("text", "seconds"),
    [
        ("2H", 7200.0),
        ("3M", 180.0),
        ("4S", 4.0),
        ("5m", 0.005),
        ("6u", 0.000006),
        ("7n", 0.000000007),
        ("12345678S", 12345678.0),
        ("0S", 0.0),
    ],
)
def test_timeouts_in_every_unit(text: str, seconds: float) -> None:
    """In seconds."""
    timeout = head(request(grpc_timeout=text)).timeout
    assert timeout == pytest.approx(seconds, rel=1e-9)


@pytest.mark.parametrize(
    ("changed", "fault"),
    [
        ({"_status": "200"}, "pseudo-headers that are unknown, repeated or not the first"),
        ({"_path": None}, "no :method, :scheme or :path"),
        ({"_scheme": ""}, "no :method, :scheme or :path"),
        ({"Upper": "x"}, "a header with characters that it may not have"),
        ({"name": "a\0"}, "a header with characters that it may not have"),
        ({"name": "a\r"}, "a header with characters that it may not have"),
        ({"upgrade": "h2c"}, "a header of HTTP/1.1's connections"),
        ({"proxy_connection": "x"}, "a header of HTTP/1.1's connections"),
        ({"keep_alive": "x"}, "a header of HTTP/1.1's connections"),
        ({"te": "gzip"}, "a header of HTTP/1.1's connections"),
        ({"content_length": "1" * 19}, "a content-length that is no number"),
        ({"content_length": "-1"}, "a content-length that is no number"),
        ({"content_length": ""}, "a content-length that is no number"),
        ({"content_length": "1" * 18}, ""),
        ({"te": None}, ""),
        ({"name": " spaced\t "}, ""),
        ({"!#$%&'*+-.^`|~09az": "x"}, ""),
    ],
)
def test_what_makes_headers_malformed(changed: dict[str, str | None], fault: str) -> None:
    """And what does not."""
    assert head(request(**changed)).fault == fault


def test_headers_beyond_the_limit_are_read_and_far_beyond_it_are_not() -> None:
    """Four times as much."""
    fields = request()
    size = sum(len(name) + len(value) + 32 for name, value in fields)
    assert head(fields, size).http_status == 0
    assert head(fields, size - 1).http_status == 431
    large = [*fields, ("large", "x" * (4 * size - size - 37))]
    assert head(large, size).size == 4 * size
    with pytest.raises(ProtocolError) as raised:
        head([*fields, ("large", "x" * (4 * size - size - 36))], size)
    assert (raised.value.code, str(raised.value)) == (11, "the request's headers are too long")


def test_a_header_block_that_is_broken_says_how() -> None:
    """As a COMPRESSION_ERROR."""
    with pytest.raises(ProtocolError, match="a header block is broken: ") as raised:
        HeadReader(1000).read(b"\x80")
    assert raised.value.code == 9


def read(reader: MessageReader, *pieces: bytes) -> list[bytes]:
    """The messages in pieces, unpacked."""
    messages = [each for piece in pieces for each in reader.feed(piece)]
    for each in messages:
        if isinstance(each, Parcel):
            while not each.is_unpacked:
                each.unpack(1000)
    return [bytes(each.joined()) if isinstance(each, Parcel) else each for each in messages]


def test_what_a_message_takes_until_it_is_whole() -> None:
    """Its bytes and 64 for each piece; nothing for its prefix, nor once it is whole."""
    reader = MessageReader(b"identity", 100)
    assert (reader.is_empty, reader.waiting_bytes) == (True, 0)
    for piece, is_empty, size in (
        (b"\0\0", False, 0),
        (b"\0\0\x0a", False, 0),
        (b"", False, 0),
        (b"abc", False, 3 + 64),
        (b"defghi", False, 9 + 2 * 64),
    ):
        assert list(reader.feed(piece)) == []
        assert (reader.is_empty, reader.waiting_bytes) == (is_empty, size)
    assert list(reader.feed(b"j" + message(b"k") + b"\0")) == [b"abcdefghij", b"k"]
    assert (reader.is_empty, reader.waiting_bytes) == (False, 0)


def test_empty_messages_are_messages() -> None:
    """At the end of what has come, and between others."""
    reader = MessageReader(b"identity", 100)
    assert read(reader, message(b"")) == [b""]
    assert read(reader, message(b"")[:3], message(b"")[3:]) == [b""]
    assert read(reader, message(b"") * 2 + message(b"a") + message(b"")) == [b"", b"", b"a", b""]


@pytest.mark.parametrize("encoding", [b"identity", b"gzip", b"deflate"])
def test_messages_in_pieces_of_every_size(encoding: bytes) -> None:
    """The same comes out."""
    data = b"".join(message(NOISE[:size]) for size in (0, 1, 5, 300))
    for size in range(1, 12):
        pieces = [data[start : start + size] for start in range(0, len(data), size)]
        assert read(MessageReader(encoding, 300), *pieces) == [NOISE[:0], NOISE[:1], NOISE[:5], NOISE[:300]]


@pytest.mark.parametrize(
    ("encoding", "prefix", "kind", "code", "text"),
    [
        (b"gzip", (2, 5), Internal, Code.INTERNAL, "a message is flagged 2: expected 0, or 1 when it is compressed"),
        (
            b"gzip", (0, 101), ResourceExhausted, Code.RESOURCE_EXHAUSTED,
            "Received message larger than max (101 vs. 100)",
        ),
        (
            b"identity", (1, 5), Internal, Code.INTERNAL,
            "a message is flagged as compressed, but the request names no grpc-encoding",
        ),
        (
            b"snappy", (1, 5), ServingError, Code.UNIMPLEMENTED,
            "grpc-encoding snappy is not known here: send identity, deflate or gzip",
        ),
    ],
)  # fmt: skip
def test_prefixes_that_say_what_cannot_be(
    encoding: bytes, prefix: tuple[int, int], kind: type[ServingError], code: Code, text: str
) -> None:
    """Whether they come whole or in pieces, and at once."""
    flag, length = prefix
    data = bytes((flag,)) + length.to_bytes(4, "big")
    for pieces in ([data], [data[:2], data[2:]]):
        with pytest.raises(kind) as raised:
            read(MessageReader(encoding, 100), *pieces)
        assert (raised.value.code, str(raised.value)) == (code, text)


@pytest.mark.parametrize(("size", "is_parcel"), [(2**16, False), (2**16 + 1, True)])
def test_a_large_message_in_pieces_is_left_in_them(size: int, is_parcel: bool) -> None:
    """A small one is put together at once; either is as large as it was sent."""
    whole = message(NOISE[:size])
    reader = MessageReader(b"identity", 100_000)
    assert list(reader.feed(whole[:1000])) == []
    (found,) = reader.feed(whole[1000:])
    assert isinstance(found, Parcel) is is_parcel
    assert message_bytes(found) == size
    if isinstance(found, Parcel):
        assert found.is_unpacked
        assert found.joined() == NOISE[:size]
        assert found.joined() == b""


def test_a_packed_message_is_unpacked_bit_by_bit_up_to_its_limit() -> None:
    """No more at a time than is asked for; the last byte of the limit fits."""
    data = gzip.compress(bytes(1000))
    parcel = Parcel([data[:10], data[10:]], len(data), b"gzip", 1000)
    assert (parcel.size, parcel.is_unpacked) == (len(data), False)
    assert [parcel.unpack(400), parcel.unpack(400), parcel.unpack(400)] == [400, 400, 200]
    while not parcel.is_unpacked:
        assert parcel.unpack(400) == 0
    assert parcel.joined() == bytes(1000)
    parcel = Parcel([data], len(data), b"gzip", 999)
    assert parcel.unpack(999) == 999
    with pytest.raises(ResourceExhausted) as raised:
        parcel.unpack(999)
    assert str(raised.value) == "Received message larger than max (more than 999 when unpacked)"


@pytest.mark.parametrize(
    ("pieces", "text"),
    [
        ([gzip.compress(b"abc")[:-1]], "it ends too early, or goes on after its end"),
        ([gzip.compress(b"abc") + b"d"], "it ends too early, or goes on after its end"),
        ([gzip.compress(b"abc"), b"d"], "it ends too early, or goes on after its end"),
        ([], "it ends too early, or goes on after its end"),
        ([zlib.compress(b"abc")], "Error -3 while decompressing data: incorrect header check"),
    ],
)
def test_what_is_packed_wrongly_says_how(pieces: list[bytes], text: str) -> None:
    """As an internal error, which gRPC has for it."""
    parcel = Parcel(pieces, sum(map(len, pieces)), b"gzip", 1000)
    with pytest.raises(Internal) as raised:
        parcel.unpack(100)
    assert str(raised.value) == f"a message cannot be decompressed: {text}"


def test_a_parcel_that_is_dropped_has_nothing() -> None:
    """Of what came, nor of what was unpacked."""
    data = gzip.compress(NOISE[:1000])
    parcel = Parcel([data[:500], data[500:]], len(data), b"gzip", 1000)
    parcel.unpack(100)
    parcel.drop()
    assert parcel.joined() == b""


def fields_of(block: bytes) -> list[tuple[str, str]]:
    """The fields of a header block."""
    return [(str(name), str(value)) for name, value in hpack.Decoder(max_header_list_size=2**20).decode(block)]


def test_a_status_and_its_text() -> None:
    """All but printable ASCII, and the percent sign, is escaped."""
    assert fields_of(status_trailers(Code.NOT_FOUND, "50% \x1f ~\x7f\u20ac\udc80")) == [
        ("grpc-status", "5"),
        ("grpc-message", "50%25 %1F ~%7F%E2%82%AC?"),
    ]


def test_the_details_of_an_error_name_its_request_and_its_trace() -> None:
    """A google.rpc.Status with a RequestInfo, without base64's padding; for a text of a kibibyte at most."""
    text = "x" * 1022 + "\u00e4"
    ((name, value),) = fields_of(error_details(Code.NOT_FOUND, text, "mine", "00-a-b-01"))
    assert name == "grpc-status-details-bin"
    assert not value.endswith("=")
    status = Status.FromString(base64.b64decode(value + "=" * (-len(value) % 4)))
    (detail,) = status.details
    assert (status.code, status.message) == (5, text)
    assert detail.type_url == "type.googleapis.com/google.rpc.RequestInfo"
    assert RequestInfo.FromString(detail.value) == RequestInfo(request_id="mine", serving_data="00-a-b-01")
    assert error_details(Code.NOT_FOUND, f"{text}x", "mine", "00-a-b-01") == b""

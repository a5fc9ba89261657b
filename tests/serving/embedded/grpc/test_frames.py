"""HTTP/2's frames on the gRPC port: what RFC 9113 lets pass, and with which error the rest ends."""

from __future__ import annotations

import hpack
import pytest
from h2.errors import ErrorCodes

from serving.embedded.grpc import frames
from tests.support.http2_peer import (
    ACK,
    CONTINUATION,
    DATA,
    END_HEADERS,
    END_STREAM,
    GOAWAY,
    HEADERS,
    PADDED,
    PING,
    PREFACE,
    PRIORITY,
    PUSH_PROMISE,
    RST_STREAM,
    SETTINGS,
    WINDOW_UPDATE,
    WITH_PRIORITY,
    Frame,
    Peer,
    begin,
    block,
    call,
    frame,
    message,
    request,
    reset,
    settings,
    window_update,
)
from tests.support.http2_server import Memory

OPEN = begin(1)
ENDED = call(1, b"", "/t/Wait")
SIZE = ErrorCodes.FRAME_SIZE_ERROR
PROTOCOL = ErrorCodes.PROTOCOL_ERROR
FLOW = ErrorCodes.FLOW_CONTROL_ERROR
CLOSED = ErrorCodes.STREAM_CLOSED
COMPRESSION = ErrorCodes.COMPRESSION_ERROR
CALM = ErrorCodes.ENHANCE_YOUR_CALM


@pytest.fixture
def peer() -> Peer:
    """A peer that has greeted."""
    return Peer(Memory())


@pytest.mark.parametrize(
    ("sent", "code"),
    [
        pytest.param(frame(DATA, 0, 0, b"x"), PROTOCOL, id="DATA of the connection"),
        pytest.param(frame(DATA, 0, 1, b"x"), PROTOCOL, id="DATA of an idle stream"),
        pytest.param(frame(DATA, 0, 2, b"x"), PROTOCOL, id="DATA of a stream of the server's"),
        pytest.param(OPEN + frame(DATA, PADDED, 1), SIZE, id="DATA without its padding's length"),
        pytest.param(OPEN + frame(DATA, PADDED, 1, b"\x04abc"), PROTOCOL, id="DATA with too much padding"),
        pytest.param((2**20 + 1 << 8 | DATA).to_bytes(4, "big") + bytes(5), SIZE, id="DATA longer than agreed"),
        pytest.param((2**20 + 1 << 8 | 77).to_bytes(4, "big") + bytes(5), SIZE, id="unknown frame longer than agreed"),
        pytest.param(frame(HEADERS, END_HEADERS, 0, block(request())), PROTOCOL, id="HEADERS of the connection"),
        pytest.param(frame(HEADERS, END_HEADERS, 2, block(request())), PROTOCOL, id="HEADERS of an even stream"),
        pytest.param(frame(HEADERS, END_HEADERS | PADDED, 1), SIZE, id="HEADERS without its padding's length"),
        pytest.param(frame(HEADERS, END_HEADERS | WITH_PRIORITY, 1, b"1234"), SIZE, id="HEADERS ends within priority"),
        pytest.param(
            frame(HEADERS, END_HEADERS | WITH_PRIORITY | PADDED, 1, b"\x03" + bytes(7)),
            PROTOCOL,
            id="HEADERS with padding over its priority",
        ),
        pytest.param(frame(HEADERS, END_HEADERS, 1, b"\xff\xff\xff"), COMPRESSION, id="header block that is cut"),
        pytest.param(frame(HEADERS, END_HEADERS, 1, b"\x80"), COMPRESSION, id="header of index 0"),
        pytest.param(frame(HEADERS, END_HEADERS, 1, b"\xfe"), COMPRESSION, id="header of no index"),
        pytest.param(frame(HEADERS, END_HEADERS, 1, b"\x3f\xe2\x1f"), COMPRESSION, id="table larger than agreed"),
        pytest.param(frame(HEADERS, END_HEADERS, 1, b"\x82\x20"), COMPRESSION, id="table resized within a block"),
        pytest.param(frame(HEADERS, 0, 1, b"\x82") + frame(PING, 0, 0, bytes(8)), PROTOCOL, id="block interrupted"),
        pytest.param(frame(HEADERS, 0, 1, b"\x82") + frame(77, 0, 0), PROTOCOL, id="block interrupted by unknown"),
        pytest.param(
            frame(HEADERS, 0, 1, b"\x82") + frame(CONTINUATION, END_HEADERS, 3), PROTOCOL, id="block of two streams"
        ),
        pytest.param(frame(CONTINUATION, END_HEADERS, 1, b"\x82"), PROTOCOL, id="CONTINUATION of nothing"),
        pytest.param(OPEN + frame(CONTINUATION, END_HEADERS, 1), PROTOCOL, id="CONTINUATION of a whole block"),
        pytest.param(frame(PRIORITY, 0, 0, bytes(5)), PROTOCOL, id="PRIORITY of the connection"),
        pytest.param(frame(PRIORITY, 0, 1, bytes(4)), SIZE, id="PRIORITY of 4 bytes"),
        pytest.param(frame(RST_STREAM, 0, 0, bytes(4)), PROTOCOL, id="RST_STREAM of the connection"),
        pytest.param(frame(RST_STREAM, 0, 1, bytes(4)), PROTOCOL, id="RST_STREAM of an idle stream"),
        pytest.param(OPEN + frame(RST_STREAM, 0, 1, bytes(5)), SIZE, id="RST_STREAM of 5 bytes"),
        pytest.param(frame(SETTINGS, 0, 1), PROTOCOL, id="SETTINGS of a stream"),
        pytest.param(frame(SETTINGS, 0, 0, bytes(5)), SIZE, id="SETTINGS of 5 bytes"),
        pytest.param(frame(SETTINGS, ACK, 0, bytes(6)), SIZE, id="SETTINGS' ACK with settings"),
        pytest.param(settings((2, 2)), PROTOCOL, id="ENABLE_PUSH of 2"),
        pytest.param(settings((4, 2**31)), FLOW, id="INITIAL_WINDOW_SIZE of 2^31"),
        pytest.param(settings((5, 2**14 - 1)), PROTOCOL, id="MAX_FRAME_SIZE below 2^14"),
        pytest.param(settings((5, 2**24)), PROTOCOL, id="MAX_FRAME_SIZE of 2^24"),
        pytest.param(frame(PUSH_PROMISE, END_HEADERS, 1, bytes(4)), PROTOCOL, id="PUSH_PROMISE"),
        pytest.param(frame(PING, 0, 0, bytes(7)), SIZE, id="PING of 7 bytes"),
        pytest.param(frame(PING, 0, 1, bytes(8)), PROTOCOL, id="PING of a stream"),
        pytest.param(frame(GOAWAY, 0, 0, bytes(7)), SIZE, id="GOAWAY of 7 bytes"),
        pytest.param(frame(GOAWAY, 0, 1, bytes(8)), PROTOCOL, id="GOAWAY of a stream"),
        pytest.param(frame(WINDOW_UPDATE, 0, 0, bytes(3)), SIZE, id="WINDOW_UPDATE of 3 bytes"),
        pytest.param(window_update(0, 0), PROTOCOL, id="WINDOW_UPDATE of the connection by 0"),
        pytest.param(window_update(1, 1), PROTOCOL, id="WINDOW_UPDATE of an idle stream"),
        pytest.param(window_update(0, 2**31 - 1), FLOW, id="connection's window beyond 2^31-1"),
        pytest.param(
            OPEN + window_update(1, 2**31 - 1 - 65535) + settings((4, 65536)), FLOW, id="stream widened by SETTINGS"
        ),
        pytest.param(call(3) + OPEN, CLOSED, id="HEADERS of a stream that was passed over"),
    ],
)
def test_a_broken_rule_ends_the_connection_with_its_code(peer: Peer, sent: bytes, code: ErrorCodes) -> None:
    """A GOAWAY with RFC 9113's error code, and then the end."""
    peer.send(sent)

    assert ErrorCodes(peer.goaway().code) == code


def test_a_closed_stream_cannot_be_opened_again(peer: Peer) -> None:
    """STREAM_CLOSED for the connection."""
    peer.send(call(1))
    assert peer.answer(1).status == 0

    peer.send(OPEN)

    assert ErrorCodes(peer.goaway().code) == CLOSED


@pytest.mark.parametrize(
    ("sent", "code"),
    [
        pytest.param(ENDED + frame(DATA, 0, 1, b"x"), CLOSED, id="DATA after the end"),
        pytest.param(ENDED + frame(HEADERS, 5, 1, block([("a", "b")])), CLOSED, id="trailers after the end"),
        pytest.param(ENDED + window_update(1, 0), PROTOCOL, id="WINDOW_UPDATE by 0"),
        pytest.param(ENDED + window_update(1, 2**31 - 1), FLOW, id="window beyond 2^31-1"),
        pytest.param(ENDED + settings((4, 2**31 - 1)) + window_update(1, 1), FLOW, id="window beyond, with SETTINGS"),
        pytest.param(OPEN + frame(HEADERS, END_HEADERS, 1, block([("a", "b")])), PROTOCOL, id="trailers without end"),
        pytest.param(OPEN + frame(HEADERS, 5, 1, block([(":path", "b")])), PROTOCOL, id="pseudo-header in trailers"),
    ],
)
def test_a_broken_rule_of_a_stream_ends_that_stream(peer: Peer, sent: bytes, code: ErrorCodes) -> None:
    """RST_STREAM with the code; the next call is answered."""
    peer.send(sent)

    assert ErrorCodes(peer.until(RST_STREAM, 1).code) == code
    peer.send(call(3, b"next"))
    assert peer.answer(3).data == message(b"next")


@pytest.mark.parametrize(
    "changed",
    [
        {"_method": None},
        {"_scheme": None},
        {"_path": None},
        {"_path": ""},
        {"_status": "200"},
        {"_unknown": "x"},
        {"Upper": "x"},
        {"sp ace": "x"},
        {"": "x"},
        {"name": "line\nfeed"},
        {"connection": "close"},
        {"transfer_encoding": "chunked"},
        {"te": "gzip"},
        {"content_length": "x"},
    ],
    ids=str,
)
def test_a_malformed_request_is_refused_alone(peer: Peer, changed: dict[str, str | None]) -> None:
    """RST_STREAM with PROTOCOL_ERROR; the next call is answered."""
    peer.send(frame(HEADERS, 5, 1, block(request(**changed))))

    assert ErrorCodes(peer.until(RST_STREAM, 1).code) == PROTOCOL
    peer.send(call(3, b"next"))
    assert peer.answer(3).data == message(b"next")


@pytest.mark.parametrize(
    "headers", [[*request(), (":authority", "x")], [*request(), (":path", "/t/Wait")]], ids=["late", "twice"]
)
def test_pseudo_headers_come_once_and_first(peer: Peer, headers: list[tuple[str, str]]) -> None:
    """RST_STREAM with PROTOCOL_ERROR."""
    peer.send(frame(HEADERS, 5, 1, block(headers)))

    assert ErrorCodes(peer.until(RST_STREAM, 1).code) == PROTOCOL


@pytest.mark.parametrize("length", [4, 6])
def test_the_data_has_the_length_that_the_headers_promise(peer: Peer, length: int) -> None:
    """RST_STREAM with PROTOCOL_ERROR for another one; the right one is answered."""
    peer.send(call(1, content_length=str(length)), call(3, content_length="5"))

    assert ErrorCodes(peer.until(RST_STREAM, 1).code) == PROTOCOL
    assert peer.answer(3).status == 0


@pytest.mark.parametrize(
    "between",
    [
        pytest.param(frame(77, 255, 12345, bytes(70_000)), id="unknown frame"),
        pytest.param(frame(PRIORITY, 0, 1, bytes(5)) + frame(PRIORITY, 0, 8, bytes(5)), id="PRIORITY"),
        pytest.param(frame(DATA, PADDED, 1, b"\x03...") + frame(DATA, 0, 1), id="DATA without data"),
        pytest.param(frame(PING, ACK, 0, bytes(8)), id="ACK of no PING"),
        pytest.param(frame(SETTINGS, ACK), id="ACK of SETTINGS"),
        pytest.param(settings((99, 99), (3, 0), (6, 1)), id="settings that are unknown, or not for us"),
        pytest.param(frame(GOAWAY, 0, 0, bytes(100)), id="GOAWAY"),
        pytest.param(frame(WINDOW_UPDATE, 0, 1, b"\x80\0\0\1"), id="reserved bit"),
    ],
)
def test_what_is_allowed_between_the_frames_of_a_call_does_not_disturb_it(peer: Peer, between: bytes) -> None:
    """The call is answered."""
    peer.send(OPEN, between, frame(DATA, 0, 1, message(b"hello")[:7]), between, frame(DATA, 1, 1, b"llo"))

    assert peer.answer(1).data == message(b"hello")


@pytest.mark.parametrize(
    "most",
    [
        pytest.param(window_update(0, 2**31 - 1 - 65535), id="connection's window"),
        pytest.param(window_update(1, 2**31 - 1 - 65535), id="stream's window"),
        pytest.param(settings((4, 2**31 - 1)), id="INITIAL_WINDOW_SIZE"),
        pytest.param(window_update(1, 100) + settings((4, 2**31 - 1 - 100)), id="stream's window by SETTINGS"),
        pytest.param(settings((4, 2**31 - 1 - 100)) + window_update(1, 100), id="stream's window after SETTINGS"),
        pytest.param(
            begin(3) + window_update(3, 200) + reset(3) + window_update(1, 100) + settings((4, 2**31 - 1 - 100)),
            id="stream's window after a wider one's end",
        ),
        pytest.param(settings((2, 1), (5, 2**14)), id="smallest MAX_FRAME_SIZE"),
        pytest.param(settings((5, 2**24 - 1)), id="MAX_FRAME_SIZE"),
        pytest.param(frame(77, 0, 0, bytes(2**20)), id="frame as long as agreed"),
    ],
)
def test_exactly_the_most_that_a_peer_may_send_is_taken(peer: Peer, most: bytes) -> None:
    """One more of each is among the broken rules above."""
    peer.send(OPEN, most, frame(DATA, END_STREAM, 1, message(b"hello")))

    assert peer.answer(1).data == message(b"hello")


@pytest.mark.parametrize("changes", ["value", "name"])
def test_header_fields_of_every_length_are_read_by_others(changes: str) -> None:
    """Their lengths take one byte up to 126, two up to 254, three after that (RFC 7541, section 5.1)."""
    for length in (*range(1, 600), 16509, 16510, 16511, 16512):
        name = b"n" * (length if changes == "name" else 1)
        value = b"v" * (length if changes == "value" else 1)
        following = frames.header(b"grpc-status", b"0")
        fields = hpack.Decoder(max_header_list_size=2**20).decode(frames.header(name, value) + following)
        assert [(str(key), str(text)) for key, text in fields] == [
            (name.decode(), value.decode()),
            ("grpc-status", "0"),
        ], length


@pytest.mark.parametrize(
    "late",
    [
        pytest.param(frame(DATA, END_STREAM, 1, b"late"), id="DATA"),
        pytest.param(frame(HEADERS, 5, 1, block([("a", "b")])), id="trailers"),
        pytest.param(window_update(1, 5), id="WINDOW_UPDATE"),
        pytest.param(frame(RST_STREAM, 0, 1, bytes(4)), id="RST_STREAM"),
    ],
)
def test_what_was_on_its_way_when_a_call_was_ended_early_is_ignored(peer: Peer, late: bytes) -> None:
    """An answer before the end of the request is followed by RST_STREAM NO_ERROR; the connection goes on."""
    peer.send(begin(1, "/t/None"))
    assert peer.answer(1).status == 12
    assert peer.until(RST_STREAM, 1).code == ErrorCodes.NO_ERROR

    peer.send(late, call(3, b"next"))

    assert peer.answer(3).data == message(b"next")


@pytest.mark.parametrize(
    ("flags", "head", "tail"),
    [
        (0, b"", b""),
        (PADDED, b"\x02", bytes(2)),
        (WITH_PRIORITY, bytes(5), b""),
        (PADDED | WITH_PRIORITY, b"\x02" + bytes(5), bytes(2)),
    ],
)
def test_headers_in_every_wrapping(peer: Peer, flags: int, head: bytes, tail: bytes) -> None:
    """Padding, priority and CONTINUATIONs, whose other flags mean nothing, are taken off."""
    data = block(request())
    peer.send(
        frame(HEADERS, flags, 1, head + data[:10] + tail),
        frame(CONTINUATION, END_STREAM, 1, data[10:20]),
        frame(CONTINUATION, END_HEADERS, 1, data[20:]),
        frame(DATA, PADDED | END_STREAM, 1, b"\x09" + message(b"hello") + bytes(9)),
    )

    assert peer.answer(1).data == message(b"hello")


def test_trailers_of_a_client_end_its_request(peer: Peer) -> None:
    """As gRPC's clients do not, but may."""
    peer.send(OPEN, frame(DATA, 0, 1, message(b"hello")), frame(HEADERS, 5, 1, block([("checksum", "1")])))

    assert peer.answer(1).data == message(b"hello")


def test_settings_are_acknowledged_before_they_are_followed() -> None:
    """What waited for a window comes after the ACK of the SETTINGS that open it, in frames as large as they allow."""
    peer = Peer(Memory(), (4, 0))
    peer.send(call(1, b"20000", "/t/Big"))
    peer.until(HEADERS, 1)

    peer.send(settings((4, 2**20), (5, 2**15), (4, 2**16)))

    assert peer.read() == Frame(SETTINGS, ACK, 0, b"")
    assert (data := peer.read()).kind == DATA
    assert len(data.payload) == 20005


@pytest.mark.parametrize("size", [0, 4095])
def test_a_smaller_header_table_is_confirmed(size: int) -> None:
    """The next header block begins with a table update (RFC 9113, section 4.3.1), and no other does."""
    peer = Peer(Memory(), (1, size))
    peer.send(call(1, b"a"), call(3, b"b"), call(5, _method="GET"))

    blocks = [following.payload for following in peer.rest() if following.kind == HEADERS]

    assert [data.startswith(b"\x20") for data in blocks] == [True, False, False, False, False]


def test_ping_is_answered_with_its_data(peer: Peer) -> None:
    """Once each, in order."""
    peer.send(*(frame(PING, 0, 0, bytes([number] * 8)) for number in range(3)))

    assert peer.rest() == [Frame(PING, ACK, 0, bytes([number] * 8)) for number in range(3)]


@pytest.mark.parametrize(
    "first", [frame(PING, 0, 0, bytes(8)), OPEN, frame(SETTINGS, ACK) + OPEN], ids=["PING", "HEADERS", "ACK"]
)
def test_the_first_frame_is_settings(first: bytes) -> None:
    """Anything else is a PROTOCOL_ERROR."""
    peer = Peer(Memory(), greets=False)
    peer.send(PREFACE, first)

    assert ErrorCodes(peer.goaway().code) == PROTOCOL


@pytest.mark.parametrize(
    "sent", [b"GET / HTTP/1.1\r\nHost: x\r\n\r\n", b"PRI * HTTP/1.1\r\n\r\n", b"P", b"\x16\x03\x01"]
)
def test_http1_is_told_so(sent: bytes) -> None:
    """A whole response that says how long it is, and the end."""
    server = Memory()
    server.send(sent)
    if sent == b"P":
        server.send(b"OST /v1/models/m:predict HTTP/1.1\r\n\r\n")
    server.send(bytes(300_000))

    head, _, body = server.receive().partition(b"\r\n\r\n")

    assert server.ended
    assert head.startswith(b"HTTP/1.1 505 ")
    assert f"content-length: {len(body)}".encode() in head
    assert b"--rest_api_port" in body


def test_goaway_names_the_last_stream_and_the_reason(peer: Peer) -> None:
    """For whoever debugs the peer."""
    peer.send(call(1), call(5), frame(PING, 0, 1, bytes(8)))

    goaway = peer.goaway()

    assert int.from_bytes(goaway.payload[:4], "big") == 5
    assert goaway.payload[8:] == b"PING on stream 1: it concerns the connection"


def test_an_endless_header_block_is_not_taken(peer: Peer) -> None:
    """CVE-2024-27316: CONTINUATIONs without end, even empty ones, end the connection."""
    peer.send(frame(HEADERS, 0, 1, b"\x82"), *[frame(CONTINUATION, 0, 1)] * 33)

    assert ErrorCodes(peer.goaway().code) == CALM


@pytest.mark.parametrize(
    "sent",
    [
        frame(HEADERS, END_HEADERS, 1, bytes(2**18 + 1)),
        frame(HEADERS, 0, 1, bytes(2**18)) + frame(CONTINUATION, 0, 1, bytes(1)),
        # An entry of 4,000 bytes in the table, named again and again: a bomb.
        frame(HEADERS, END_HEADERS, 1, b"\x40\x01x\x7f\xa1\x1e" + b"y" * 4000 + b"\xbe" * 100),
    ],
    ids=["frame", "block", "bomb"],
)
def test_headers_that_are_much_too_long_end_the_connection(peer: Peer, sent: bytes) -> None:
    """However they are wrapped."""
    peer.send(sent)

    assert ErrorCodes(peer.goaway().code) == CALM


def test_headers_that_are_too_long_are_refused_alone(peer: Peer) -> None:
    """431; calls beside it go on, and what the headers left in the table is known."""
    encoder = hpack.Encoder()
    mark = ("x-request-id", "mark")
    blocks = [
        encoder.encode([*request(), mark]),
        encoder.encode([*request(), ("large", "x" * 70_000), ("x-small", "1")]),
        encoder.encode([*request(), mark, ("x-small", "1")]),
    ]
    peer.send(frame(HEADERS, END_HEADERS, 1, blocks[0]), frame(HEADERS, END_HEADERS | END_STREAM, 3, blocks[1]))
    assert peer.answer(3).headers == {":status": "431"}

    peer.send(frame(DATA, END_STREAM, 1, message(b"beside")))
    peer.send(frame(HEADERS, END_HEADERS, 5, blocks[2]), frame(DATA, END_STREAM, 5, message(b"after")))

    assert peer.answer(1).data == message(b"beside")
    assert peer.answer(5).data == message(b"after")


def taken(reader: frames.FrameReader, data: bytes) -> list[tuple[int, int, int, bytes]]:
    """The frames that are whole with more bytes."""
    return list(reader.feed(data))


def test_frames_are_given_as_soon_as_they_are_whole() -> None:
    """With their flags and the number of their stream, whose first bit means nothing; what is not whole is kept."""
    reader = frames.FrameReader(100)
    data = frame(PING, 0, 0, b"12345678") + frame(HEADERS, END_HEADERS | END_STREAM, 2**31 + 5, b"block")
    first, second = (PING, 0, 0, b"12345678"), (HEADERS, END_HEADERS | END_STREAM, 5, b"block")
    assert taken(reader, data) == [first, second]
    assert (reader.waiting_bytes, reader.beginnings) == (0, 0)
    assert taken(reader, data[:8]) == []
    assert (reader.waiting_bytes, reader.beginnings) == (8 + 64, 1)
    assert taken(reader, data[8:12]) == []
    assert taken(reader, data[12:16]) == []
    assert reader.waiting_bytes > 16
    assert taken(reader, data[16:18]) == [first]
    assert (reader.waiting_bytes, reader.beginnings) == (1 + 64, 3)
    assert taken(reader, data[18:]) == [second]
    assert reader.waiting_bytes == 0


def test_the_bytes_of_a_frame_that_is_not_whole_are_counted_with_those_of_its_pieces() -> None:
    """A piece takes 64 bytes beside its own."""
    reader = frames.FrameReader(100)
    data = frame(HEADERS, 0, 1, bytes(50))
    assert taken(reader, data[:20]) == []
    assert reader.waiting_bytes == 20 + 64
    assert taken(reader, data[20:21]) == []
    assert reader.waiting_bytes == 21 + 2 * 64
    assert taken(reader, data[21:58]) == []
    assert reader.waiting_bytes == 58 + 3 * 64
    assert taken(reader, data[58:]) == [(HEADERS, 0, 1, bytes(50))]
    assert (reader.waiting_bytes, reader.beginnings) == (0, 1)


@pytest.mark.parametrize("kind", [DATA, 77])
def test_data_and_unknown_frames_come_in_pieces(kind: int) -> None:
    """Nothing of them is kept; the end of the stream comes with the last."""
    reader = frames.FrameReader(100)
    data = frame(kind, END_STREAM | 2, 1, b"abcdef") + frame(PING, 0, 0, bytes(8))
    assert taken(reader, data[:11]) == [(kind, 2, 1, b"ab")]
    assert taken(reader, data[11:14]) == [(kind, 2, 1, b"cde")]
    assert reader.waiting_bytes == 0
    assert taken(reader, data[14:]) == [(kind, END_STREAM | 2, 1, b"f"), (PING, 0, 0, bytes(8))]


@pytest.mark.parametrize(("kind", "flags"), [(DATA, PADDED), (HEADERS, 0), (CONTINUATION, 0)])
def test_other_frames_come_whole(kind: int, flags: int) -> None:
    """Padding is at their ends."""
    reader = frames.FrameReader(100)
    data = frame(kind, flags, 1, b"abcdef")
    assert taken(reader, data[:11]) == []
    assert taken(reader, data[11:]) == [(kind, flags, 1, b"abcdef")]


def test_a_frame_as_long_as_agreed_is_taken_and_a_longer_one_says_its_length() -> None:
    """Before any of it is there."""
    reader = frames.FrameReader(100)
    assert taken(reader, frame(PING, 0, 0, bytes(100))) == [(PING, 0, 0, bytes(100))]
    with pytest.raises(frames.ProtocolError) as raised:
        taken(reader, frame(PING, 0, 0, bytes(101))[:9])
    assert (raised.value.code, str(raised.value)) == (SIZE, "a frame of 101 bytes is longer than agreed")


def test_frames_of_the_server() -> None:
    """Byte for byte."""
    assert (
        frames.frame_head(5, DATA, 1, 3) + b"hello" == frames.frame(DATA, 1, 3, b"hello") == frame(DATA, 1, 3, b"hello")
    )
    assert frames.settings_frame({4: 10, 5: 20}) == settings((4, 10), (5, 20))
    assert frames.rst_stream(3, 8) == reset(3, 8)
    assert frames.goaway(5, 11, "why\udc80") == frame(GOAWAY, 0, 0, b"\0\0\0\5\0\0\0\x0bwhy?")
    assert frames.window_update(7) == window_update(0, 7)


@pytest.mark.parametrize(
    ("payload", "flags", "fields", "rest"),
    [
        (b"abc", 0, 0, b"abc"),
        (b"\0abc", PADDED, 0, b"abc"),
        (b"\2abc\0\0", PADDED, 0, b"abc"),
        (b"\3abc", PADDED, 0, b""),
        (b"\0", PADDED, 0, b""),
        (b"12345abc", 0, 5, b"abc"),
        (b"12345", 0, 5, b""),
        (b"\x0212345abc\0\0", PADDED, 5, b"abc"),
        (b"\0" + b"12345", PADDED, 5, b""),
    ],
)
def test_padding_and_fields_are_taken_off(payload: bytes, flags: int, fields: int, rest: bytes) -> None:
    """To the byte."""
    assert frames.unpadded(payload, flags, fields) == rest


@pytest.mark.parametrize(
    ("payload", "flags", "fields", "code", "text"),
    [
        (b"", PADDED, 0, SIZE, "a frame ends within its fields"),
        (b"1234", 0, 5, SIZE, "a frame ends within its fields"),
        (b"\x001234", PADDED, 5, SIZE, "a frame ends within its fields"),
        (b"\4abc", PADDED, 0, PROTOCOL, "a frame's padding is longer than the frame"),
        (b"\1" + b"12345", PADDED, 5, PROTOCOL, "a frame's padding is longer than the frame"),
    ],
)
def test_padding_and_fields_that_do_not_fit(
    payload: bytes, flags: int, fields: int, code: ErrorCodes, text: str
) -> None:
    """To the byte, too."""
    with pytest.raises(frames.ProtocolError) as raised:
        frames.unpadded(payload, flags, fields)
    assert (raised.value.code, str(raised.value)) == (code, text)


@pytest.mark.parametrize(
    ("sent", "text"),
    [
        (frame(SETTINGS, 0, 0, bytes(5)), "SETTINGS of 5 bytes: expected a multiple of 6"),
        (settings((2, 2)), "SETTINGS_ENABLE_PUSH of 2: expected 0 or 1"),
        (settings((4, 2**31)), "SETTINGS_INITIAL_WINDOW_SIZE of 2147483648: at most 2^31-1"),
        (settings((5, 2**24)), "SETTINGS_MAX_FRAME_SIZE of 16777216: expected 2^14 to 2^24-1"),
        (frame(PING, 0, 0, bytes(7)), "PING of 7 bytes: expected 8"),
        (frame(PRIORITY, 0, 1, bytes(4)), "PRIORITY of 4 bytes: expected 5"),
        (frame(GOAWAY, 0, 0, bytes(7)), "GOAWAY of 7 bytes: expected 8"),
        (OPEN + frame(RST_STREAM, 0, 1, bytes(5)), "RST_STREAM of 5 bytes: expected 4"),
        (frame(WINDOW_UPDATE, 0, 0, bytes(3)), "WINDOW_UPDATE of 3 bytes: expected 4"),
        (frame(SETTINGS, ACK, 0, bytes(6)), "SETTINGS with ACK of 6 bytes: expected 0"),
        (frame(PUSH_PROMISE, END_HEADERS, 1, bytes(4)), "PUSH_PROMISE of stream 1: clients push nothing"),
        (
            frame(HEADERS, 0, 1, b"\x82") + frame(77, 0, 0),
            "a frame of type 77 where SETTINGS or the rest of a header block is due",
        ),
    ],
)
def test_goaways_say_what_was_wrong(peer: Peer, sent: bytes, text: str) -> None:
    """With the numbers, for whoever debugs the peer."""
    peer.send(sent)
    assert peer.goaway().payload[8:].decode() == text

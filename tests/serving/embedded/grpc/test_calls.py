"""gRPC over HTTP/2: requests that are right, wrong, packed, cut short, given up, and what each is answered."""

from __future__ import annotations

import gzip
import logging
import zlib

import hpack
import pytest

from serving.apis.status import Code
from serving.embedded.grpc import calls, connection, messages
from serving.embedded.grpc.events import CallRejected
from serving.embedded.grpc.options import ConnectionOptions
from serving.embedded.limits import Limits
from tests.support.http2_peer import (
    DATA,
    END_STREAM,
    HEADERS,
    PING,
    RST_STREAM,
    Client,
    Peer,
    begin,
    call,
    frame,
    message,
    request,
    reset,
    settings,
    window_update,
)
from tests.support.http2_server import Memory

LIMIT = 1000
OK, RESOURCE_EXHAUSTED, UNIMPLEMENTED, INTERNAL = 0, 8, 12, 13
REFUSED_STREAM, CALM = 7, 11


@pytest.fixture
def server() -> Memory:
    """Messages of up to LIMIT bytes, 3 calls at a time, 10 messages that a handler has not taken."""
    limits = Limits(max_message_bytes=LIMIT, max_streams=3)
    return Memory(ConnectionOptions(limits, max_queued_messages=10))


@pytest.fixture
def peer(server: Memory) -> Peer:
    """A peer that has greeted."""
    return Peer(server)


@pytest.fixture
def client(server: Memory) -> Client:
    """A client that keeps the rules."""
    return Client(server)


def packed(data: bytes, encoding: str) -> bytes:
    """Data as an encoding has it."""
    if encoding == "gzip":
        return gzip.compress(data, mtime=0)
    return zlib.compress(data) if encoding == "deflate" else data


def body(number: int, data: bytes) -> bytes:
    """The last DATA frame of a stream."""
    return frame(DATA, END_STREAM, number, data)


def test_an_answer(client: Client) -> None:
    """Status 200, the content type, what encodings we take; the message; the status in the trailers."""
    answer = client.ask(b"hello")

    assert answer.headers == {
        ":status": "200",
        "content-type": "application/grpc",
        "grpc-accept-encoding": "identity, deflate, gzip",
        "grpc-status": "0",
    }
    assert answer.data == message(b"hello")


@pytest.mark.parametrize(
    ("changed", "status"),
    [
        ({"_method": "GET"}, "405"),
        ({"_method": "PUT"}, "405"),
        ({"content_type": None}, "415"),
        ({"content_type": "application/json"}, "415"),
        ({"content_type": "application/grpc-web"}, "415"),
        ({"content_type": "application/grpcx"}, "415"),
        ({"grpc_timeout": "1"}, "400"),
        ({"grpc_timeout": "1s"}, "400"),
        ({"grpc_timeout": "-1S"}, "400"),
        ({"grpc_timeout": ""}, "400"),
        ({"grpc_timeout": "123456789S"}, "400"),
        ({"grpc_timeout": "1 S"}, "400"),
    ],
    ids=str,
)
def test_what_is_no_grpc_gets_an_http_status(client: Client, changed: dict[str, str | None], status: str) -> None:
    """405, 415 or 400, and nothing else."""
    assert client.ask(b"x", **changed).headers == {":status": status}
    assert client.ask(b"x").status == OK


@pytest.mark.parametrize("kind", ["application/grpc", "application/grpc+proto", "Application/gRPC; charset=utf-8"])
def test_the_content_types_of_grpc(client: Client, kind: str) -> None:
    """With any suffix or parameter."""
    assert client.ask(b"x", content_type=kind).status == OK


@pytest.mark.parametrize("timeout", ["1H", "1M", "30S", "99999999m", "99999999u", "99999999n", "99999999H"])
def test_timeouts_that_are_far_off_do_nothing(client: Client, timeout: str) -> None:
    """In every unit, for unary and streaming calls."""
    assert client.ask(b"x", grpc_timeout=timeout).status == OK
    assert client.ask(b"x", "/t/EchoAll", grpc_timeout=timeout).status == OK


def test_an_unknown_method(client: Client) -> None:
    """UNIMPLEMENTED, and its name."""
    answer = client.ask(b"x", "/t/No%20ne")

    assert (answer.status, answer.data) == (UNIMPLEMENTED, b"")
    assert answer.headers["grpc-message"] == "Method not found: /t/No%2520ne"


@pytest.mark.parametrize("encoding", ["gzip", "deflate", "identity", None])
@pytest.mark.parametrize("path", ["/t/Echo", "/t/EchoAll"])
def test_encodings(peer: Peer, encoding: str | None, path: str) -> None:
    """A message may be packed, or not in spite of its grpc-encoding."""
    flag = int(encoding in {"gzip", "deflate"})
    peer.send(begin(1, path, grpc_encoding=encoding), body(1, message(packed(b"hello", encoding or ""), flag)))
    peer.send(begin(3, path, grpc_encoding=encoding), body(3, message(b"plain")))

    answers = {number: peer.answer(number).data for number in (1, 3)}

    assert answers == {1: message(b"hello"), 3: message(b"plain")}


@pytest.mark.parametrize(
    ("encoding", "sent", "status", "told"),
    [
        ("snappy", message(b"x", 1), UNIMPLEMENTED, "grpc-encoding snappy is not known"),
        (None, message(b"x", 1), INTERNAL, "names no grpc-encoding"),
        ("identity", message(b"x", 1), INTERNAL, "names no grpc-encoding"),
        ("gzip", message(b"x", 1), INTERNAL, "cannot be decompressed"),
        ("gzip", message(gzip.compress(b"hello", mtime=0)[:-4], 1), INTERNAL, "ends too early"),
        ("gzip", message(gzip.compress(b"hello", mtime=0) + b"more", 1), INTERNAL, "goes on after its end"),
        ("deflate", message(b"", 1), INTERNAL, "ends too early"),
        ("gzip", message(gzip.compress(bytes(LIMIT + 1), mtime=0), 1), RESOURCE_EXHAUSTED, "when unpacked"),
        ("gzip", message(gzip.compress(bytes(100 * 2**20), mtime=0), 1), RESOURCE_EXHAUSTED, "larger than max"),
        ("gzip", message(b"x", 2), INTERNAL, "flagged 2"),
        (None, message(bytes(LIMIT + 1)), RESOURCE_EXHAUSTED, f"({LIMIT + 1} vs. {LIMIT})"),
        (None, b"\0\xff\xff\xff\xff", RESOURCE_EXHAUSTED, f"({2**32 - 1} vs. {LIMIT})"),
        (None, b"", UNIMPLEMENTED, "takes one message, not none"),
        (None, message(b"x") * 2, UNIMPLEMENTED, "takes one message, not several"),
        (None, b"\0\0", INTERNAL, "ends before its message"),
        (None, message(b"hello")[:-1], INTERNAL, "ends before its message"),
        (None, message(b"hello") + b"\0", INTERNAL, "ends before its message"),
    ],
)
def test_messages_that_are_not_taken(peer: Peer, encoding: str | None, sent: bytes, status: int, told: str) -> None:
    """The code of gRPC's doc/statuscodes.md, the reason, and what encodings there are; the next call goes on."""
    peer.send(begin(1, grpc_encoding=encoding), body(1, sent), call(3, b"next"))

    answer = peer.answer(1)

    assert answer.status == status
    assert told in answer.headers["grpc-message"]
    assert answer.headers["grpc-accept-encoding"] == "identity, deflate, gzip"
    assert answer.data == b""
    assert peer.answer(3).data == message(b"next")


def test_messages_of_the_largest_size_are_taken(client: Client) -> None:
    """LIMIT bytes, packed or not, and by a prefix that comes in two pieces."""
    assert client.ask(bytes(LIMIT)).data == message(bytes(LIMIT))
    for encoding in ("gzip", "deflate"):
        peer = Peer(Memory(ConnectionOptions(Limits(max_message_bytes=LIMIT))))
        peer.send(begin(1, grpc_encoding=encoding), body(1, message(packed(bytes(LIMIT), encoding), 1)))
        assert peer.answer(1).data == message(bytes(LIMIT))
    peer.send(begin(3), frame(DATA, 0, 3, message(bytes(LIMIT))[:3]), body(3, message(bytes(LIMIT))[3:]))
    assert peer.answer(3).data == message(bytes(LIMIT))


def test_a_message_too_long_is_refused_before_it_is_there(peer: Peer) -> None:
    """At its prefix, and what follows is ignored."""
    peer.send(begin(1), frame(DATA, 0, 1, message(bytes(LIMIT + 1))[:5]))

    assert peer.answer(1).status == RESOURCE_EXHAUSTED
    assert peer.until(RST_STREAM, 1).code == 0
    peer.send(body(1, bytes(LIMIT + 1)), call(3, b"next"))
    assert peer.answer(3).data == message(b"next")


def test_a_streaming_call_that_is_cut_is_an_error(peer: Peer) -> None:
    """Its messages are answered up to there."""
    peer.send(begin(1, "/t/EchoAll"), frame(DATA, 0, 1, message(b"one")))
    assert peer.until(DATA, 1).payload == message(b"one")

    peer.send(body(1, message(b"two")[:-1]))

    assert peer.answer(1).status == INTERNAL


def test_an_error_cuts_off_what_waits(peer: Peer) -> None:
    """It is told at once, though the client reads nothing."""
    peer.send(settings((4, 0)), begin(1, "/t/EchoAll"), frame(DATA, 0, 1, message(b"one")))
    peer.until(HEADERS, 1)

    peer.send(frame(DATA, 0, 1, b"\x07\0\0\0\0"))

    answer = peer.answer(1)
    assert (answer.status, answer.data) == (INTERNAL, b"")


def test_messages_that_nobody_takes_are_bounded(peer: Peer) -> None:
    """A streaming call that sends faster than its handler works is RESOURCE_EXHAUSTED."""
    peer.send(begin(1, "/t/Watch"), frame(DATA, 0, 1, message(b"") * 10))
    peer.until(DATA, 1)
    assert peer.rest() == []
    peer.send(frame(DATA, 0, 1, message(b"")))

    assert peer.answer(1).status == RESOURCE_EXHAUSTED


def test_a_message_that_is_taken_makes_room_for_one(server: Memory, peer: Peer) -> None:
    """And no more."""
    peer.send(begin(1, "/t/Watch"), frame(DATA, 0, 1, message(b"") * 10))
    calls = server.connection.calls
    stream = calls.get(1)
    assert stream is not None
    calls.message_taken(stream, b"")
    peer.send(frame(DATA, 0, 1, message(b"")))
    assert not stream.is_over
    peer.send(frame(DATA, 0, 1, message(b"")))
    assert peer.answer(1).status == RESOURCE_EXHAUSTED


def test_messages_that_are_taken_make_room_for_more(peer: Peer) -> None:
    """Any number of messages, as long as the handler keeps up."""
    peer.send(begin(1, "/t/EchoAll"))
    for _ in range(5):
        peer.send(frame(DATA, 0, 1, message(b"") * 10))
        assert b"".join(each.payload for each in peer.rest() if each.kind == DATA) == message(b"") * 10


def test_calls_beyond_the_limit_are_refused(peer: Peer) -> None:
    """REFUSED_STREAM: whoever asks may ask again. A call that is given up makes room."""
    peer.send(*(call(number, b"", "/t/Wait") for number in (1, 3, 5)), call(7))
    assert peer.until(RST_STREAM, 7).code == REFUSED_STREAM

    peer.send(reset(1), call(9, b"room"))

    assert peer.answer(9).data == message(b"room")


def test_calls_that_are_answered_without_their_handlers_are_known(server: Memory, peer: Peer) -> None:
    """With the error: for want of a method, for wrong messages, or in the middle of a streaming call."""
    peer.send(call(1, b"", "/t/None"), begin(3), body(3, b""), begin(5, "/t/EchoAll"), body(5, b"\7\0\0\0\0"))
    assert [peer.answer(number).status for number in (1, 3, 5)] == [UNIMPLEMENTED, UNIMPLEMENTED, INTERNAL]

    rejected = [event for event in server.events if isinstance(event, CallRejected)]

    assert [(event.stream.path, event.error.code) for event in rejected] == [
        ("/t/None", UNIMPLEMENTED),
        ("/t/Echo", UNIMPLEMENTED),
        ("/t/EchoAll", INTERNAL),
    ]


def test_rapid_resets_end_the_connection(peer: Peer) -> None:
    """CVE-2023-44487: more calls given up than answered, and a thousand, are too many."""
    peer.send(*(call(number) + reset(number) for number in range(1, 2 * 1010, 2)))

    assert peer.goaway().code == CALM


def test_as_many_calls_may_be_given_up_as_are_free() -> None:
    """Exactly, beside the SETTINGS of the beginning; one more ends the connection."""
    peer = Peer(Memory(ConnectionOptions(free_strikes=4)))
    peer.send(*(call(number, b"", "/t/Wait") + reset(number) for number in (1, 3, 5)), frame(PING, 0, 0, bytes(8)))
    assert peer.until(PING).payload == bytes(8)

    peer.send(call(7, b"", "/t/Wait"), reset(7))

    assert peer.goaway().code == CALM


def test_as_many_streaming_calls_as_there_may_be() -> None:
    """Exactly; one more is refused, and one that is given up makes room."""
    peer = Peer(Memory(ConnectionOptions(max_streaming_calls=2)))
    for number in (1, 3):
        peer.send(begin(number, "/t/Watch"))
        assert peer.until(DATA, number).payload == message(b"begun")
    peer.send(begin(5, "/t/Watch"))
    assert peer.answer(5).status == RESOURCE_EXHAUSTED

    peer.send(reset(1), begin(7, "/t/Watch"))

    assert peer.until(DATA, 7).payload == message(b"begun")


def test_the_longest_text_of_a_status_is_sent_whole() -> None:
    """Of a longer one, the beginning."""
    for length in (messages._MAX_STATUS_TEXT, messages._MAX_STATUS_TEXT + 1):
        block = messages.status_trailers(Code.INTERNAL, "x" * length)
        fields = {str(name): str(value) for name, value in hpack.Decoder(max_header_list_size=2**20).decode(block)}
        is_cut = length > messages._MAX_STATUS_TEXT
        expected = "x" * messages._MAX_STATUS_TEXT + ("..." if is_cut else "")
        assert fields == {"grpc-status": "13", "grpc-message": expected}


def test_headers_of_the_largest_size_are_taken() -> None:
    """Their bytes and 32 for each field; with one byte more the request is refused."""
    fields = request("/t/Echo", x_more="")
    limit = sum(len(name) + len(value) + 32 for name, value in fields) + 10
    peer = Peer(Memory(ConnectionOptions(Limits(max_header_bytes=limit))))
    for number, size in ((1, 10), (3, 11), (5, 10)):
        peer.send(call(number, b"x", "/t/Echo", x_more="m" * size))
        headers = peer.answer(number).headers
        assert headers[":status"] == ("200" if size == 10 else "431")


def test_resets_that_a_peer_provokes_end_the_connection(peer: Peer) -> None:
    """CVE-2025-8671: frames that make the server give calls up count like resets."""
    peer.send(*(call(number) + window_update(number, 0) for number in range(1, 2 * 1010, 2)))

    assert peer.goaway().code == CALM


def test_settings_without_end_end_the_connection(peer: Peer) -> None:
    """CVE-2019-9515: each is work; a thousand more than calls are too many."""
    peer.send(*[settings((4, 0))] * 1010)

    assert peer.goaway().code == CALM


def test_resets_of_a_client_that_is_answered_are_no_flood(peer: Peer) -> None:
    """As many more may be given up as were answered."""
    for number in range(1, 2 * 1500, 4):
        peer.send(call(number, b"x"), call(number + 2, b"", "/t/Wait"), reset(number + 2))
        assert peer.answer(number).status == OK
    peer.send(*(reset(number) for number in range(1, 2 * 900, 2)))
    peer.send(call(9001, b"still"))
    assert peer.answer(9001).data == message(b"still")


def test_header_blocks_with_and_without_a_table_are_read_alike(client: Client) -> None:
    """A client whose encoder indexes, and changes what it sends with each call, is understood."""
    for number in range(200):
        path = ("/t/Echo", "/t/EchoAll", "/t/None")[number % 3]
        answer = client.ask(b"x", path, x_request_id=str(number % 7), traceparent="p" * (number % 50))
        assert answer.status == (UNIMPLEMENTED if path == "/t/None" else OK)


def test_as_many_calls_may_be_given_up_as_were_answered() -> None:
    """Exactly, beside those that are free, of which the SETTINGS of the beginning are one."""
    peer = Peer(Memory(ConnectionOptions(free_strikes=1)))
    for number in (1, 3, 5):
        peer.send(call(number, b"x"))
        assert peer.answer(number).status == OK
    for number in (7, 9, 11):
        peer.send(call(number, b"", "/t/Wait"), reset(number))
    peer.send(frame(PING, 0, 0, bytes(8)))
    assert peer.until(PING).payload == bytes(8)
    peer.send(settings((4, 10)))
    assert peer.goaway().code == CALM


def test_a_malformed_request_is_noted_with_who_sent_it(peer: Peer, caplog: pytest.LogCaptureFixture) -> None:
    """And counts like a call that is given up."""
    with caplog.at_level(logging.INFO, calls.__name__):
        peer.send(begin(1, te="gzip"))
        assert peer.until(RST_STREAM, 1).code == 1
    assert [record.getMessage() for record in caplog.records] == [
        "malformed gRPC request of memory: a header of HTTP/1.1's connections"
    ]
    strict = Peer(Memory(ConnectionOptions(free_strikes=1)))
    strict.send(begin(1, te="gzip"))
    assert strict.goaway().code == CALM


def test_a_connection_that_breaks_a_rule_is_noted_with_who_it_is(peer: Peer, caplog: pytest.LogCaptureFixture) -> None:
    """And with the rule."""
    with caplog.at_level(logging.INFO, connection.__name__):
        peer.send(frame(PING, 0, 1, bytes(8)))
        peer.goaway()
    assert [record.getMessage() for record in caplog.records] == [
        "gRPC connection of memory ended: PING on stream 1: it concerns the connection"
    ]

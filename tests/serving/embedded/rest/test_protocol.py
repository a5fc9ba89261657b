"""REST connections from their first byte to their end, by a simulated clock: HTTP/1.1's rules, limits, and time."""

from __future__ import annotations

import gc
import socket
import time
import weakref
from collections.abc import Iterator
from email.utils import formatdate

import pytest

from serving.apis.status import Code
from serving.embedded.limits import Limits
from tests.support.http1_server import Client, Port, request
from tests.support.http2_server import SimulatedLoop, simulated_loop

LIMITS = Limits(
    max_body_bytes=1000,
    max_header_bytes=500,
    max_bytes_in_flight=8000,
    header_timeout_seconds=10,
    stall_timeout_seconds=20,
    idle_timeout_seconds=75,
)


@pytest.fixture
def loop() -> Iterator[SimulatedLoop]:
    """A loop that fails the test when anything in it raised."""
    with simulated_loop() as loop:
        yield loop


@pytest.fixture
def port(loop: SimulatedLoop) -> Port:
    """A port with small limits."""
    return Port(loop, LIMITS)


def status(answer: bytes) -> int:
    """The status of an answer."""
    return int(answer.split(b" ", 2)[1])


def test_a_request_is_answered_and_its_connection_lives_on(port: Port) -> None:
    """The answer has a length, a type, a date and a request id."""
    client = port.connect()
    before = int(time.time())
    answer = client.ask(request("/echo", b"abc", "X-Request-Id: mine")).decode()
    dates = [formatdate(second, usegmt=True) for second in range(before, int(time.time()) + 1)]
    assert answer in [
        "HTTP/1.1 200 OK\r\ncontent-type: application/json\r\ncontent-length: 8\r\n"
        f"date: {date}\r\nx-request-id: mine\r\n\r\nPOST abc"
        for date in dates
    ]
    assert client.ask(request(body=b"de")).endswith(b"POST de")
    assert client.is_open()
    assert port.peers == ["127.0.0.1:50514"] * 2


def test_a_request_may_come_byte_by_byte_and_holds_bytes_of_the_budget_until_it_is_whole(port: Port) -> None:
    """Nothing is under way before it is whole."""
    client = port.connect()
    data = request(body=b"abcdef")
    for byte in data[:-1]:
        client.send(bytes([byte]))
    assert port.admission.budget.used > 6
    assert not port.calls
    assert client.ask(data[-1:]).endswith(b"POST abcdef")
    assert port.admission.budget.used == 0


def test_pipelined_requests_are_answered_in_their_order(port: Port) -> None:
    """However they arrive, and the client may close its side at once."""
    client = port.connect()
    client.send(request("/wait") + b"".join(request(body=b"%d" % number) for number in range(5)))
    assert client.read() == b""
    port.release()
    answers = client.read()
    assert answers.index(b"waited") < answers.index(b"POST 0") < answers.index(b"POST 4")
    assert port.admission.budget.used == 0


def test_more_pipelined_requests_than_the_limit_end_the_connection_after_the_answers(loop: SimulatedLoop) -> None:
    """Those that fit are answered."""
    port = Port(loop)
    client = port.connect()
    answers = client.ask(request() * 65)
    assert answers.count(b"200 OK") == 64
    assert answers.count(b"429 Too Many Requests") == 1
    assert answers.endswith(b'{\n    "error": "More than 64 requests wait for their answers on one connection"\n}')
    assert not client.is_open()


def test_what_follows_the_last_request_is_dropped(port: Port) -> None:
    """It gets no answer, not even that it is wrong."""
    client = port.connect()
    last = b"GET /echo HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n"
    answers = client.ask(last + request(body=b"more"))
    assert answers.count(b"HTTP/1.1 ") == answers.count(b"200 OK") == 1
    assert not client.is_open()
    assert [name for name, _ in port.calls] == ["Echo"]


def test_headers_of_the_largest_size_are_taken(loop: SimulatedLoop) -> None:
    """The target and the fields, each with an overhead; with one byte more in either the request is refused."""
    size = len(b"/echo") + len(b"Host") + len(b"a") + len(b"X") + 100 + 2 * 32
    port = Port(loop, LIMITS._replace(max_header_bytes=size))
    for target, value, expected in (
        ("/echo", 100, 200),
        ("/echo", 101, 431),
        ("/echo?", 100, 431),
        ("/echo?", 99, 200),
    ):
        data = f"GET {target} HTTP/1.1\r\nHost: a\r\nX: {'x' * value}\r\n\r\n".encode()
        assert status(port.connect().ask(data)) == expected, (target, value)


@pytest.mark.parametrize(
    ("data", "expected", "text"),
    [
        (b"GET / HTTP/1.1\r\n\r\n", 400, b"0 Host headers"),
        (b"GET / HTTP/1.1\r\nHost: a\r\nHost: b\r\n\r\n", 400, b"2 Host headers"),
        (b"GET / HTTP/1.0\r\nHost: a\r\nHost: b\r\n\r\n", 400, b"2 Host headers"),
        (b"GET / HTTP/1.1\r\nHost : a\r\n\r\n", 400, b"not HTTP/1.1"),
        (b"GET / HTTP/1.1\nHost: a\n\n", 400, b"not HTTP/1.1"),
        (b"\x16\x03\x01\x02\x00\x01", 400, b"not HTTP/1.1"),
        (b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n", 505, b"gRPC is on the other one"),
        (b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 1\r\nTransfer-Encoding: chunked\r\n\r\n", 400, b"not HTTP"),
        (b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 1\r\nContent-Length: 2\r\n\r\n", 400, b"not HTTP/1.1"),
        (b"POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: gzip, chunked\r\n\r\n", 501, b"transfer coding"),
        (b"GET / HTTP/1.1\r\nHost: a\r\nX: " + b"x" * 500 + b"\r\n\r\n", 431, b"more than 500 bytes"),
        (b"GET / HTTP/1.1\r\nHost: a\r\nX: " + b"x" * 600, 431, b"more than 500 bytes"),
        (b"GET / HTTP/1.1\r\nHost: a\r\n" + b"a:\r\n" * 20 + b"\r\n", 431, b"more than 500 bytes"),
        (b"CONNECT a:80 HTTP/1.1\r\nHost: a\r\n\r\n", 501, b"CONNECT is for proxies"),
        (b"GET /" + b"x" * 500 + b" HTTP/1.1\r\nHost: a\r\n\r\n", 431, b"more than 500 bytes"),
        (b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 1001\r\n\r\n", 429, b"larger than 1000 bytes"),
        (request(body=b"x" * 1001), 429, b"larger than 1000 bytes"),
    ],
)  # fmt: skip
def test_what_http_or_a_limit_forbids_ends_the_connection_with_its_reason(
    port: Port, data: bytes, expected: int, text: bytes
) -> None:
    """The answer says what is wrong, closes, and is noted in the log."""
    client = port.connect()
    # A header without an end is only known to be one after a while.
    client.send(data[:300])
    answer = client.ask(data[300:] if len(data) > 300 else b"")
    assert status(answer) == expected
    assert text in answer
    assert b"connection: close\r\n" in answer
    assert not client.is_open()
    # Under its route, once that is known.
    assert [name for name, _ in port.calls] in (["Refused"], ["Echo"])
    assert port.admission.budget.used == 0


def test_a_chunked_body_is_taken_up_to_the_limit_and_its_trailers_are_let_pass(port: Port) -> None:
    """The last byte of the limit fits, and one more does not, whatever the pieces."""
    head = b"POST /echo HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n"
    client = port.connect()
    for _ in range(10):
        head += b"64;name=value\r\n" + b"x" * 100 + b"\r\n"
    assert client.ask(head + b"0\r\nHost: other\r\nTrailer: t\r\n\r\n").endswith(b"x" * 1000)
    assert client.is_open()
    assert status(client.ask(head + b"1\r\ny\r\n0\r\n\r\n")) == 429


def test_an_expectation_is_met_only_when_the_body_would_be_taken(port: Port) -> None:
    """100 Continue before the body; a refusal in its place for one that is too large."""
    expects = request("/echo", b"abc", "Expect: 100-continue")[:-3]
    client = port.connect()
    assert client.ask(expects) == b"HTTP/1.1 100 Continue\r\n\r\n"
    assert client.ask(b"abc").endswith(b"POST abc")
    assert status(client.ask(expects.replace(b"Length: 3", b"Length: 3000"))) == 429


def test_head_is_answered_without_the_body_but_with_its_length(port: Port) -> None:
    """As GET would be."""
    answer = port.connect().ask(request("/healthz", method="HEAD"))
    assert b"content-length: 5\r\n" in answer
    assert answer.endswith(b"\r\n\r\n")


@pytest.mark.parametrize(
    ("headers", "version", "stays"),
    [
        ((), "1.1", True),
        (("Connection: close",), "1.1", False),
        ((), "1.0", False),
        (("Connection: keep-alive",), "1.0", True),
    ],
)
def test_a_connection_stays_open_as_the_client_asks(
    port: Port, headers: tuple[str, ...], version: str, *, stays: bool
) -> None:
    """HTTP/1.1 keeps it, HTTP/1.0 closes it, unless the request says otherwise; what follows a close is let be."""
    client = port.connect()
    data = request("/echo", b"a", *headers, version=version)
    answer = client.ask(data + data)
    assert answer.count(b"POST a") == (2 if stays else 1)
    assert client.is_open() == stays
    assert (b"connection: close" in answer) != stays
    assert (b"connection: keep-alive" in answer) == (stays and version == "1.0")


def test_an_upgrade_is_declined_by_answering_in_http_1_1(port: Port) -> None:
    """Clients that offer h2c go on with HTTP/1.1, on the same connection."""
    client = port.connect()
    offer = request("/echo", b"abc", "Connection: Upgrade, HTTP2-Settings", "Upgrade: h2c", "HTTP2-Settings: AAMAAABk")
    assert client.ask(offer + request(body=b"next")).endswith(b"POST next")


def test_an_absolute_target_is_a_path(port: Port) -> None:
    """As proxies send it."""
    client = port.connect()
    client.ask(request("http://here:8501/healthz?x"))
    client.ask(request("HTTP://here", method="GET"))
    assert [name for name, _ in port.calls] == ["Echo", "Echo"]
    client.ask(request("http://here/wait"))
    port.release()
    assert port.calls[-1] == ("Wait", Code.OK)


def test_a_connection_that_sends_nothing_is_closed(port: Port) -> None:
    """When the time for its first request is over, without a word; never before."""
    client = port.connect()
    port.pass_time(10)
    assert client.is_open()
    port.pass_time(0.1)
    assert not client.is_open()
    assert client.read() == b""
    port.pass_time(1)
    assert not port.connections


def test_headers_have_their_time_however_they_trickle(port: Port) -> None:
    """A byte now and then does not lengthen it."""
    client = port.connect()
    for byte in b"GET / HTTP/1.1":
        client.send(bytes([byte]))
        port.pass_time(1)
    assert status(client.read()) == 408
    assert not client.is_open()


def test_a_body_may_take_its_time_but_not_stall(port: Port) -> None:
    """Each byte begins the time anew; when it is over the request is refused, and holds nothing."""
    client = port.connect()
    client.send(request(body=b"x" * 100)[:-100])
    for _ in range(10):
        client.send(b"x")
        port.pass_time(19)
    assert client.is_open()
    port.pass_time(2)
    answer = client.read()
    assert status(answer) == 408
    assert b"the rest of a request's body" in answer
    assert port.admission.budget.used == 0


def test_an_idle_connection_is_kept_for_a_while(port: Port) -> None:
    """After an answer the time is longer than before the first request."""
    client = port.connect()
    client.ask(request())
    port.pass_time(75)
    assert client.is_open()
    port.pass_time(0.1)
    assert not client.is_open()


def test_a_request_under_way_has_no_time_limit_of_the_connections(port: Port) -> None:
    """It has its own deadline."""
    client = port.connect()
    client.send(request("/wait"))
    port.pass_time(1000)
    port.release()
    assert client.read().endswith(b"waited")


def test_requests_that_have_not_arrived_take_no_place_and_probes_are_never_refused(port: Port) -> None:
    """Unfinished bodies leave the calls at a time alone; when those are too many, a probe is answered all the same."""
    for _ in range(10):
        port.connect().send(request(body=b"abc")[:-1])
    assert port.connect().ask(request(body=b"abc")).endswith(b"POST abc")
    for _ in range(2):
        port.connect().send(request("/wait"))
    assert status(port.connect().ask(request())) == 429
    assert status(port.connect().ask(request("/healthz", method="GET"))) == 200


def test_what_is_no_http_is_refused_as_such_whatever_is_under_way(port: Port) -> None:
    """It is no call, and is noted all the same."""
    for _ in range(2):
        port.connect().send(request("/wait"))
    assert status(port.connect().ask(b"what?\r\n\r\n")) == 400
    assert port.calls == [("Refused", Code.INVALID_ARGUMENT)]


def test_unfinished_bodies_give_way_when_they_stall_and_others_need_their_bytes(port: Port) -> None:
    """The one that has stalled for longest is refused; one that goes on arriving is not."""
    stalled = [port.connect() for _ in range(4)]
    for client in stalled:
        client.send(request(body=b"x" * 1000)[:-100])
    port.pass_time(1)
    late = port.connect()
    late.send(request(body=b"x" * 1000)[:-1])
    for _ in range(4):
        port.connect().send(request(body=b"y" * 1000)[:-1])
    assert status(stalled[0].read()) == 429
    assert not stalled[0].is_open()
    assert status(late.ask(b"x")) == 200


def test_a_client_that_does_not_read_is_not_read_from_and_holds_bytes(port: Port) -> None:
    """What waits for it is charged; when it reads nothing for the stall's time, its connection ends."""
    port.big = b"z" * 3000
    client = port.connect()
    client.send(request("/big"))
    assert port.admission.budget.used > 3000
    client.send(request(body=b"next"))
    assert [name for name, _ in port.calls] == ["Big"]
    port.pass_time(21)
    assert client.protocol not in port.connections
    assert port.admission.budget.used == 0


def test_an_answer_that_nobody_reads_gives_way_when_others_need_its_bytes(port: Port) -> None:
    """Its connection ends."""
    port.big = b"z" * 2500
    clients = [port.connect() for _ in range(3)]
    clients[0].send(request("/big"))
    clients[1].send(request("/big"))
    port.pass_time(1)
    assert port.admission.budget.used > 5000
    assert clients[2].ask(request(body=b"x" * 900)).endswith(b"x")
    clients[2].send(request("/big"))
    assert clients[0].protocol not in port.connections
    assert clients[2].protocol in port.connections


def test_a_client_that_goes_away_is_not_waited_for(port: Port) -> None:
    """Its call is cancelled, and noted so; nothing is held for it."""
    client = port.connect()
    client.send(request("/wait"))
    client.transport.close()
    port.loop.pass_time()
    assert port.calls == [("Wait", Code.CANCELLED)]
    assert port.admission.budget.used == 0
    assert len(port.admission.connections) == 0


def test_a_client_that_goes_away_after_it_was_told_to_is_forgotten(port: Port) -> None:
    """Nothing is done to its connection when its last chance to ask is over."""
    client = port.connect()
    client.protocol.drain()
    client.transport.close()
    port.loop.pass_time(0.5)
    assert client.protocol not in port.connections


@pytest.mark.parametrize(
    "data",
    [request(), request("/wait"), request(body=b"x" * 900)[:-1], request(body=b"x" * 1001), b"\0" * 400],
    ids=["answered", "waits", "half a body", "too large", "no HTTP"],
)
def test_a_connection_that_has_ended_is_freed_at_once(port: Port, data: bytes) -> None:
    """With what it was sent: the garbage collector, which would come later, has nothing to do."""
    client = port.connect()
    ended: list[weakref.ref[object]] = [weakref.ref(client.protocol), weakref.ref(client.protocol._connection)]
    gc.collect()
    gc.disable()
    try:
        client.ask(data)
        client.transport.close()
        port.pass_time(2)
        client.transport._protocol = client.protocol = None  # type: ignore[assignment]
        assert [reference() for reference in ended] == [None, None]
    finally:
        gc.enable()


def test_a_client_that_closes_its_side_gets_its_answer(port: Port) -> None:
    """And the end after it."""
    client = port.connect()
    client.send(request("/wait"))
    assert client.protocol.eof_received()
    port.release()
    assert client.read().endswith(b"waited")
    assert not client.is_open()


def test_a_drained_connection_answers_what_arrives_and_closes_with_it(port: Port) -> None:
    """The last answer says so; an idle connection closes when it is told to."""
    busy, idle, late = port.connect(), port.connect(), port.connect()
    busy.send(request("/wait") + request(body=b"second"))
    for client in (busy, idle, late):
        client.protocol.drain()
    port.release()
    answers = busy.read()
    assert answers.count(b"connection: close") == 1
    assert answers.endswith(b"POST second")
    assert b"connection: close" in late.ask(request())
    assert idle.is_open()
    port.loop.pass_time(0.5)
    assert not idle.is_open()


def test_more_connections_than_the_limit_displace_the_idle_ones(loop: SimulatedLoop) -> None:
    """One that waits for its answer stays."""
    port = Port(loop, LIMITS, total=2)
    busy, silent = port.connect(), port.connect()
    busy.send(request("/wait"))
    fresh = port.connect()
    assert not silent.is_open()
    assert status(fresh.ask(request())) == 200
    port.release()
    assert busy.read().endswith(b"waited")


def test_a_connection_is_turned_away_when_all_are_busy(loop: SimulatedLoop) -> None:
    """It is closed at once."""
    port = Port(loop, LIMITS, total=1)
    port.connect().send(request("/wait"))
    assert not port.connect().is_open()
    port.release()


def test_a_client_that_sends_much_is_read_in_turn_with_others(loop: SimulatedLoop) -> None:
    """After a large piece others are read first; once its request is refused, it is read slowly."""
    port = Port(loop, LIMITS._replace(max_body_bytes=2**20, max_bytes_in_flight=2**21))
    client, refused = port.connect(), port.connect()
    client.transport.deliver(request(body=bytes(2**20))[:300_000])
    assert reads(client, 0.0) == (False, True)
    assert status(refused.ask(request(body=bytes(2**20 + 1))[:200])) == 429
    refused.transport.deliver(bytes(300_000))
    assert reads(refused, 0.0) == (False, False)
    assert reads(refused, 0.06) == (False, True)


def is_closed(client: Client) -> bool:
    """Whether its connection is over in both directions."""
    return client.transport.closed


def reads(client: Client, seconds: float) -> tuple[bool, bool]:
    """Whether a client is read from, and whether it is after some time."""
    now = client.transport.reads
    client.port.loop.pass_time(seconds)
    return now, client.transport.reads


def test_an_answer_that_is_too_large_to_wait_ends_its_own_connection_only(port: Port) -> None:
    """All of it is held at once, head and body; the others go on being held to their times."""
    port.big = bytes(200_000)
    client, silent = port.connect(), port.connect()
    client.send(request("/big"))
    assert client.protocol not in port.connections
    assert port.admission.budget.used == 0
    port.pass_time(10.1)
    assert not silent.is_open()


def test_waiting_requests_hold_their_bodies_and_a_kibibyte_each(port: Port) -> None:
    """The one that is answered holds nothing of it; one alone that came whole does not either."""
    client = port.connect()
    client.send(request("/wait"))
    assert port.admission.budget.used == 0
    client.send(request(body=b"abc") + request(body=b"defg"))
    assert port.admission.budget.used == 2 * 1024 + len(b"abcdefg")
    another = port.connect()
    another.send(request("/wait") + request(body=b"hi"))
    assert port.admission.budget.used == 3 * 1024 + len(b"abcdefghi")
    port.release()
    assert another.read().endswith(b"POST hi")
    assert client.read().endswith(b"POST defg")
    assert port.admission.budget.used == 0


def test_what_has_arrived_of_a_request_is_held_to_the_byte(port: Port) -> None:
    """Its headers with what each takes beside its bytes, or its bytes on the wire where those are more."""
    client = port.connect()
    client.send(b"POST /echo HTTP/1.1\r\nHost: here\r\nX")
    assert port.admission.budget.used == len("/echo") + len("Hosthere") + 32
    value = b"x" * 300
    client.send(b": " + value)
    assert port.admission.budget.used == len(b"POST /echo HTTP/1.1\r\nHost: here\r\nX: " + value)
    client.send(b"\r\nContent-Length: 900\r\n\r\n")
    size = len("/echo") + len("Hosthere") + 32 + len("X") + 300 + 32 + len("Content-Length900") + 32
    assert port.admission.budget.used == size
    client.send(b"y" * 899)
    assert port.admission.budget.used == size + 899
    # What comes with the end of the request before is counted by what is kept of it.
    client.send(b"y" + request(body=b"abc")[:-1])
    client.read()
    assert port.admission.budget.used == len("/echo") + len("Hosthere") + 32 + len("Content-Length3") + 32 + 2
    assert client.ask(b"c").endswith(b"POST abc")
    assert port.admission.budget.used == 0


def test_each_request_of_a_connection_has_the_whole_limits(port: Port) -> None:
    """Its headers, its body, and its one Host are counted anew."""
    client = port.connect()
    data = request("/echo", b"x" * 1000, "X: " + "y" * 300)
    for _ in range(3):
        assert status(client.ask(data)) == 200
        client.send(data[:200])
        assert status(client.ask(data[200:])) == 200
    assert client.is_open()


def test_the_chunks_of_a_body_may_take_a_mebibyte_beside_it(loop: SimulatedLoop) -> None:
    """To the byte, with the request's headers; what is kept of it is its body alone."""
    limits = LIMITS._replace(max_bytes_in_flight=2**23)
    head = b"POST /echo HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n1;"
    port = Port(loop, limits)
    client = port.connect()
    client.send(head + b"x" * (1000 + 2**20 - len(head)))
    port.pass_time(1)
    assert client.read() == b""
    answer = client.ask(b"x")
    assert status(answer) == 429
    assert answer.endswith(
        b'{\n    "error": "The request body is larger than 1000 bytes, the server\'s --max_request_bytes"\n}'
    )
    assert port.admission.budget.used == 0


def test_an_expectation_is_not_met_before_its_turn(port: Port) -> None:
    """While others wait for their answers; its body is taken all the same."""
    client = port.connect()
    client.send(request("/wait"))
    expects = request("/echo", b"abc", "Expect: 100-Continue")[:-3]
    client.send(request(body=b"first") + expects)
    port.release()
    answers = client.read()
    assert b"100 Continue" not in answers
    assert answers.endswith(b"POST first")
    assert client.ask(b"abc").endswith(b"POST abc")


def test_what_is_due_is_told_when_its_time_is_over(port: Port) -> None:
    """At the limit there is time still; the answer says what was missing, under the request's own route."""
    head, body = port.connect(), port.connect()
    head.send(b"GET / HTTP/1.1\r\n")
    body.send(request(body=b"abc")[:-1])
    port.pass_time(10)
    assert head.read() == b""
    port.pass_time(0.1)
    assert head.read().endswith(
        b'{\n    "error": "The client did not send the rest of a request\'s headers in time: '
        b'the connection is closed"\n}'
    )
    port.pass_time(9.9)
    assert body.read() == b""
    port.pass_time(0.1)
    assert body.read().endswith(
        b'{\n    "error": "The client did not send the rest of a request\'s body in time: the connection is closed"\n}'
    )
    assert port.calls == [("Refused", Code.INVALID_ARGUMENT), ("Echo", Code.INVALID_ARGUMENT)]


def test_the_time_of_the_headers_begins_with_their_first_byte(port: Port) -> None:
    """However long the connection was idle before."""
    client = port.connect()
    client.ask(request())
    port.pass_time(60)
    client.send(b"GET / HT")
    port.pass_time(10)
    client.send(b"TP/1.1\r\nHost: a\r\n\r\n")
    assert status(client.read()) == 200


def test_a_refusal_comes_after_the_answers_before_it(port: Port) -> None:
    """What was wrong is noted when it is told."""
    client = port.connect()
    client.send(request("/wait") + b"what?\r\n\r\n")
    port.pass_time(100)
    assert client.read() == b""
    port.release()
    answers = client.read()
    assert answers.index(b"waited") < answers.index(b"400 Bad Request")
    assert answers.count(b"HTTP/1.1 ") == 2
    assert port.calls == [("Wait", Code.OK), ("Refused", Code.INVALID_ARGUMENT)]


def test_texts_of_what_is_not_taken(port: Port) -> None:
    """Whole, as clients see them."""
    host = b"Host: a\r\n"
    for data, text in (
        (b"GET / HTTP/1.1\r\n\r\n", "The request has 0 Host headers: HTTP/1.1 wants one"),
        (
            b"POST / HTTP/1.1\r\n%sTransfer-Encoding: gzip, chunked\r\n\r\n" % host,
            "The transfer coding is not known here: send chunked, or a Content-Length",
        ),
        (b"CONNECT a:80 HTTP/1.1\r\n%s\r\n" % host, "CONNECT is for proxies, which this server is not"),
        (
            b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n",
            "This is the REST port: it speaks HTTP/1.1 only. gRPC is on the other one (--port)",
        ),
        (b"GET / HTTP/1.1\r\n%sX: %s" % (host, b"x" * 480), "The request's headers take more than 500 bytes"),
        (b"what?\r\n\r\n", "The request is not HTTP/1.1: Invalid method encountered"),
    ):
        answer = port.connect().ask(data)
        assert answer.partition(b"\r\n\r\n")[2].decode() == f'{{\n    "error": "{text}"\n}}'


def test_a_coding_may_be_written_in_any_case(port: Port) -> None:
    """As header values of HTTP are."""
    head = b"POST /echo HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: Chunked\r\n\r\n"
    assert port.connect().ask(head + b"3\r\nabc\r\n0\r\n\r\n").endswith(b"POST abc")


def test_an_old_client_needs_no_host(port: Port) -> None:
    """HTTP/1.0 does not have it."""
    client = port.connect()
    assert status(client.ask(b"GET /echo HTTP/1.0\r\n\r\n")) == 200


def test_an_upgrade_of_a_connection_that_closes_is_answered_and_closed(port: Port) -> None:
    """It is declined, and the client's wish is kept."""
    client = port.connect()
    offer = request("/echo", b"abc", "Connection: Upgrade, Close", "Upgrade: h2c")
    answer = client.ask(offer + request(body=b"next"))
    assert answer.endswith(b"POST abc")
    assert answer.count(b"connection: close\r\n") == 1
    assert not client.is_open()


def test_a_connection_is_probed_by_the_kernel_and_told_of_every_unread_byte(port: Port) -> None:
    """A peer that is gone without a word is noticed; TLS keeps a byte of what is unread to itself."""
    client = port.connect()
    assert client.transport.options == [(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)]
    client.transport.write(b"x")
    assert port.admission.budget.used == 1
    encrypted = port.connect(tls={"peercert": {"subject": ()}})
    encrypted.transport.write(b"x")
    assert port.admission.budget.used == 1
    encrypted.transport.write(b"y")
    assert port.admission.budget.used == 3


def test_who_has_shown_a_certificate_is_said(port: Port) -> None:
    """A connection without TLS has none, nor has one in TLS whose client was not asked."""
    for tls in (None, {"peercert": None}, {"peercert": {"subject": ()}}):
        port.connect(tls=tls).ask(request())
    assert port.certified == [False, False, True]


def test_a_large_answer_is_written_in_pieces_to_tls_and_whole_without(loop: SimulatedLoop) -> None:
    """In TLS the head by itself, and then 64 KiB at a time."""
    port = Port(loop, LIMITS._replace(max_bytes_in_flight=2**21))
    for size, writes in ((2**17, 1), (2**17 + 1, 4)):
        port.big = bytes(range(256)) * (size // 256) + b"x" * (size % 256)
        plain, encrypted = port.connect(), port.connect(tls={"peercert": None})
        assert plain.ask(request("/big")).endswith(b"\r\n\r\n" + port.big)
        assert plain.transport.writes == 1
        assert encrypted.ask(request("/big")).endswith(b"\r\n\r\n" + port.big)
        assert encrypted.transport.writes == writes


def test_a_client_in_tls_that_closes_its_side_is_gone(port: Port) -> None:
    """TLS has no half-closed connections; one whose last answer was sent is closed a second later."""
    plain, encrypted = port.connect(), port.connect(tls={"peercert": None})
    assert plain.protocol.eof_received() is False
    assert encrypted.protocol.eof_received() is False
    plain, encrypted = port.connect(), port.connect(tls={"peercert": None})
    for client in (plain, encrypted):
        client.send(request("/wait"))
    assert plain.protocol.eof_received() is True
    assert encrypted.protocol.eof_received() is False
    port.release()
    assert encrypted.read().endswith(b"waited")
    port.loop.pass_time(0.9)
    assert is_closed(encrypted) is False
    port.loop.pass_time(0.1)
    assert is_closed(encrypted) is True


def test_a_client_that_reads_a_little_in_time_is_waited_for(port: Port) -> None:
    """Each byte begins its time anew, and is held no more; at the limit there is time still."""
    port.big = b"z" * 3000
    client = port.connect()
    client.send(request("/big"))
    used = port.admission.budget.used
    port.pass_time(20)
    del client.transport.unread[:100]
    port.pass_time(0)
    assert port.admission.budget.used == used - 100
    port.pass_time(20)
    assert client.protocol in port.connections
    port.pass_time(0.1)
    assert client.protocol not in port.connections


def test_a_client_that_begins_to_read_late_is_held_from_then_on(port: Port) -> None:
    """The time of what it does not read begins when it is written, however long its request took."""
    port.big = b"z" * 3000
    client = port.connect()
    client.send(request("/wait"))
    port.pass_time(1000)
    client.send(b"")
    port.release()
    port.pass_time(20)
    assert client.protocol in port.connections
    assert client.read().endswith(b"waited")


def test_a_connection_that_asked_something_has_a_tenth_of_a_second_to_go(loop: SimulatedLoop) -> None:
    """When it has to make way for another; one that never did goes at once."""
    port = Port(loop, LIMITS, total=1)
    known = port.connect()
    known.ask(request())
    stranger = port.connect()
    assert (known.transport.at_end, known.transport.closed) == (True, False)
    loop.pass_time(0.09)
    assert is_closed(known) is False
    loop.pass_time(0.01)
    assert is_closed(known) is True
    port.connect()
    assert is_closed(stranger) is True


def test_a_connection_rests_once_its_request_is_answered(loop: SimulatedLoop) -> None:
    """It makes way for another then, and takes a place no more when it is closed."""
    port = Port(loop, LIMITS, total=2)
    first, second = port.connect(), port.connect()
    for client in (second, first):
        client.ask(request())
    port.connect()
    assert (first.is_open(), second.is_open()) == (True, False)
    first.transport.close()
    loop.pass_time()
    assert len(port.admission.connections) == 1


def test_the_end_of_a_connection_is_waited_for_and_what_comes_is_dropped(port: Port) -> None:
    """For a second after the last bytes, so that they are not lost; not while they are unread."""
    client = port.connect()
    client.ask(request("/echo", b"", "Connection: close"))
    client.send(b"more")
    port.loop.pass_time(0.9)
    assert is_closed(client) is False
    port.loop.pass_time(0.1)
    assert is_closed(client) is True
    slow = port.connect()
    slow.send(request("/echo", b"", "Connection: close"))
    port.loop.pass_time(2)
    assert is_closed(slow) is False
    port.pass_time(18.1)
    assert is_closed(slow) is True
    assert [name for name, _ in port.calls] == ["Echo", "Echo"]


def test_a_drained_connection_has_half_a_second_for_a_last_request(port: Port) -> None:
    """One whose headers or body are on their way has their time."""
    idle, partial = port.connect(), port.connect()
    for client in (idle, partial):
        client.ask(request())
        client.protocol.drain()
    partial.send(request(body=b"abc")[:-1])
    port.loop.pass_time(0.49)
    assert idle.is_open()
    port.loop.pass_time(0.01)
    assert not idle.is_open()
    assert partial.is_open()
    answer = partial.ask(b"c")
    assert answer.endswith(b"POST abc")
    assert b"connection: close\r\n" in answer
    assert not partial.is_open()


def test_a_request_that_does_not_fit_into_the_budget_is_refused_as_it_arrives(loop: SimulatedLoop) -> None:
    """With the flag in the text, under its route; nothing is held then."""
    port = Port(loop, LIMITS._replace(max_bytes_in_flight=1000))
    client = port.connect()
    client.send(request(body=b"x" * 900)[:500])
    assert client.read() == b""
    answer = client.ask(b"x" * 400)
    assert status(answer) == 429
    assert b"--max_bytes_in_flight is 1000: try again" in answer
    assert not client.is_open()
    assert port.calls == [("Echo", Code.RESOURCE_EXHAUSTED)]
    assert port.admission.budget.used == 0


def test_a_refusal_that_waits_for_answers_before_it_holds_nothing(port: Port) -> None:
    """What came of the refused request is let go of at once, and what follows is dropped."""
    client = port.connect()
    head = b"POST /echo HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n"
    client.send(request("/wait") + head + b"258\r\n" + b"x" * 600 + b"\r\n")
    assert port.admission.budget.used > 600
    client.send(b"258\r\n" + b"x" * 600 + b"\r\n")
    assert port.admission.budget.used == 0
    client.send(b"what?" * 1000)
    port.release()
    answers = client.read()
    assert answers.index(b"waited") < answers.index(b"larger than 1000 bytes")


def test_addresses_are_told_apart(loop: SimulatedLoop) -> None:
    """Each has its own limit; a peer that had gone before it was accepted has none."""
    port = Port(loop, LIMITS, each=1)
    first, other, gone = port.connect("10.0.0.1"), port.connect("10.0.0.2"), port.connect(None)
    assert gone.ask(request()).endswith(b"POST ")
    assert port.peers == [":0"]
    port.connect("10.0.0.1")
    assert (first.is_open(), other.is_open()) == (False, True)

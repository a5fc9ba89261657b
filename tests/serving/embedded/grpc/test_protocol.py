"""The tasks that run methods: begun, answered, cancelled, left by their clients, on a simulated transport and clock."""

from __future__ import annotations

import asyncio
import logging
import socket
from collections.abc import Iterator

import pytest

from serving.apis.status import Code
from serving.embedded.admission import Admission
from serving.embedded.admission.budget import Budget
from serving.embedded.admission.connections import Connections
from serving.embedded.grpc import protocol
from serving.embedded.grpc.options import ConnectionOptions
from serving.embedded.limits import Limits
from tests.support.http2_peer import (
    DATA,
    HEADERS,
    PREFACE,
    Client,
    Peer,
    begin,
    call,
    frame,
    message,
    reset,
    settings,
    window_update,
)
from tests.support.http2_server import Simulated, SimulatedLoop, simulated_loop


@pytest.fixture
def loop() -> Iterator[SimulatedLoop]:
    """A loop that fails the test when anything in it raised."""
    with simulated_loop() as loop:
        yield loop


@pytest.fixture
def server(loop: SimulatedLoop) -> Simulated:
    """A connection with the methods of the tests."""
    return Simulated(loop, ConnectionOptions(max_queued_messages=10))


@pytest.fixture
def peer(server: Simulated) -> Peer:
    """A peer that has greeted."""
    return Peer(server)


def test_handlers_answer(server: Simulated) -> None:
    """One message to one, and messages to messages; nothing of the calls is left."""
    client = Client(server)

    assert client.ask(b"one").data == message(b"one")
    assert client.ask(b"two", "/t/EchoAll").data == message(b"two")
    assert client.ask(b"300000", "/t/Big").data == message(bytes(300_000))
    assert server.under_way() == (0, 0)


def test_a_small_request_is_one_write(server: Simulated, peer: Peer, monkeypatch: pytest.MonkeyPatch) -> None:
    """Headers, message and trailers together: what makes the port quick."""
    writes: list[bytes] = []
    monkeypatch.setattr(server.transport, "write", writes.append)

    server.send(call(1, b"hello"))

    assert len(writes) == 1
    assert message(b"hello") in writes[0]


def test_messages_of_errors_are_percent_encoded(server: Simulated, caplog: pytest.LogCaptureFixture) -> None:
    """All but printable ASCII, and the percent sign (gRPC's PROTOCOL-HTTP2, Responses)."""
    with caplog.at_level(logging.CRITICAL):
        answer = Client(server).ask("50% \u00fc\n\x7f~\u20ac".encode(), "/t/Fail")

    assert answer.status == Code.INTERNAL
    assert answer.headers["grpc-message"] == "ValueError: 50%25 %C3%BC%0A%7F~%E2%82%AC"


@pytest.mark.parametrize(("timeout", "seconds"), [("0S", 0.0), ("1n", 1e-9), ("50m", 0.05)])
def test_a_streaming_call_ends_at_its_deadline(server: Simulated, peer: Peer, timeout: str, seconds: float) -> None:
    """With DEADLINE_EXCEEDED, whatever its handler waits for, or its client does not read; no earlier."""
    peer.send(settings((4, 0)), call(1, b"", "/t/Watch", grpc_timeout=timeout))
    peer.send(call(3, b"", "/t/Endless", grpc_timeout=timeout))
    if seconds:
        assert server.under_way()[0] == 2

    server.loop.pass_time(seconds)

    assert [peer.answer(number).status for number in (1, 3)] == [Code.DEADLINE_EXCEEDED] * 2
    assert server.under_way() == (0, 0)
    assert server.methods.cancelled == server.methods.begun
    assert all(call.code is Code.DEADLINE_EXCEEDED for call in server.methods.calls)


def test_the_deadline_of_a_call_that_is_over_does_nothing(server: Simulated, peer: Peer) -> None:
    """Its timer is gone."""
    peer.send(call(1, b"x", "/t/EchoAll", grpc_timeout="50m"))
    assert peer.answer(1).status == Code.OK

    server.loop.pass_time(1.0)

    assert peer.rest() == []
    assert server.refused == []


def test_a_handler_that_overhears_its_end_is_left(server: Simulated, peer: Peer) -> None:
    """What it still says goes nowhere, and its task ends."""
    peer.send(begin(1, "/t/Stubborn"))
    assert peer.until(DATA, 1).payload == message(b"begun")

    peer.send(reset(1))

    assert peer.rest() == []
    assert not asyncio.all_tasks(server.loop)


@pytest.mark.parametrize(
    "end", [reset(1), frame(DATA, 0, 1, b"late"), window_update(1, 0), None], ids=["reset", "late", "rules", "gone"]
)
def test_a_call_that_is_given_up_is_cancelled(server: Simulated, peer: Peer, end: bytes | None) -> None:
    """Its handler ends, and its place is free."""
    peer.send(call(1, b"", "/t/Wait"))
    assert (server.methods.begun, server.under_way()) == (1, (1, 1))

    server.close() if end is None else peer.send(end)

    assert (server.methods.cancelled, server.under_way()) == (1, (0, 0))


@pytest.mark.parametrize("end", [reset(1), frame(DATA, 0, 1, b"\7\0\0\0\0"), None], ids=["reset", "error", "gone"])
def test_a_streaming_call_that_is_given_up_is_cancelled(server: Simulated, peer: Peer, end: bytes | None) -> None:
    """In the middle of its messages."""
    peer.send(begin(1, "/t/Watch"))
    assert peer.until(DATA, 1).payload == message(b"begun")

    server.close() if end is None else peer.send(end)

    assert (server.methods.cancelled, server.under_way()) == (1, (0, 0))


def test_a_call_that_is_given_up_at_once_never_begins(server: Simulated, peer: Peer) -> None:
    """Its request and its end in one read: the handler is not called."""
    peer.send(call(1, b"", "/t/Wait"), reset(1), begin(3, "/t/Watch"), reset(3))

    assert (server.methods.begun, server.under_way()) == (0, (0, 0))


@pytest.mark.parametrize(
    "sent",
    [call(1)[:5], call(1)[:60], call(1)[:-2], begin(1), begin(1, "/t/EchoAll") + frame(DATA, 0, 1, message(b"x") * 9)],
    ids=["head", "headers", "message", "no message", "answers"],
)
def test_a_connection_that_breaks_in_the_middle_leaves_nothing(server: Simulated, peer: Peer, sent: bytes) -> None:
    """No call, no connection, and no exception (which the fixture would tell)."""
    peer.send(sent)

    server.close()

    assert server.under_way() == (0, 0)
    assert not server.is_open()


def test_messages_that_a_handler_takes_make_room_for_more(server: Simulated, peer: Peer) -> None:
    """More than may wait at a time; a handler that takes none holds up its own call only."""
    peer.send(begin(1, "/t/EchoAll"), begin(3, "/t/Watch"))
    for _ in range(5):
        peer.send(frame(DATA, 0, 1, message(b"x") * 10))
    peer.send(frame(DATA, 0, 3, message(b"x") * 11), frame(DATA, 1, 1))

    assert peer.answer(3).status == Code.RESOURCE_EXHAUSTED
    assert server.under_way() == (0, 0)


def test_messages_after_the_handlers_last_word_go_nowhere(server: Simulated, peer: Peer) -> None:
    """While what it said waits for a window, its client may go on."""
    peer.send(settings((4, 0)), call(1, b"x", "/t/Fail"), begin(3, "/t/EchoAll"), frame(DATA, 0, 3, message(b"one")))
    peer.until(HEADERS, 3)

    peer.send(frame(DATA, 1, 3, message(b"two")), window_update(3, 100))

    assert peer.answer(3).data == message(b"one") + message(b"two")


def test_calls_that_fail_without_a_handler_are_told(server: Simulated, peer: Peer) -> None:
    """For want of a method, for a wrong message, or before the handler has begun; others are not."""
    peer.send(call(1, b"", "/t/None"), begin(3), frame(DATA, 1, 3), call(5, b"x", "/t/Echo"))
    peer.send(begin(7, "/t/EchoAll"), frame(DATA, 0, 7, b"\7\0\0\0\0"))

    refused = [(stream.path, getattr(error, "code", None)) for stream, error in server.refused]

    assert refused == [
        ("/t/None", Code.UNIMPLEMENTED),
        ("/t/Echo", Code.UNIMPLEMENTED),
        ("/t/EchoAll", Code.INTERNAL),
    ]


def test_who_asks(loop: SimulatedLoop) -> None:
    """As gRPC writes it, also after the connection has gone: for the access log of calls that were given up."""
    server, local, gone = Simulated(loop), Simulated(loop, peer_name=""), Simulated(loop, peer_name=None)
    server.close()

    assert server.protocol.peer() == "ipv4:127.0.0.1:50514"
    assert local.protocol.peer() == "unix:"
    assert gone.protocol.peer() == "ipv4:0.0.0.0:0"  # never taken for a local one
    assert Simulated(loop, peer_name=("::1", 50514, 0, 0)).protocol.peer() == "ipv6:::1:50514"


def admission(loop: SimulatedLoop, limit: int = 0, total: int = 0) -> Admission:
    """What a server lets in. limit: of its budget. total: how many connections there may be."""
    return Admission(Limits(), Budget(limit, loop.time), Connections(total, 0, loop.time))


def test_a_connection_is_probed_by_the_kernel_and_may_leave_64_kib_unread(loop: SimulatedLoop) -> None:
    """A peer that is gone without a word is noticed; beyond that it is not read from, and all of it is held."""
    lets_in = admission(loop)
    server = Simulated(loop, admission=lets_in)
    assert server.transport.options == [(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)]
    server.transport.write(bytes(2**16))
    assert (server.transport.reads, lets_in.budget.used) == (True, 0)
    server.transport.write(b"x")
    assert (server.transport.reads, lets_in.budget.used) == (False, 2**16 + 1)
    server.transport.read()
    loop.pass_time()
    assert (server.transport.reads, lets_in.budget.used) == (True, 0)


def test_what_a_peer_leaves_unread_beyond_the_budget_ends_its_connection(loop: SimulatedLoop) -> None:
    """At once, and nothing is held then."""
    lets_in = admission(loop, limit=100_000)
    server = Simulated(loop, admission=lets_in)
    peer = Peer(server, (4, 2**30))
    peer.send(window_update(0, 2**30), call(1, b"60000", "/t/Big"))
    assert server.is_open()
    peer.send(call(3, b"60000", "/t/Big"))
    assert not server.is_open()
    assert lets_in.budget.used == 0


def test_an_answer_that_nobody_reads_gives_way_with_its_connection(loop: SimulatedLoop) -> None:
    """When others need the bytes."""
    lets_in = admission(loop, limit=200_000)
    server = Simulated(loop, admission=lets_in)
    peer = Peer(server, (4, 2**30))
    peer.send(window_update(0, 2**30), call(1, b"100000", "/t/Big"))
    assert lets_in.budget.used > 100_000
    loop.pass_time(1)
    lets_in.budget.charge(150_000)
    loop.pass_time()
    assert not server.is_open()
    assert lets_in.budget.used == 150_000


def test_a_connection_keeps_its_seat_until_nothing_was_asked_for_a_second(loop: SimulatedLoop) -> None:
    """Since the last look, which comes once a second; then it makes way for another."""
    lets_in = admission(loop, total=1)
    server = Simulated(loop, admission=lets_in)
    peer = Peer(server)
    peer.send(call(1, b"x"))
    assert peer.answer(1).status == Code.OK
    loop.pass_time(1.0)
    peer.send(call(3, b"x"), call(5, b"", "/t/Wait"))
    assert peer.answer(3).status == Code.OK
    loop.pass_time(1.0)
    peer.send(reset(5))
    loop.pass_time(0.9)
    assert not Simulated(loop, admission=lets_in).is_open()
    assert server.is_open()
    loop.pass_time(0.1)
    assert Simulated(loop, admission=lets_in).is_open()
    loop.pass_time(0.2)
    assert not server.is_open()


def test_a_connection_that_has_to_go_is_told_why(loop: SimulatedLoop) -> None:
    """Where it has asked something: in a GOAWAY, a tenth of a second before its end."""
    lets_in = admission(loop, total=1)
    server = Simulated(loop, admission=lets_in)
    peer = Peer(server)
    peer.send(call(1, b"x"))
    assert peer.answer(1).status == Code.OK
    loop.pass_time(1.0)
    loop.pass_time(1.0)
    assert Simulated(loop, admission=lets_in).is_open()
    goaway = peer.until_goaway()
    assert (goaway.code, goaway.payload[8:].decode()) == (
        0,
        "too many connections: --max_connections, --max_connections_per_address",
    )
    assert server.ended
    loop.pass_time(0.09)
    assert server.is_open()
    loop.pass_time(0.01)
    assert not server.is_open()


def test_a_connection_without_a_seat_says_nothing(loop: SimulatedLoop) -> None:
    """It is closed, and whatever it sends is passed over."""
    lets_in = admission(loop, total=1)
    busy = Simulated(loop, admission=lets_in)
    Peer(busy).send(call(1, b"", "/t/Wait"))
    server = Simulated(loop, admission=lets_in)
    server.protocol.data_received(PREFACE + settings() + call(1))
    assert server.receive() == b""
    assert (server.is_open(), server.transport.closed, server.under_way()) == (False, True, (0, 0))
    assert len(lets_in.connections) == 1
    busy.close()
    assert len(lets_in.connections) == 0


def test_a_frame_that_takes_too_long_is_noted(loop: SimulatedLoop, caplog: pytest.LogCaptureFixture) -> None:
    """At its time, with who sent it."""
    stuck = Simulated(loop, ConnectionOptions(Limits(header_timeout_seconds=5.0)))
    Peer(stuck).send(call(1, b"x"), frame(HEADERS, 4, 3, bytes(500))[:300])
    with caplog.at_level(logging.INFO, protocol.__name__):
        loop.pass_time(4.99)
        assert stuck.is_open()
        loop.pass_time(0.01)
    assert not stuck.is_open()
    assert caplog.messages[-1] == (
        "gRPC connection of ipv4:127.0.0.1:50514 ended: a frame took longer than --header_timeout_seconds"
    )


def test_an_unforeseen_error_is_logged_with_where_it_came_from(
    server: Simulated, caplog: pytest.LogCaptureFixture
) -> None:
    """And told to the caller with its type."""
    with caplog.at_level(logging.ERROR, protocol.__name__):
        answer = Client(server).ask(b"why", "/t/Fail")
    assert (answer.status, answer.headers["grpc-message"]) == (Code.INTERNAL, "ValueError: why")
    (record,) = caplog.records
    assert record.getMessage() == "unforeseen error in a gRPC method"
    assert record.exc_info is not None
    assert isinstance(record.exc_info[1], ValueError)

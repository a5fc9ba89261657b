"""Connections from their first byte to their orderly end: prefaces, GOAWAY, age and idleness, by a simulated clock."""

from __future__ import annotations

import gc
import weakref
from collections.abc import Iterator

import pytest

from serving.embedded.grpc.options import ConnectionOptions
from tests.support.http2_peer import (
    DATA,
    GOAWAY,
    HEADERS,
    PING,
    PREFACE,
    RST_STREAM,
    SETTINGS,
    WINDOW_UPDATE,
    Frame,
    Peer,
    begin,
    call,
    frame,
    message,
    reset,
    window_update,
)
from tests.support.http2_server import Simulated, SimulatedLoop, simulated_loop

NO_ERROR, FRAME_SIZE_ERROR, REFUSED_STREAM = 0, 6, 7
DRAIN_PING = Frame(PING, 0, 0, b"drained?")
DRAIN_PONG = frame(PING, 1, 0, b"drained?")


@pytest.fixture
def loop() -> Iterator[SimulatedLoop]:
    """A loop that fails the test when anything in it raised."""
    with simulated_loop() as loop:
        yield loop


@pytest.fixture
def server(loop: SimulatedLoop) -> Simulated:
    """A connection with the methods of the tests."""
    return Simulated(loop)


def last_stream(goaway: Frame) -> int:
    """The last stream that a GOAWAY lets be answered."""
    return int.from_bytes(goaway.payload[:4], "big")


def test_the_servers_preface(server: Simulated) -> None:
    """SETTINGS come first, with windows and frames as large as they may be; the client's are acknowledged next."""
    peer = Peer(server, greets=False)
    peer.send(PREFACE)
    first, second = peer.read(), peer.read()

    values = {first.payload[at + 1]: first.payload[at + 2 : at + 6] for at in range(0, len(first.payload), 6)}
    assert first.kind == SETTINGS
    assert {key: int.from_bytes(value, "big") for key, value in values.items()} == {
        3: 2**16,
        4: 2**31 - 1,
        5: 2**20,
        6: 2**16,
    }
    assert second == Frame(WINDOW_UPDATE, 0, 0, (2**31 - 1 - 65535).to_bytes(4, "big"))


def test_an_orderly_end_loses_no_call(server: Simulated) -> None:
    """GOAWAY for no stream yet and a PING; calls until its answer are taken; then GOAWAY, the answers, the end."""
    peer = Peer(server, (4, 0))
    peer.send(call(1, b"1000", "/t/Big"))
    peer.until(HEADERS, 1)
    server.protocol.drain()
    assert last_stream(first := peer.read()) == 2**31 - 1
    assert (first.kind, first.code) == (GOAWAY, NO_ERROR)
    assert peer.read() == DRAIN_PING

    peer.send(frame(PING, 1, 0, bytes(8)), call(3, b"on its way", "/t/None"), DRAIN_PONG, call(5))
    assert peer.answer(3).status == 12
    second = peer.until(GOAWAY)
    assert (second.code, last_stream(second)) == (NO_ERROR, 3)
    assert peer.until(RST_STREAM, 5).code == REFUSED_STREAM

    peer.send(window_update(1, 2000))
    assert peer.answer(1).data == message(bytes(1000))
    assert peer.is_closed()


def test_an_idle_connection_is_drained_at_once(server: Simulated) -> None:
    """Two GOAWAYs and the end; the server waits for the client to close."""
    peer = Peer(server)
    server.protocol.drain()
    server.protocol.drain()
    assert [peer.read().kind, peer.read()] == [GOAWAY, DRAIN_PING]
    peer.send(DRAIN_PONG, call(1))

    assert peer.read().kind == GOAWAY
    assert peer.is_closed()
    assert server.is_open()
    server.close()
    assert not server.is_open()
    assert all(timer.cancelled() for timer in server.protocol._timers.values())


def test_a_client_that_answers_no_ping_is_not_waited_for(server: Simulated) -> None:
    """Nor one that keeps its side open after the end: a second each."""
    peer = Peer(server)
    server.protocol.drain()
    assert [peer.read().kind for _ in range(2)] == [GOAWAY, PING]
    server.loop.pass_time(0.99)
    assert peer.rest() == []

    server.loop.pass_time(0.02)
    assert peer.read().kind == GOAWAY
    assert peer.is_closed()
    server.loop.pass_time(0.99)
    assert server.is_open()

    server.loop.pass_time(0.02)
    assert not server.is_open()


def test_a_connection_that_has_not_greeted_is_just_closed(server: Simulated) -> None:
    """No GOAWAY before the SETTINGS."""
    peer = Peer(server, greets=False)
    server.protocol.drain()

    assert peer.is_closed()
    assert not server.is_open()


def test_whoever_sends_no_preface_is_hung_up_on(loop: SimulatedLoop) -> None:
    """A connection that is opened and left is closed after 20 seconds; one that has greeted is not."""
    silent, server = Simulated(loop), Simulated(loop)
    peer = Peer(server)
    silent.send(PREFACE[:5])

    loop.pass_time(19.9)
    assert silent.is_open()
    loop.pass_time(0.2)

    assert Peer(silent, greets=False).is_closed()
    assert not silent.is_open()
    peer.send(call(1, b"x"))
    assert peer.answer(1).status == 0


def test_a_clients_goaway_lets_its_calls_be_answered(server: Simulated) -> None:
    """It opens no more calls, but wants its answers."""
    peer = Peer(server, (4, 0))
    peer.send(call(1, b"x"), frame(GOAWAY, 0, 0, bytes(8)), window_update(1, 100))

    assert peer.answer(1).data == message(b"x")


def test_idle_connections_end(loop: SimulatedLoop) -> None:
    """Those that ask nothing, and no others: a call under way is no idleness."""
    options = ConnectionOptions(max_idle=10.0)
    server = Simulated(loop, options)
    peer, idle = Peer(server), Peer(Simulated(loop, options))
    peer.send(begin(1, "/t/Watch"))
    assert peer.until(DATA, 1).payload == message(b"begun")
    loop.pass_time(9.9)
    assert idle.rest() == []

    loop.pass_time(0.2)
    idle.until(GOAWAY)
    assert idle.read() == DRAIN_PING
    assert peer.rest() == []

    peer.send(call(3, b"x"), reset(1))
    assert peer.answer(3).status == 0
    loop.pass_time(10.0)
    assert peer.rest() == []
    loop.pass_time(10.0)
    peer.until(GOAWAY)


def test_old_connections_end_with_a_grace(loop: SimulatedLoop) -> None:
    """GOAWAY at the age, however busy; the calls that are still there after the grace are lost."""
    server = Simulated(loop, ConnectionOptions(max_age=60.0, max_age_grace=5.0))
    peer = Peer(server)
    peer.send(begin(1, "/t/Watch"))
    peer.until(DATA, 1)
    loop.pass_time(59.9)
    assert peer.rest() == []

    loop.pass_time(0.2)
    peer.until(GOAWAY)
    assert peer.read() == DRAIN_PING
    peer.send(DRAIN_PONG)
    peer.until(GOAWAY)
    loop.pass_time(4.8)
    assert (server.is_open(), server.methods.cancelled) == (True, 0)
    loop.pass_time(0.3)

    assert peer.is_closed()
    assert (server.is_open(), server.methods.cancelled) == (False, 1)


def test_a_connection_that_has_ended_is_not_drained(server: Simulated) -> None:
    """Nothing follows its last words."""
    peer = Peer(server)
    peer.send(frame(PING))
    assert peer.goaway().code == FRAME_SIZE_ERROR

    server.protocol.drain()

    assert peer.is_closed()
    server.loop.pass_time(2.0)
    assert not server.is_open()


def test_last_words_are_sent_to_a_peer_that_does_not_read(server: Simulated) -> None:
    """A GOAWAY after what waits already, and then the end; the calls that are still there are cancelled."""
    peer = Peer(server, (4, 2**31 - 1))
    peer.send(window_update(0, 2**30), call(1, b"", "/t/Wait"), call(3, b"3000000", "/t/Big"))
    assert not server.transport.reads
    server.send(frame(PING))
    assert server.methods.cancelled == 0

    frames = peer.rest()

    assert frames[-1].kind == GOAWAY
    assert sum(len(each.payload) for each in frames if each.kind == DATA) == 3_000_005
    assert peer.is_closed()
    assert server.methods.cancelled == 1


@pytest.mark.parametrize(
    "data",
    [
        call(1, b"hello"),
        call(1, b"", "/t/Wait"),
        call(1, b"", "/t/Watch"),
        call(1, b"", "/t/Unknown"),
        begin(1) + frame(DATA, 0, 1, message(bytes(1000))[:500]),
        begin(1) + frame(DATA, 0, 1, b"\2\0\0\0\0"),
        frame(DATA, 0, 1, b""),
    ],
    ids=["answered", "waits", "streams", "unknown", "half a message", "a wrong message", "a broken rule"],
)
def test_a_connection_that_has_ended_is_freed_at_once(loop: SimulatedLoop, data: bytes) -> None:
    """With what it was sent: the garbage collector, which would come later, has nothing to do."""
    server = Simulated(loop)
    server.send(PREFACE + frame(SETTINGS, 0, 0) + data)
    server.receive()
    ended = [
        weakref.ref(item) for item in (server.protocol, server.protocol.connection, server.protocol.connection.calls)
    ]
    gc.collect()
    gc.disable()
    try:
        server.close()
        loop.pass_time(5)
        server.refused.clear()
        server.methods.calls.clear()
        server.transport._protocol = server.protocol = None  # type: ignore[assignment]
        assert [reference() for reference in ended] == [None, None, None]
    finally:
        gc.enable()


def test_ten_thousands_of_calls_end_with_their_connection_in_many_turns(loop: SimulatedLoop) -> None:
    """Others have their turns in between."""
    server = Simulated(loop)
    server.send(PREFACE + frame(SETTINGS, 0, 0) + b"".join(begin(number) for number in range(1, 20_001, 2)))
    loop.pass_time()
    assert server.under_way()[0] == 10_000
    server.protocol.connection_lost(None)
    assert server.under_way()[0] > 8000
    loop.pass_time()
    assert server.under_way()[0] == 0

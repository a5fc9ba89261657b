"""Connections from their first byte to their orderly end: TLS, sockets, GOAWAY, age and idleness."""

from __future__ import annotations

import ssl
from collections.abc import Iterator
from pathlib import Path

import pytest
import trustme

from serving.embedded.grpc import connection as grpc_protocol
from serving.embedded.grpc.connection import ConnectionOptions
from tests.support.http2_peer import (
    DATA,
    GOAWAY,
    HEADERS,
    PING,
    PREFACE,
    RST_STREAM,
    SETTINGS,
    WINDOW_UPDATE,
    Client,
    Endpoint,
    Frame,
    Peer,
    call,
    connect,
    endpoint,
    frame,
    message,
    settings,
    window_update,
)
from tests.support.live import wait_until

NO_ERROR, REFUSED_STREAM = 0, 7
DRAIN_PING = Frame(PING, 0, 0, b"drained?")
DRAIN_PONG = frame(PING, 1, 0, b"drained?")


@pytest.fixture
def server() -> Iterator[Endpoint]:
    """Connections with the methods of the tests."""
    with endpoint() as made:
        yield made


def last_stream(goaway: Frame) -> int:
    """The last stream that a GOAWAY lets be answered."""
    return int.from_bytes(goaway.payload[:4], "big")


def is_closed(peer: Peer) -> bool:
    """Whether nothing but the end comes."""
    return peer.read_bytes(1) == b""


def test_the_servers_preface(server: Endpoint) -> None:
    """SETTINGS come first, with windows and frames as large as they may be; the client's are acknowledged next."""
    with Peer(server.address, greets=False) as peer:
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


def test_an_orderly_end_loses_no_call(server: Endpoint) -> None:
    """GOAWAY for no stream yet and a PING; calls until its answer are taken; then GOAWAY, the answers, the end."""
    with Peer(server.address, (4, 0)) as peer:
        peer.send(call(1, b"1000", "/t/Big"))
        peer.until(HEADERS, 1)
        server.drain()
        assert last_stream(first := peer.read()) == 2**31 - 1
        assert (first.kind, first.code) == (GOAWAY, NO_ERROR)
        assert peer.read() == DRAIN_PING

        peer.send(call(3, b"on its way", path="/t/None"), DRAIN_PONG, call(5))
        assert peer.answer(3).status == 12
        second = peer.until(GOAWAY)
        assert (second.code, last_stream(second)) == (NO_ERROR, 3)
        assert peer.until(RST_STREAM, 5).code == REFUSED_STREAM

        peer.send(window_update(1, 2000))
        assert peer.answer(1).data == message(bytes(1000))
        assert is_closed(peer)


def test_an_idle_connection_is_drained_at_once(server: Endpoint) -> None:
    """Two GOAWAYs and the end; the server waits for the client to close."""
    with Peer(server.address) as peer:
        server.drain()
        assert [peer.read().kind, peer.read()] == [GOAWAY, DRAIN_PING]
        peer.send(DRAIN_PONG)

        assert peer.read().kind == GOAWAY
        assert is_closed(peer)
        assert server.connections
    wait_until(lambda: not server.connections)


def test_a_client_that_answers_no_ping_is_not_waited_for(server: Endpoint, monkeypatch: pytest.MonkeyPatch) -> None:
    """Nor one that keeps its side open after the end."""
    monkeypatch.setattr(grpc_protocol, "_DRAIN_SECONDS", 0.01)
    monkeypatch.setattr(grpc_protocol, "_LINGER_SECONDS", 0.01)
    with Peer(server.address) as peer:
        server.drain()

        assert [peer.read().kind for _ in range(3)] == [GOAWAY, PING, GOAWAY]
        assert is_closed(peer)
        wait_until(lambda: not server.connections)


def test_a_connection_that_has_not_greeted_is_just_closed(server: Endpoint) -> None:
    """No GOAWAY before the SETTINGS."""
    with Peer(server.address, greets=False) as peer:
        wait_until(lambda: len(server.connections) == 1)
        server.drain()

        assert is_closed(peer)


def test_whoever_sends_no_preface_is_hung_up_on(server: Endpoint, monkeypatch: pytest.MonkeyPatch) -> None:
    """A connection that is opened and left is closed after a while; one that has greeted is not."""
    monkeypatch.setattr(grpc_protocol, "_PREFACE_SECONDS", 0.05)
    with Peer(server.address, greets=False) as silent, Peer(server.address) as peer:
        silent.send(PREFACE[:5])

        assert is_closed(silent)
        peer.send(call(1, b"x"))
        assert peer.answer(1).status == 0


def test_a_clients_goaway_lets_its_calls_be_answered(server: Endpoint) -> None:
    """It opens no more calls, but wants its answers."""
    with Peer(server.address, (4, 0)) as peer:
        peer.send(call(1, b"x"), frame(GOAWAY, 0, 0, bytes(8)), window_update(1, 100))

        assert peer.answer(1).data == message(b"x")


def test_idle_connections_end(monkeypatch: pytest.MonkeyPatch) -> None:
    """Those that ask nothing, and no others: a call under way is no idleness."""
    with endpoint(ConnectionOptions(max_idle=0.1)) as server, Peer(server.address) as peer:
        with Peer(server.address) as idle:
            peer.send(call(1, path="/t/Watch"))
            assert peer.until(DATA, 1).payload == message(b"begun")
            idle.until(GOAWAY)
            assert idle.read() == DRAIN_PING
        assert peer.ping() == []
        peer.send(frame(RST_STREAM, 0, 1, bytes(4)))
        peer.until(GOAWAY)


def test_old_connections_end_with_a_grace(monkeypatch: pytest.MonkeyPatch) -> None:
    """GOAWAY at the age, however busy; the calls that are still there after the grace are lost."""
    with endpoint(ConnectionOptions(max_age=0.05, max_age_grace=0.1)) as server, Peer(server.address) as peer:
        peer.send(call(1, path="/t/Watch"))
        peer.until(GOAWAY)
        assert peer.read() == DRAIN_PING
        peer.send(DRAIN_PONG)
        peer.until(GOAWAY)

        with pytest.raises((ConnectionResetError, AssertionError)):
            peer.until(HEADERS, 3)
        wait_until(lambda: not server.connections)


def test_a_unix_socket(tmp_path: Path) -> None:
    """As the port, and peers are called `unix:`."""
    with endpoint(path=str(tmp_path / "socket")) as server, Client(server.address) as client:
        assert client.ask(b"hello").data == message(b"hello")
        (connection,) = server.connections
        assert connection.peer() == "unix:"


def test_who_asked_is_known_after_it_has_gone(server: Endpoint) -> None:
    """For the access log of calls that were given up."""
    with Peer(server.address) as peer:
        (connection,) = server.connections
        name = "ipv4:{}:{}".format(*peer.socket.getsockname())
        assert server.run(connection.peer) == name
    wait_until(lambda: not server.connections)
    assert server.run(connection.peer) == name


@pytest.fixture(scope="module")
def tls() -> tuple[ssl.SSLContext, ssl.SSLContext]:
    """The server's and the client's side of TLS."""
    authority = trustme.CA()
    server, client = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH), ssl.create_default_context()
    authority.issue_cert("localhost").configure_cert(server)
    authority.configure_trust(client)
    server.set_alpn_protocols(["h2"])
    client.set_alpn_protocols(["h2", "http/1.1"])
    return server, client


def test_tls(tls: tuple[ssl.SSLContext, ssl.SSLContext]) -> None:
    """HTTP/2 by ALPN; messages both ways; an orderly end."""
    with endpoint(tls=tls[0]) as server, Client(server.address, tls[1]) as client:
        assert client.socket.selected_alpn_protocol() == "h2"  # type: ignore[attr-defined]
        assert client.ask(bytes(100_000)).data == message(bytes(100_000))
        assert client.ask(b"3000000", "/t/Big").data == message(bytes(3_000_000))
        server.drain()
        assert client.socket.recv(65536)[3] == GOAWAY
        client.socket.close()
        wait_until(lambda: not server.connections)


def test_last_words_over_tls(tls: tuple[ssl.SSLContext, ssl.SSLContext], monkeypatch: pytest.MonkeyPatch) -> None:
    """A GOAWAY, and HTTP/1.1's answer, though TLS has no half-closed connections; the server closes soon after."""
    monkeypatch.setattr(grpc_protocol, "_LINGER_SECONDS", 0.01)
    with endpoint(tls=tls[0]) as server:
        for sent, told in ((PREFACE + frame(PING), b"SETTINGS"), (b"GET / HTTP/1.1\r\n\r\n", b"HTTP/1.1 505")):
            with connect(server.address, tls[1]) as client:
                client.sendall(sent)
                assert told in b"".join(iter(lambda: client.recv(65536), b""))
        wait_until(lambda: not server.connections)


def test_a_slow_reader_over_tls_holds_up_only_itself(tls: tuple[ssl.SSLContext, ssl.SSLContext]) -> None:
    """Its answers wait in bounded memory."""
    with endpoint(tls=tls[0]) as server, Client(server.address, tls[1], INITIAL_WINDOW_SIZE=2**31 - 1) as slow:
        slow.h2.increment_flow_control_window(2**30)
        slow.flush()
        number = slow.begin(b"30000000", "/t/Big")
        (connection,) = server.connections
        wait_until(lambda: server.run(lambda: connection._outbox._paused))
        assert server.run(connection._transport.get_write_buffer_size) < 2**22
        with Client(server.address, tls[1]) as quick:
            assert quick.ask(b"x").status == 0
        assert slow.answer(number).data == message(bytes(30_000_000))


@pytest.mark.parametrize("sent", [PREFACE[:10], PREFACE + settings() + call(1)[:30]], ids=["preface", "call"])
def test_tls_connections_that_break_leave_nothing(tls: tuple[ssl.SSLContext, ssl.SSLContext], sent: bytes) -> None:
    """Without a close_notify."""
    with endpoint(tls=tls[0]) as server:
        with connect(server.address, tls[1]) as client:
            client.sendall(sent)
        wait_until(lambda: not server.connections)

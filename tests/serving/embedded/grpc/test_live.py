"""The gRPC port over real sockets: TLS, UNIX sockets, and ends of connections that TCP could spoil."""

from __future__ import annotations

import socket
import ssl
from collections.abc import Iterator
from pathlib import Path

import grpc
import pytest

from serving.embedded.grpc.options import ConnectionOptions
from tests.support.http2_peer import (
    GOAWAY,
    PING,
    PREFACE,
    Client,
    Peer,
    call,
    frame,
    message,
    settings,
)
from tests.support.http2_server import Address, Endpoint, SocketPipe, endpoint
from tests.support.live import wait_until
from tests.support.tls_contexts import tls_contexts

PROTOCOL_ERROR = 1
QUICK_END = ConnectionOptions(linger_seconds=0.01)


@pytest.fixture
def server() -> Iterator[Endpoint]:
    """Connections with the methods of the tests."""
    with endpoint() as server:
        yield server


@pytest.fixture(scope="module")
def tls() -> tuple[ssl.SSLContext, ssl.SSLContext]:
    """The server's and the client's side of TLS."""
    server, client = tls_contexts()
    server.set_alpn_protocols(["h2"])
    client.set_alpn_protocols(["h2", "http/1.1"])
    return server, client


def target(address: Address) -> str:
    """An address as grpcio takes it."""
    return f"unix:{address}" if isinstance(address, str) else f"{address[0]}:{address[1]}"


def test_grpcio_asks(server: Endpoint) -> None:
    """One message and many, packed and large, errors and deadlines, by the client that most people have."""
    with grpc.insecure_channel(target(server.address), options=[("grpc.max_receive_message_length", -1)]) as channel:
        echo, big = (channel.unary_unary(f"/t/{name}", bytes, bytes) for name in ("Echo", "Big"))
        assert echo(b"hello", timeout=10) == b"hello"
        assert echo(bytes(5_000_000), timeout=10, compression=grpc.Compression.Gzip) == bytes(5_000_000)
        assert big(b"20000000", timeout=10) == bytes(20_000_000)
        messages = [bytes([number]) for number in range(200)]
        assert list(channel.stream_stream("/t/EchoAll", bytes, bytes)(iter(messages), timeout=10)) == messages
        watch = channel.unary_stream("/t/Watch", bytes, bytes)(b"", timeout=0.2)
        assert watch.code() is grpc.StatusCode.DEADLINE_EXCEEDED
    wait_until(lambda: server.methods.cancelled == 1)


def test_h2_asks(server: Endpoint) -> None:
    """By a client that raises where the server breaks a rule; its deadline is the farthest there can be."""
    with SocketPipe(server.address) as pipe:
        client = Client(pipe, INITIAL_WINDOW_SIZE=1000, HEADER_TABLE_SIZE=0)
        for size in (1, 995, 996, 50_000):
            assert client.ask(str(size).encode(), "/t/Big").data == message(bytes(size))
        assert client.ask(b"x", "/t/EchoAll", grpc_timeout="99999999H").data == message(b"x")


def test_a_unix_socket(tmp_path: Path) -> None:
    """As the port, and peers are called `unix:`."""
    with endpoint(path=str(tmp_path / "socket")) as server, SocketPipe(server.address) as pipe:
        assert Client(pipe).ask(b"hello").data == message(b"hello")
        (connection,) = server.connections
        assert connection.peer() == "unix:"


def test_who_asked_is_known_after_it_has_gone(server: Endpoint) -> None:
    """For the access log of calls that were given up."""
    with SocketPipe(server.address) as pipe:
        Peer(pipe)
        (connection,) = server.connections
        name = "ipv4:{}:{}".format(*pipe.socket.getsockname())
        assert server.run(connection.peer) == name
    wait_until(lambda: not server.connections)
    assert server.run(connection.peer) == name


def test_http1_reads_its_answer(server: Endpoint) -> None:
    """The rest of a request that is still on its way does not destroy it."""
    with SocketPipe(server.address) as pipe:
        pipe.send(b"POST /v1/models/m:predict HTTP/1.1\r\n\r\n")
        pipe.send(bytes(300_000))

        assert b"".join(iter(pipe.receive, b"")).startswith(b"HTTP/1.1 505 ")


def test_a_goaway_is_not_lost_when_more_is_on_its_way(server: Endpoint) -> None:
    """The server takes what still comes for a while instead of resetting the connection."""
    with SocketPipe(server.address) as pipe:
        peer = Peer(pipe)
        peer.send(frame(PING, 0, 1, bytes(8)), frame(77, 0, 0, bytes(2**19)), frame(77, 0, 0, bytes(2**19)))
        pipe.socket.shutdown(socket.SHUT_WR)

        assert peer.goaway().code == PROTOCOL_ERROR


def test_tls(tls: tuple[ssl.SSLContext, ssl.SSLContext]) -> None:
    """HTTP/2 by ALPN; messages both ways; an orderly end."""
    with endpoint(tls=tls[0]) as server:
        with SocketPipe(server.address, tls[1]) as pipe:
            client = Client(pipe)
            assert isinstance(pipe.socket, ssl.SSLSocket)
            assert pipe.socket.selected_alpn_protocol() == "h2"
            assert client.ask(bytes(100_000)).data == message(bytes(100_000))
            assert client.ask(b"3000000", "/t/Big").data == message(bytes(3_000_000))
            server.drain()
            assert pipe.receive()[3] == GOAWAY
        wait_until(lambda: not server.connections)


def test_last_words_over_tls(tls: tuple[ssl.SSLContext, ssl.SSLContext]) -> None:
    """A GOAWAY, and HTTP/1.1's answer, though TLS has no half-closed connections; the server closes soon after."""
    with endpoint(QUICK_END, tls[0]) as server:
        for sent, told in ((PREFACE + frame(PING), b"SETTINGS"), (b"GET / HTTP/1.1\r\n\r\n", b"HTTP/1.1 505")):
            with SocketPipe(server.address, tls[1]) as pipe:
                pipe.send(sent)
                assert told in b"".join(iter(pipe.receive, b""))
        wait_until(lambda: not server.connections)


def test_a_slow_reader_over_tls_holds_up_only_itself(tls: tuple[ssl.SSLContext, ssl.SSLContext]) -> None:
    """Its answers wait in bounded memory."""
    with endpoint(tls=tls[0]) as server, SocketPipe(server.address, tls[1]) as pipe:
        slow = Client(pipe, INITIAL_WINDOW_SIZE=2**31 - 1)
        slow.h2.increment_flow_control_window(2**30)
        slow.flush()
        number = slow.begin(b"30000000", "/t/Big")
        (connection,) = server.connections
        wait_until(lambda: server.run(lambda: connection._paused))
        assert server.run(connection.transport.get_write_buffer_size) < 2**22
        with SocketPipe(server.address, tls[1]) as another:
            assert Client(another).ask(b"x").status == 0
        assert slow.answer(number).data == message(bytes(30_000_000))


@pytest.mark.parametrize("sent", [PREFACE[:10], PREFACE + settings() + call(1)[:30]], ids=["preface", "call"])
def test_tls_connections_that_break_leave_nothing(tls: tuple[ssl.SSLContext, ssl.SSLContext], sent: bytes) -> None:
    """Without a close_notify."""
    with endpoint(tls=tls[0]) as server:
        with SocketPipe(server.address, tls[1]) as pipe:
            pipe.send(sent)
        wait_until(lambda: not server.connections)

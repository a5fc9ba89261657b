"""How connections begin in TLS: greetings, places, and what becomes of those that do not go on."""

from __future__ import annotations

import asyncio
import logging
import socket
import ssl
import time
from typing import cast

import pytest

from serving.embedded.admission.connections import Connections, Seat
from serving.embedded.workers import handshakes
from serving.embedded.workers.handshakes import Handshakes
from tests.support.event_loops import run, until
from tests.support.tls_contexts import tls_contexts


@pytest.fixture(scope="module")
def tls() -> tuple[ssl.SSLContext, ssl.SSLContext]:
    """The server's and the client's side."""
    return tls_contexts()


class Protocol(asyncio.Protocol):
    """One connection; it is noted once its handshake is done."""

    def __init__(self, bench: Bench, seat: Seat) -> None:
        self._bench = bench
        self._seat = seat

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Begins."""
        self._bench.made.append((self._seat, cast("asyncio.Transport", transport)))


class Bench:
    """The handshakes of a port. seconds: for each half of one. total: how many connections there may be."""

    def __init__(self, context: ssl.SSLContext, seconds: float = 10, total: int = 0) -> None:
        self.made: list[tuple[Seat, asyncio.Transport]] = []
        self.contexts = 0
        self.connections = Connections(total, 0, time.monotonic)
        self._context = context
        self.handshakes = Handshakes(self._next_context, seconds, self.connections, lambda seat: Protocol(self, seat))

    def connect(self) -> socket.socket:
        """A client whose connection begins."""
        ours, theirs = socket.socketpair()
        ours.setblocking(False)
        theirs.setblocking(False)
        self.handshakes.begin(theirs, "10.0.0.1")
        return ours

    def _next_context(self) -> ssl.SSLContext:
        self.contexts += 1
        return self._context


async def is_hung_up_on(client: socket.socket) -> bool:
    """Whether the server closes a connection; what it says before is passed over."""
    try:
        while await asyncio.wait_for(asyncio.get_running_loop().sock_recv(client, 4096), 10):
            pass
    except ConnectionResetError:
        pass
    return True


def test_a_connection_keeps_its_seat_from_its_beginning(tls: tuple[ssl.SSLContext, ssl.SSLContext]) -> None:
    """Its protocol begins after the handshake, with the context of that moment."""

    async def work() -> None:
        bench = Bench(tls[0])
        client = bench.connect()
        assert (len(bench.connections), bench.contexts) == (1, 0)
        _, writer = await asyncio.open_connection(sock=client, ssl=tls[1], server_hostname="localhost")
        await until(lambda: bench.made)
        ((seat, transport),) = bench.made
        assert (seat.address, bench.contexts, len(bench.connections)) == ("10.0.0.1", 1, 1)
        assert transport.get_extra_info("ssl_object") is not None
        await bench.handshakes.close(0.1)
        assert not transport.is_closing()
        writer.close()
        await until(transport.is_closing)

    run(work())


def test_who_says_nothing_is_hung_up_on_and_gives_the_seat_back(tls: tuple[ssl.SSLContext, ssl.SSLContext]) -> None:
    """After the time for the greeting; no context is made for it."""

    async def work() -> None:
        bench = Bench(tls[0], seconds=0.05)
        begin = time.monotonic()
        with bench.connect() as client:
            assert await is_hung_up_on(client)
        assert time.monotonic() - begin >= 0.05
        assert (len(bench.connections), bench.contexts) == (0, 0)

    run(work())


@pytest.mark.parametrize("greeting", [b"GET / HTTP/1.1\r\n\r\n", b"\x16\x03\x01"], ids=["no TLS", "too slow"])
def test_a_handshake_that_fails_is_noted_and_gives_the_seat_back(
    greeting: bytes, tls: tuple[ssl.SSLContext, ssl.SSLContext], caplog: pytest.LogCaptureFixture
) -> None:
    """For want of TLS, and when the rest does not come in as much time again."""

    async def work() -> None:
        bench = Bench(tls[0], seconds=0.1)
        with bench.connect() as client:
            client.send(greeting)
            assert await is_hung_up_on(client)
            await until(lambda: not len(bench.connections))
        assert bench.made == []

    with caplog.at_level(logging.INFO, handshakes.__name__):
        run(work())
    (record,) = caplog.records
    assert record.getMessage().startswith("a connection ended in its handshake: ")


def test_a_connection_without_a_place_is_closed_at_once(tls: tuple[ssl.SSLContext, ssl.SSLContext]) -> None:
    """One that has said nothing makes way for it where there is one."""

    async def work() -> None:
        bench = Bench(tls[0], total=1)
        silent = bench.connect()
        stranger = bench.connect()
        assert await is_hung_up_on(silent)
        assert len(bench.connections) == 1
        stranger.send(b"\x16\x03\x01")
        await until(lambda: bench.contexts)
        newcomer = bench.connect()
        # The handshake is cancelled where it is.
        assert await is_hung_up_on(stranger)
        assert len(bench.connections) == 1
        seat = bench.connections.enter("10.0.0.2", lambda: None)
        assert seat is not None
        assert await is_hung_up_on(newcomer)
        bench.connections.work(seat)
        turned_away = bench.connect()
        assert await is_hung_up_on(turned_away)
        for client in (silent, stranger, newcomer, turned_away):
            client.close()

    run(work())


def test_four_greetings_are_answered_in_a_turn_the_newest_first(tls: tuple[ssl.SSLContext, ssl.SSLContext]) -> None:
    """Each begins as its turn comes."""

    async def work() -> None:
        bench = Bench(tls[0])
        clients = [bench.connect() for _ in range(10)]
        for client in clients:
            client.send(b"GET / HTTP/1.1\r\n\r\n")
        begun: list[int] = []
        while len(begun) < 20 and bench.contexts < 10:
            await asyncio.sleep(0)
            if bench.contexts and (not begun or begun[-1] != bench.contexts):
                begun.append(bench.contexts)
        assert begun == [4, 8, 10]
        for client in clients:
            assert await is_hung_up_on(client)
            client.close()
        await until(lambda: not len(bench.connections))

    run(work())


def test_the_end_of_a_port_gives_handshakes_under_way_a_while(tls: tuple[ssl.SSLContext, ssl.SSLContext]) -> None:
    """And none to connections that have said nothing."""

    async def work() -> None:
        bench = Bench(tls[0])
        silent, begun = bench.connect(), bench.connect()
        begun.send(b"\x16\x03\x01")
        await until(lambda: bench.contexts)
        begin = time.monotonic()
        await bench.handshakes.close(0.05)
        assert 0.05 <= time.monotonic() - begin < 5
        assert await is_hung_up_on(silent)
        assert len(bench.connections) == 1
        begun.close()
        silent.close()
        await until(lambda: not len(bench.connections))
        begin = time.monotonic()
        await bench.handshakes.close(30)
        assert time.monotonic() - begin < 5

    run(work())

"""How a port's connections are accepted, and how they end with it."""

from __future__ import annotations

import asyncio
import errno
import logging
import socket
import ssl
import time
from typing import Any, cast

import pytest

from serving.embedded.admission.connections import Connections
from serving.embedded.workers import acceptor
from serving.embedded.workers.acceptor import Acceptor, drain
from serving.embedded.workers.handshakes import Handshakes
from serving.embedded.workers.sockets import Port
from tests.support.event_loops import run, until


class Protocol(asyncio.Protocol):
    """One connection, which is among `made` from its beginning."""

    def __init__(self, made: list[asyncio.Transport] | None = None) -> None:
        self._made = [] if made is None else made

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Begins."""
        self._made.append(cast("asyncio.Transport", transport))


class Failing(socket.socket):
    """A listener whose first accepts fail. errors: with which."""

    errors: list[OSError]

    def accept(self) -> tuple[socket.socket, Any]:
        """Fails, or accepts."""
        if self.errors:
            raise self.errors.pop(0)
        return super().accept()


def listener(*errors: OSError) -> socket.socket:
    """A listener on a free port."""
    with Port("127.0.0.1", 0).listen("REST") as plain:
        failing = Failing(fileno=plain.detach())
    failing.errors = list(errors)
    return failing


def test_each_connection_has_a_protocol_of_its_own() -> None:
    """Small packets are sent at once, and nothing blocks."""

    async def work() -> None:
        made: list[asyncio.Transport] = []
        port = listener()
        accepting = Acceptor(port, lambda: Protocol(made))
        assert not port.getblocking()
        with (
            socket.create_connection(port.getsockname()) as first,
            socket.create_connection(port.getsockname()) as second,
        ):
            await until(lambda: len(made) == 2)
            names = {transport.get_extra_info("peername") for transport in made}
            assert names == {first.getsockname(), second.getsockname()}
            for transport in made:
                own = transport.get_extra_info("socket")
                assert own.getsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY) == 1
                assert own.gettimeout() == 0
            await accepting.close()
            assert port.fileno() == -1
        for transport in made:
            transport.abort()

    run(work())


def test_what_the_kernel_has_taken_is_accepted_before_the_port_closes() -> None:
    """However many there are; whoever comes later is refused."""

    async def work() -> None:
        made: list[asyncio.Transport] = []
        port = listener()
        accepting = Acceptor(port, lambda: Protocol(made))
        address = port.getsockname()
        clients = [socket.create_connection(address) for _ in range(150)]
        assert made == []
        await accepting.close()
        assert len(made) == 150
        with pytest.raises(ConnectionRefusedError):
            socket.create_connection(address)
        for transport, client in zip(made, clients, strict=True):
            transport.abort()
            client.close()

    run(work())


def test_a_connection_that_was_given_up_while_it_waited_is_passed_over() -> None:
    """Those behind it are accepted at once."""

    async def work() -> None:
        made: list[asyncio.Transport] = []
        port = listener(ConnectionAbortedError(), ConnectionResetError())
        accepting = Acceptor(port, lambda: Protocol(made))
        with socket.create_connection(port.getsockname()):
            await until(lambda: made)
            await accepting.close()
        made[0].abort()

    run(work())


def test_accepting_rests_while_there_are_no_descriptors(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """And is tried again after a while; the log says why connections wait."""
    monkeypatch.setattr(acceptor, "_REST_SECONDS", 0.05)

    async def work() -> None:
        made: list[asyncio.Transport] = []
        port = listener(*[OSError(errno.EMFILE, "Too many open files")] * 2)
        accepting = Acceptor(port, lambda: Protocol(made))
        begin = time.monotonic()
        with socket.create_connection(port.getsockname()):
            await until(lambda: made)
            assert time.monotonic() - begin >= 0.1
            await accepting.close()
        made[0].abort()

    with caplog.at_level(logging.WARNING):
        run(work())
    text = "connections wait to be accepted: [Errno 24] Too many open files"
    assert [record.getMessage() for record in caplog.records] == [text, text]


def test_a_port_that_closes_while_accepting_rests_stays_closed(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """Also where descriptors are missing as it closes."""
    monkeypatch.setattr(acceptor, "_REST_SECONDS", 0.01)

    async def work() -> None:
        made: list[asyncio.Transport] = []
        port = listener(*[OSError(errno.EMFILE, "Too many open files")] * 2)
        accepting = Acceptor(port, lambda: Protocol(made))
        with socket.create_connection(port.getsockname()):
            await until(lambda: caplog.records)
            await accepting.close()
            assert len(caplog.records) == 2
            assert port.fileno() == -1
            # Its rest is over then.
            await asyncio.sleep(0.03)
            assert made == []

    run(work())


def test_a_connection_that_cannot_begin_is_closed(caplog: pytest.LogCaptureFixture) -> None:
    """The log says so; the others go on."""

    async def work() -> None:
        made: list[asyncio.Transport] = []
        fails = [True]

        def protocol() -> Protocol:
            if fails.pop() if fails else False:
                raise OSError(errno.ENOTCONN, "Transport endpoint is not connected")
            return Protocol(made)

        port = listener()
        accepting = Acceptor(port, protocol)
        with socket.create_connection(port.getsockname()) as first:
            await until(lambda: caplog.records)
            first.setblocking(False)
            assert await asyncio.get_running_loop().sock_recv(first, 1) == b""
            with socket.create_connection(port.getsockname()):
                await until(lambda: made)
                await accepting.close()
        made[0].abort()

    with caplog.at_level(logging.INFO, acceptor.__name__):
        run(work())
    assert [record.getMessage() for record in caplog.records] == [
        "a connection ended before it began: [Errno 107] Transport endpoint is not connected"
    ]


def test_connections_that_begin_with_a_handshake_are_known_by_their_address() -> None:
    """The limit of an address counts them from their beginning."""

    async def work() -> None:
        port = listener()
        connections = Connections(0, 1, time.monotonic)
        context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
        accepting = Acceptor(port, Protocol, Handshakes(lambda: context, 10, connections, lambda _: Protocol([])))
        clients = [await asyncio.open_connection(*port.getsockname()) for _ in range(3)]
        for reader, _ in clients[:2]:
            assert await asyncio.wait_for(reader.read(), 10) == b""
        assert len(connections) == 1
        await accepting.close()
        assert await asyncio.wait_for(clients[2][0].read(), 10) == b""
        for _, writer in clients:
            writer.close()

    run(work())


class Draining:
    """A connection that goes when it is drained, or only when it is closed."""

    def __init__(self, among: set[Draining], told: list[str], name: str, *, stays: bool = False) -> None:
        self._among = among
        self._told = told
        self._name = name
        self._stays = stays
        among.add(self)

    def drain(self) -> None:
        """As the acceptor has it."""
        self._told.append(f"drain {self._name}")
        if not self._stays:
            asyncio.get_running_loop().call_later(0.01, self._among.discard, self)

    def abort(self) -> None:
        """As the acceptor has it."""
        self._told.append(f"abort {self._name}")
        self._among.discard(self)


def test_connections_that_end_in_time_are_not_aborted() -> None:
    """The end comes with the last of them, whatever the grace."""
    among, told = set[Draining](), list[str]()
    for name in "ab":
        Draining(among, told, name)
    begin = time.monotonic()
    asyncio.run(drain(among, 30))
    assert time.monotonic() - begin < 10
    assert sorted(told) == ["drain a", "drain b"]


def test_connections_that_stay_are_aborted_after_the_grace() -> None:
    """Those alone."""
    among, told = set[Draining](), list[str]()
    Draining(among, told, "a")
    Draining(among, told, "b", stays=True)
    begin = time.monotonic()
    asyncio.run(drain(among, 0.1))
    assert 0.1 <= time.monotonic() - begin < 10
    assert sorted(told) == ["abort b", "drain a", "drain b"]
    assert not among

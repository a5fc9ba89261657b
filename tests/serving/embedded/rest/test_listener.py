"""The REST port itself: how it opens, how it ends, and what it does from time to time."""

from __future__ import annotations

import asyncio
import gc
import re
import weakref

import pytest

from serving.embedded.access.tokens import FOR_ANYONE
from serving.embedded.admission import Admission
from serving.embedded.admission.budget import Budget
from serving.embedded.admission.connections import Connections
from serving.embedded.limits import Limits
from serving.embedded.observe.calls import Interceptor, Operation
from serving.embedded.offload import Offload
from serving.embedded.rest import listener
from serving.embedded.rest.application import RestApplication
from serving.embedded.rest.listener import RestListener
from serving.embedded.rest.routes import Reply, Request, Route
from serving.embedded.workers.sockets import Port
from tests.support.event_loops import run
from tests.support.http1_server import request

Client = tuple[asyncio.StreamReader, asyncio.StreamWriter]


class Server:
    """A REST port on which /wait is answered once `release` is set, and everything else at once."""

    def __init__(self, limits: Limits = Limits(), port: int = 0) -> None:  # noqa: B008 - a constant
        self.begun, self.release = asyncio.Event(), asyncio.Event()
        loop = asyncio.get_running_loop()
        self.admission = Admission(limits, Budget(0, loop.time), Connections(0, 0, loop.time))

        async def answer(request: Request) -> Reply:
            if request.http.target == "/wait":
                self.begun.set()
                await self.release.wait()
            return Reply(b"answered")

        routes = [Route(Operation("REST", "Any", FOR_ANYONE), (), re.compile(".*"), answer)]
        application = RestApplication(Interceptor(list), routes, limits, Offload(), cors=False)
        self.listener = RestListener(Port("127.0.0.1", port), application, None, self.admission)
        self.number = 0

    async def start(self) -> None:
        """Opens the port."""
        host, _, number = (await self.listener.start()).partition(":")
        assert host == "127.0.0.1"
        self.number = int(number)

    async def connect(self, data: bytes) -> Client:
        """A client that has sent something."""
        reader, writer = await asyncio.open_connection("127.0.0.1", self.number)
        writer.write(data)
        return reader, writer


async def told(client: Client) -> bytes:
    """All that a client is told until its connection ends."""
    reader, writer = client
    try:
        return await asyncio.wait_for(reader.read(), 10)
    finally:
        writer.close()


def test_a_port_that_stops_answers_what_has_arrived() -> None:
    """A request under way is answered within the grace, and closes its connection; whoever comes later is refused."""

    async def work() -> None:
        server = Server()
        await server.start()
        client = await server.connect(request("/wait"))
        await asyncio.wait_for(server.begun.wait(), 10)
        stopping = asyncio.create_task(server.listener.stop(30))
        waiting = await server.connect(request())
        assert b"connection: close\r\n" in await told(waiting)
        assert not stopping.done()
        server.release.set()
        answer = await told(client)
        assert answer.startswith(b"HTTP/1.1 200 OK\r\n")
        assert answer.endswith(b"answered")
        assert b"connection: close\r\n" in answer
        await asyncio.wait_for(stopping, 10)
        with pytest.raises(ConnectionRefusedError):
            await server.connect(b"")
        assert len(server.admission.connections) == 0

    run(work())


def test_a_port_that_stops_gives_up_what_takes_longer_than_the_grace() -> None:
    """Its connection ends without an answer, and with it its call."""

    async def work() -> None:
        server = Server()
        await server.start()
        client = await server.connect(request("/wait"))
        await asyncio.wait_for(server.begun.wait(), 10)
        await asyncio.wait_for(server.listener.stop(0.05), 10)
        assert await told(client) == b""
        assert len(server.admission.connections) == 0

    run(work())


def test_connections_are_held_to_their_times(monkeypatch: pytest.MonkeyPatch) -> None:
    """Again and again: of several, each when its time has come."""
    monkeypatch.setattr(listener, "_CHECK_SECONDS", 0.01)

    async def work() -> None:
        server = Server(Limits(header_timeout_seconds=0.05))
        await server.start()
        assert await told(await server.connect(b"")) == b""
        answer = await told(await server.connect(b"GET / HT"))
        assert answer.startswith(b"HTTP/1.1 408 Request Timeout\r\n")
        await server.listener.stop(1)

    run(work())


def test_a_port_that_has_stopped_is_looked_after_no_more() -> None:
    """Nothing keeps it."""

    async def work() -> None:
        server = Server()
        await server.start()
        await server.listener.stop(1)
        ended = weakref.ref(server.listener)
        del server
        gc.collect()
        assert ended() is None

    run(work())


def test_a_port_that_never_opened_has_nothing_to_stop() -> None:
    """As when the server's start fails before."""

    async def work() -> None:
        await Server().listener.stop(1)

    run(work())

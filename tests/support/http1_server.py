"""The REST port's connections for their tests: a protocol on a simulated loop, without models, sockets or waiting."""

from __future__ import annotations

import asyncio
import re
import socket
from collections.abc import Mapping

from serving.apis.status import Code
from serving.embedded.access.tokens import FOR_ANYONE
from serving.embedded.admission import Admission
from serving.embedded.admission.budget import Budget
from serving.embedded.admission.connections import Connections
from serving.embedded.limits import Limits
from serving.embedded.observe.calls import Call, Interceptor, Operation
from serving.embedded.offload import Offload
from serving.embedded.rest.application import RestApplication
from serving.embedded.rest.protocol import RestProtocol
from serving.embedded.rest.routes import Reply, Request, Route
from tests.support.http2_server import SimulatedLoop, SimulatedTransport


class Port:
    """A REST port with a few routes, and what became of its calls.

    /echo gives the body back; /wait answers when `release` is called; /big gives `big` back.
    """

    def __init__(self, loop: SimulatedLoop, limits: Limits | None = None, *, total: int = 0, each: int = 0) -> None:
        self.loop = loop
        self.calls: list[tuple[str, Code]] = []
        # Who asked each, and whether what is admitted was told of a client's certificate.
        self.peers: list[str] = []
        self.certified: list[bool] = []
        self.big = b""
        limits = limits or Limits()
        self.admission = Admission(
            limits, Budget(limits.max_bytes_in_flight, loop.time), Connections(total, each, loop.time)
        )
        self._released = asyncio.Event()
        interceptor = Interceptor(list, budget=self.admission.budget, access_log=self._note, max_concurrent=2)
        self.application = RestApplication(interceptor, self._routes(), limits, Offload(), cors=False)
        self.connections: set[RestProtocol] = set()

    def connect(self, address: str | None = "127.0.0.1", tls: Mapping[str, object] | None = None) -> Client:
        """A client that has connected. address: None for one that had gone. tls: as `SimulatedTransport` has it."""
        return Client(self, self.loop.run_until_complete(self._opened()), address, tls)

    def release(self) -> None:
        """Answers those that wait."""
        self._released.set()
        self.loop.pass_time()

    def pass_time(self, seconds: float) -> None:
        """Lets time go by, and holds connections to it."""
        self.loop.pass_time(seconds)
        for connection in list(self.connections):
            connection.check_time()
        self.loop.pass_time()

    async def _opened(self) -> RestProtocol:
        return RestProtocol(
            self.application.answer,
            self.application.refuse,
            self.admission,
            self.connections,
            self._admit,
            self.loop.time,
        )

    def _admit(self, method: str, target: str, headers: Mapping[bytes, bytes], certified: bool) -> str:
        self.certified.append(certified)
        return self.application.admit(method, target, headers, certified)

    def _note(self, call: Call) -> None:
        self.calls.append((call.operation.name, call.code))
        self.peers.append(call.peer())

    def _routes(self) -> list[Route]:
        async def echo(request: Request) -> Reply:
            return Reply(request.http.method.encode() + b" " + bytes(request.http.take_body()))

        async def wait(request: Request) -> Reply:
            await self._released.wait()
            return Reply(b"waited")

        async def big(_: Request) -> Reply:
            return Reply(self.big)

        def route(name: str, path: str, handler: object, *, counts: bool = True) -> Route:
            return Route(Operation("REST", name, FOR_ANYONE, counts=counts), (), re.compile(path), handler)  # type: ignore[arg-type]

        return [
            route("Wait", "/wait", wait),
            route("Big", "/big", big),
            route("Probe", "/healthz", echo, counts=False),
            route("Echo", ".*", echo),
        ]


class Client:
    """A connection, from the client's side."""

    def __init__(
        self, port: Port, protocol: RestProtocol, address: str | None, tls: Mapping[str, object] | None = None
    ) -> None:
        self.port = port
        self.protocol = protocol
        peer_name = None if address is None else (address, 50514)
        self.transport = SimulatedTransport(protocol, port.loop, peer_name, tls)
        protocol.connection_made(self.transport)
        port.loop.pass_time()

    def send(self, data: bytes) -> None:
        """More bytes of the client."""
        self.transport.deliver(data)
        self.port.loop.pass_time()

    def read(self) -> bytes:
        """What the server has said since the last time, and goes on to say once that is read."""
        data = b""
        while self.transport.unread:
            data += self.transport.read()
            self.port.loop.pass_time()
        return data

    def ask(self, data: bytes) -> bytes:
        """Sends, and reads what is said to it."""
        self.send(data)
        return self.read()

    def is_open(self) -> bool:
        """Whether the server would take another request."""
        return not self.transport.at_end


def request(
    target: str = "/echo", body: bytes = b"", *headers: str, method: str = "POST", version: str = "1.1"
) -> bytes:
    """A request with a Host and a Content-Length."""
    lines = [f"{method} {target} HTTP/{version}", "Host: here", f"Content-Length: {len(body)}", *headers]
    return "\r\n".join(lines).encode() + b"\r\n\r\n" + body


def raw_request(port: int, data: bytes) -> bytes:
    """What a live server on this machine answers these bytes with, until it closes."""
    with socket.create_connection(("127.0.0.1", port), timeout=10) as connection:
        connection.sendall(data)
        return b"".join(iter(lambda: connection.recv(4096), b""))

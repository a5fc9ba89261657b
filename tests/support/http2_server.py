"""The gRPC port's side for its tests, without models: a connection's state alone, on a simulated loop, or live.

`Memory` and `Simulated` need no socket, no thread and no waiting: a test moves their clocks.
"""

from __future__ import annotations

import asyncio
import contextlib
import socket
import ssl
import threading
from collections.abc import AsyncIterator, Callable, Coroutine, Iterator, Mapping
from contextlib import contextmanager
from typing import Any, TypeAlias, TypeVar

import uvloop

from fashion_common.trace_context import TraceContext
from serving.apis.status import Code
from serving.embedded.admission import Admission
from serving.embedded.admission.budget import Budget
from serving.embedded.grpc.connection import Connection
from serving.embedded.grpc.events import (
    Event,
    InputEnded,
    MessageReceived,
    MessagesSent,
    RequestReceived,
    StreamOpened,
)
from serving.embedded.grpc.messages import Message
from serving.embedded.grpc.options import ConnectionOptions
from serving.embedded.grpc.protocol import GrpcProtocol
from serving.embedded.grpc.stream import Method, Stream
from serving.errors import ServingError

T = TypeVar("T")
Address: TypeAlias = "tuple[str, int] | str"

SECONDS = 10


class Call:
    """What a handler of the tests keeps of its call."""

    code = Code.OK
    request_id = "id"
    trace = TraceContext("1" * 32, "2" * 16)


class Methods:
    """Methods to call. Of those that wait: how many were begun and cancelled, and their calls."""

    def __init__(self) -> None:
        self.begun = 0
        self.cancelled = 0
        self.calls: list[Call] = []

    def by_path(self) -> dict[str, Method]:
        """All of them."""
        return {
            "/t/Echo": Method(self._echo),
            "/t/Big": Method(self._big),
            "/t/Wait": Method(self._wait),
            "/t/Fail": Method(self._fail),
            "/t/EchoAll": Method(None, self._echo_all),
            "/t/Endless": Method(None, self._endless),
            "/t/Watch": Method(None, self._watch),
            "/t/Stubborn": Method(None, self._stubborn),
        }

    async def _echo(self, data: Message, stream: Stream) -> bytes:
        return unpacked(data)

    async def _big(self, data: Message, stream: Stream) -> bytes:
        return bytes(int(unpacked(data)))

    async def _fail(self, data: Message, stream: Stream) -> bytes:
        raise ValueError(unpacked(data).decode())

    async def _wait(self, data: Message, stream: Stream) -> bytes:
        with self._counted(stream):
            await asyncio.Event().wait()
        raise AssertionError

    async def _echo_all(self, incoming: AsyncIterator[Message], stream: Stream) -> AsyncIterator[bytes]:
        async for data in incoming:
            yield unpacked(data)

    async def _endless(self, incoming: AsyncIterator[Message], stream: Stream) -> AsyncIterator[bytes]:
        while True:
            yield bytes(1000)

    async def _watch(self, incoming: AsyncIterator[Message], stream: Stream) -> AsyncIterator[bytes]:
        with self._counted(stream):
            yield b"begun"
            await asyncio.Event().wait()

    async def _stubborn(self, incoming: AsyncIterator[Message], stream: Stream) -> AsyncIterator[bytes]:
        yield b"begun"
        with contextlib.suppress(asyncio.CancelledError):
            await asyncio.Event().wait()
        yield b"still here"

    @contextmanager
    def _counted(self, stream: Stream) -> Iterator[None]:
        self.begun += 1
        stream.call = call = Call()
        self.calls.append(call)
        try:
            yield
        except (asyncio.CancelledError, GeneratorExit):
            self.cancelled += 1
            raise


def unpacked(message: Message) -> bytes:
    """The bytes of a message. Raises ServingError."""
    if isinstance(message, bytes):
        return message
    while not message.is_unpacked:
        message.unpack(1000)
    return bytes(message.joined())


class Memory:
    """A connection without any transport. What `Methods` do is done as soon as its bytes are asked for.

    woken: how often the connection has said that it has something to say by itself.
    """

    def __init__(self, options: ConnectionOptions | None = None, budget: Budget | None = None) -> None:
        self.budget = budget or Budget(0, lambda: 0.0)
        self.woken = 0
        self.now = 0.0
        self.connection = Connection(
            Methods().by_path(), options or ConnectionOptions(), lambda: "memory", self.budget, self._wake
        )
        self.events: list[Event] = []

    @property
    def ended(self) -> bool:
        """Whether the server has said its last word, and all of it was received."""
        return self.connection.closed and not self.connection.calls.outbox._frames

    def send(self, data: bytes) -> None:
        """The peer's bytes."""
        self.connection.receive_data(data, self.now)
        while self.connection.has_more:
            self.connection.receive_more(self.now)

    def receive(self) -> bytes:
        """All that the server has to say."""
        data = b""
        while True:
            while self.connection.events:
                self._answer(self.connection.events.popleft())
            more = self.connection.data_to_send()
            if not more and not self.connection.events:
                return data
            data += more

    def _wake(self) -> None:
        self.woken += 1

    def _answer(self, event: Event) -> None:
        self.events.append(event)
        try:
            self._answer_now(event)
        except ServingError as error:
            self.connection.calls.fail(event.stream, error)

    def _answer_now(self, event: Event) -> None:
        calls = self.connection.calls
        stream = event.stream
        match (stream.path, event):
            case ("/t/Echo", RequestReceived()):
                calls.answer(stream, unpacked(stream.take_message()))
            case ("/t/Big", RequestReceived()):
                calls.answer(stream, bytes(int(unpacked(stream.take_message()))))
            case ("/t/EchoAll", MessageReceived(_, message)):
                calls.message_taken(stream, message)
                calls.send(stream, unpacked(message))
            case ("/t/EchoAll", InputEnded()):
                calls.end(stream)
            case ("/t/Endless", StreamOpened() | MessagesSent()):
                calls.send(stream, bytes(1000))
            case ("/t/Watch", StreamOpened()):
                calls.send(stream, b"begun")


class SimulatedLoop(asyncio.SelectorEventLoop):
    """An event loop whose clock stands still until a test moves it."""

    def __init__(self) -> None:
        self._seconds = 0.0
        self.errors: list[dict[str, Any]] = []
        super().__init__()
        self.set_exception_handler(lambda _, context: self.errors.append(context))

    def time(self) -> float:
        """Seconds since the beginning."""
        return self._seconds

    def pass_time(self, seconds: float = 0.0) -> None:
        """Moves the clock, and runs whatever is due then and what follows from it at once."""
        self._seconds += seconds
        turns = 20
        while turns or self._ready:  # type: ignore[attr-defined] # asyncio's own
            turns = max(0, turns - 1)
            self.call_soon(self.stop)
            self.run_forever()


class SimulatedTransport(asyncio.Transport):
    """Keeps what is written until it is read, and asks its protocol to pause when that is more than it may be.

    tls: what else is known of a connection in TLS, such as `peercert`; None for one without.
    """

    def __init__(
        self,
        protocol: asyncio.Protocol,
        loop: SimulatedLoop,
        peer_name: object,
        tls: Mapping[str, object] | None = None,
    ) -> None:
        super().__init__({"socket": self, "peername": peer_name} | ({"ssl_object": self, **tls} if tls else {}))
        # Those of the socket.
        self.options: list[tuple[int, ...]] = []
        self.writes = 0
        self._is_encrypted = bool(tls)
        # A UNIX socket's peer has no name.
        is_old = not isinstance(peer_name, tuple) or ":" not in peer_name[0]
        self.family = socket.AF_UNIX if peer_name == "" else socket.AF_INET if is_old else socket.AF_INET6
        self.unread = bytearray()
        self.undelivered = b""
        self.reads = True
        self.at_end = False
        self._protocol = protocol
        self._loop = loop
        self.closed = False
        self._high = 0
        self._paused = False

    def setsockopt(self, *option: int) -> None:
        """As a socket."""
        self.options.append(option)

    def set_write_buffer_limits(self, high: int | None = None, low: int | None = None) -> None:
        """The most that may wait for the peer before the protocol is paused."""
        assert high is not None
        assert high >= 0
        self._high = high

    def write(self, data: bytes | bytearray | memoryview[Any]) -> None:
        """More."""
        assert not self.at_end
        self.writes += 1
        self.unread += data
        if len(self.unread) > self._high and not self._paused:
            self._paused = True
            self._protocol.pause_writing()

    def get_write_buffer_size(self) -> int:
        """What waits for the peer."""
        return len(self.unread)

    def read(self) -> bytes:
        """What the peer reads: everything."""
        data = bytes(self.unread)
        self.unread.clear()
        if self._paused:
            self._paused = False
            self._protocol.resume_writing()
        return data

    def deliver(self, data: bytes) -> None:
        """What the peer sends; kept while the protocol does not read."""
        self.undelivered += data
        if self.reads and self.undelivered and not self.closed:
            data, self.undelivered = self.undelivered, b""
            self._protocol.data_received(data)

    def pause_reading(self) -> None:
        """The peer's bytes wait."""
        self.reads = False

    def resume_reading(self) -> None:
        """The peer's bytes come again."""
        self.reads = True
        self._loop.call_soon(self.deliver, b"")

    def can_write_eof(self) -> bool:
        """As TCP, and not as TLS."""
        return not self._is_encrypted

    def write_eof(self) -> None:
        """The last word is said."""
        assert not self.at_end
        self.at_end = True

    def is_closing(self) -> bool:
        """Whether it is closed."""
        return self.closed

    def close(self) -> None:
        """Ends both ways."""
        if not self.closed:
            self.closed = self.at_end = True
            self._loop.call_soon(self._protocol.connection_lost, None)

    def abort(self) -> None:
        """The same, and drops what is unread."""
        self.unread.clear()
        self.close()


class Simulated:
    """A protocol on a simulated loop and transport."""

    def __init__(
        self,
        loop: SimulatedLoop,
        options: ConnectionOptions | None = None,
        peer_name: object = ("127.0.0.1", 50514),
        admission: Admission | None = None,
    ) -> None:
        self._admission = admission
        self.methods = Methods()
        self.refused: list[tuple[Stream, Exception]] = []
        self.connections: set[GrpcProtocol] = set()
        self.loop = loop
        self.protocol = loop.run_until_complete(self._opened(options or ConnectionOptions()))
        self.transport = SimulatedTransport(self.protocol, loop, peer_name)
        self.protocol.connection_made(self.transport)

    async def _opened(self, options: ConnectionOptions) -> GrpcProtocol:
        def refused(stream: Stream, error: Exception) -> None:
            self.refused.append((stream, error))

        return GrpcProtocol(self.methods.by_path(), options, self.connections, refused, self.loop.time, self._admission)

    @property
    def ended(self) -> bool:
        """Whether the server has closed its side, and all that it sent is read."""
        return self.transport.at_end and not self.transport.unread

    def is_open(self) -> bool:
        """Whether the server counts the connection among its own."""
        return self.protocol in self.connections

    def send(self, data: bytes) -> None:
        """The peer's bytes."""
        self.transport.deliver(data)
        self.loop.pass_time()

    def receive(self) -> bytes:
        """All that the server says now."""
        self.loop.pass_time()
        return self.transport.read()

    def close(self) -> None:
        """The peer goes away."""
        self.transport.close()
        self.loop.pass_time()

    def under_way(self) -> tuple[int, int]:
        """How many calls the connection has, and how many handlers run."""
        return len(self.protocol.connection.calls), len(self.protocol._tasks)


@contextmanager
def simulated_loop() -> Iterator[SimulatedLoop]:
    """A loop. Fails when a callback or a task let an exception pass."""
    loop = SimulatedLoop()
    try:
        yield loop
        loop.run_until_complete(_stop_tasks())
    finally:
        loop.close()
    assert not loop.errors


async def _stop_tasks() -> None:
    """Cancels every task but this, and lets generators close."""
    tasks = asyncio.all_tasks() - {asyncio.current_task()}
    for task in tasks:
        task.cancel()
    await asyncio.gather(*tasks, return_exceptions=True)
    await asyncio.get_running_loop().shutdown_asyncgens()


class Endpoint:
    """A server's connections live, in a thread of their own. address: host and port, or the path of a UNIX socket."""

    def __init__(
        self,
        address: Address,
        methods: Methods,
        connections: set[GrpcProtocol],
        loop: asyncio.AbstractEventLoop,
    ) -> None:
        self.address = address
        self.methods = methods
        self.connections = connections
        self._loop = loop

    def run(self, function: Callable[[], T]) -> T:
        """What a function gives on the server's loop."""

        async def ask() -> T:
            return function()

        return _result(ask(), self._loop)

    def drain(self) -> None:
        """The orderly end of every connection."""

        def drain() -> None:
            for connection in list(self.connections):
                connection.drain()

        self.run(drain)


def _result(coroutine: Coroutine[Any, Any, T], loop: asyncio.AbstractEventLoop) -> T:
    return asyncio.run_coroutine_threadsafe(coroutine, loop).result(SECONDS)


@contextmanager
def endpoint(
    options: ConnectionOptions | None = None, tls: ssl.SSLContext | None = None, path: str = ""
) -> Iterator[Endpoint]:
    """Connections as the server has them, with methods of the tests. Fails when one let an exception pass."""
    loop: asyncio.AbstractEventLoop = uvloop.new_event_loop()
    methods = Methods()
    errors: list[dict[str, Any]] = []
    connections: set[GrpcProtocol] = set()
    loop.set_exception_handler(lambda _, context: errors.append(context))

    def protocol() -> GrpcProtocol:
        return GrpcProtocol(methods.by_path(), options or ConnectionOptions(), connections)

    async def listen() -> asyncio.Server:
        if path:
            return await loop.create_unix_server(protocol, path)
        return await loop.create_server(protocol, "127.0.0.1", 0, ssl=tls)

    async def close() -> None:
        server.close()
        for connection in list(connections):
            connection.abort()
        await asyncio.sleep(0)
        await _stop_tasks()

    thread = threading.Thread(target=loop.run_forever)
    thread.start()
    server = _result(listen(), loop)
    try:
        yield Endpoint(path or server.sockets[0].getsockname(), methods, connections, loop)
    finally:
        _result(close(), loop)
        loop.call_soon_threadsafe(loop.stop)
        thread.join(SECONDS)
        loop.close()
    assert not errors


class SocketPipe:
    """A socket to an endpoint."""

    def __init__(self, address: Address, tls: ssl.SSLContext | None = None) -> None:
        self.ended = False
        self.socket = socket.socket(socket.AF_UNIX if isinstance(address, str) else socket.AF_INET)
        self.socket.settimeout(SECONDS)
        self.socket.connect(address)
        if tls:
            self.socket = tls.wrap_socket(self.socket, server_hostname="localhost")

    def __enter__(self) -> SocketPipe:
        return self

    def __exit__(self, *_: object) -> None:
        self.socket.close()

    def send(self, data: bytes) -> None:
        """Sends bytes."""
        self.socket.sendall(data)

    def receive(self) -> bytes:
        """The next bytes, or none at their end."""
        data = self.socket.recv(65536)
        self.ended = not data
        return data

"""Both ends for tests of the gRPC port's HTTP/2: the server's connections without models, and peers that misbehave."""

from __future__ import annotations

import asyncio
import socket
import ssl
import struct
import threading
from collections.abc import AsyncIterator, Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any, NamedTuple

import h2.config
import h2.connection
import h2.events
import h2.settings
import hpack
import uvloop

from serving.embedded.grpc.connection import ConnectionOptions, GrpcProtocol
from serving.embedded.grpc.stream import Method, Stream

SECONDS = 10
PREFACE = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"
DATA, HEADERS, PRIORITY, RST_STREAM, SETTINGS, PUSH_PROMISE, PING, GOAWAY, WINDOW_UPDATE, CONTINUATION = range(10)
END_STREAM, END_HEADERS, PADDED, WITH_PRIORITY = 1, 4, 8, 32
ACK = 1


class Frame(NamedTuple):
    """A frame as it was read."""

    kind: int
    flags: int
    number: int
    payload: bytes

    @property
    def code(self) -> int:
        """The error code of a RST_STREAM or a GOAWAY."""
        return int.from_bytes(self.payload[4:8] if self.kind == GOAWAY else self.payload, "big")


class Answer(NamedTuple):
    """What a call was answered: the headers with the trailers, and the messages' bytes. reset: the code, or None."""

    headers: dict[str, str]
    data: bytes
    reset: int | None = None

    @property
    def status(self) -> int:
        """gRPC's status."""
        return int(self.headers["grpc-status"])


def frame(kind: int, flags: int = 0, number: int = 0, payload: bytes = b"") -> bytes:
    """The bytes of a frame."""
    return struct.pack(">IBI", len(payload) << 8 | kind, flags, number) + payload


def settings(*pairs: tuple[int, int]) -> bytes:
    """A SETTINGS frame."""
    return frame(SETTINGS, 0, 0, b"".join(struct.pack(">HI", *pair) for pair in pairs))


def window_update(number: int, increment: int) -> bytes:
    """A WINDOW_UPDATE frame."""
    return frame(WINDOW_UPDATE, 0, number, increment.to_bytes(4, "big"))


def message(data: bytes, flag: int = 0) -> bytes:
    """A length-prefixed message."""
    return struct.pack(">BI", flag, len(data)) + data


def request(path: str = "/t/Echo", **changed: str | None) -> list[tuple[str, str]]:
    """A request's headers. changed: replaced, added or, by None, left out; `_` is `-`, a first `_` is `:`."""
    fields: dict[str, str | None] = {
        ":method": "POST", ":scheme": "http", ":path": path, ":authority": "test",
        "content-type": "application/grpc", "te": "trailers",
    }  # fmt: skip
    for name, value in changed.items():
        fields[(":" + name[1:] if name.startswith("_") else name).replace("_", "-")] = value
    return [(name, value) for name, value in fields.items() if value is not None]


def block(headers: Sequence[tuple[str, str]]) -> bytes:
    """A header block that uses no dynamic table."""
    return bytes(hpack.Encoder().encode([hpack.NeverIndexedHeaderTuple(*pair) for pair in headers], huffman=False))


def call(number: int, data: bytes = b"", path: str = "/t/Echo", **changed: str | None) -> bytes:
    """The frames of a whole unary call."""
    return frame(HEADERS, END_HEADERS, number, block(request(path, **changed))) + frame(
        DATA, END_STREAM, number, message(data)
    )


class Methods:
    """Methods to call, and what happened to them."""

    def __init__(self) -> None:
        self.started = threading.Semaphore(0)
        self.cancelled = threading.Semaphore(0)
        self.watching = threading.Semaphore(0)

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
        }

    async def _echo(self, data: bytes, stream: Stream) -> bytes:
        return data

    async def _big(self, data: bytes, stream: Stream) -> bytes:
        return bytes(int(data))

    async def _fail(self, data: bytes, stream: Stream) -> bytes:
        raise ValueError(data.decode())

    async def _wait(self, data: bytes, stream: Stream) -> bytes:
        self.started.release()
        try:
            await asyncio.Event().wait()
        finally:
            self.cancelled.release()
        raise AssertionError

    async def _echo_all(self, incoming: AsyncIterator[bytes], stream: Stream) -> AsyncIterator[bytes]:
        async for data in incoming:
            yield data

    async def _endless(self, incoming: AsyncIterator[bytes], stream: Stream) -> AsyncIterator[bytes]:
        while True:
            yield bytes(1000)

    async def _watch(self, incoming: AsyncIterator[bytes], stream: Stream) -> AsyncIterator[bytes]:
        self.watching.release()
        try:
            yield b"begun"
            await asyncio.Event().wait()
        finally:
            self.cancelled.release()


class Endpoint:
    """A server's connections in a thread of their own. address: host and port, or the path of a UNIX socket."""

    def __init__(self, address: Any, methods: Methods, connections: set[GrpcProtocol], loop: Any) -> None:
        self.address = address
        self.methods = methods
        self.connections = connections
        self._loop = loop

    def run(self, function: Callable[[], Any]) -> Any:
        """What a function gives on the server's loop."""

        async def ask() -> Any:
            return function()

        return asyncio.run_coroutine_threadsafe(ask(), self._loop).result(SECONDS)

    def connection(self, of: socket.socket) -> GrpcProtocol:
        """The server's end of a client's socket."""
        (found,) = [one for one in list(self.connections) if one._peer_name == of.getsockname()]
        return found

    def drain(self) -> None:
        """The orderly end of every connection."""
        self.run(lambda: [connection.drain() for connection in list(self.connections)])

    def calls(self) -> int:
        """How many calls are under way."""
        return int(self.run(lambda: sum(len(connection._calls) for connection in self.connections)))


@contextmanager
def endpoint(
    options: ConnectionOptions | None = None, tls: ssl.SSLContext | None = None, path: str = ""
) -> Iterator[Endpoint]:
    """Connections as the server has them, with methods of the tests. Fails when one let an exception pass."""
    loop, methods, unforeseen = uvloop.new_event_loop(), Methods(), []
    connections: set[GrpcProtocol] = set()
    loop.set_exception_handler(lambda _, context: unforeseen.append(context))

    def made() -> GrpcProtocol:
        return GrpcProtocol(methods.by_path(), options or ConnectionOptions(), connections)

    async def listen() -> asyncio.Server:
        if path:
            return await loop.create_unix_server(made, path)
        return await loop.create_server(made, "127.0.0.1", 0, ssl=tls)

    thread = threading.Thread(target=loop.run_forever)
    thread.start()
    server = asyncio.run_coroutine_threadsafe(listen(), loop).result(SECONDS)
    try:
        yield Endpoint(path or server.sockets[0].getsockname(), methods, connections, loop)
    finally:

        async def close() -> None:
            server.close()
            for connection in list(connections):
                connection.abort()
            await asyncio.sleep(0)
            tasks = [task for task in asyncio.all_tasks() if task is not asyncio.current_task()]
            await asyncio.wait_for(asyncio.gather(*tasks, return_exceptions=True), SECONDS)
            await loop.shutdown_asyncgens()

        asyncio.run_coroutine_threadsafe(close(), loop).result(SECONDS)
        loop.call_soon_threadsafe(loop.stop)
        thread.join(SECONDS)
        loop.close()
    assert not unforeseen


def connect(address: Any, tls: ssl.SSLContext | None = None) -> socket.socket:
    """A socket to an endpoint."""
    made = socket.socket(socket.AF_UNIX if isinstance(address, str) else socket.AF_INET)
    made.settimeout(SECONDS)
    made.connect(address)
    if made.family == socket.AF_INET:
        made.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    return tls.wrap_socket(made, server_hostname="localhost") if tls else made


class Peer:
    """A client that sends whatever it is told, and reads frames."""

    def __init__(self, address: Any, *pairs: tuple[int, int], greets: bool = True) -> None:
        self.socket = connect(address)
        self._file = self.socket.makefile("rb")
        self._decoder = hpack.Decoder()
        if greets:
            self.send(PREFACE, settings(*pairs))
            assert self.read().kind == SETTINGS
            assert self.read().kind == WINDOW_UPDATE
            assert self.read() == Frame(SETTINGS, ACK, 0, b"")

    def __enter__(self) -> Peer:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """Goes away."""
        self._file.close()
        self.socket.close()

    def send(self, *frames: bytes) -> None:
        """Sends bytes."""
        self.socket.sendall(b"".join(frames))

    def read_bytes(self, count: int) -> bytes:
        """So many of the next bytes."""
        return self._file.read(count)

    def read(self) -> Frame:
        """The next frame."""
        head = self._file.read(9)
        assert len(head) == 9, "the connection is closed"
        length_and_kind, flags, number = struct.unpack(">IBI", head)
        return Frame(length_and_kind & 0xFF, flags, number, self._file.read(length_and_kind >> 8))

    def until(self, kind: int, number: int = 0) -> Frame:
        """The next frame of a kind on a stream; others are passed over."""
        while True:
            found = self.read()
            if found.kind == HEADERS and (kind, number) != (HEADERS, found.number):
                self._decoder.decode(found.payload)
            if (found.kind, found.number) == (kind, number):
                return found
            assert found.kind != GOAWAY, (found.code, found.payload[8:])

    def goaway(self) -> Frame:
        """The GOAWAY that comes next of its kind; after it the server closes."""
        found = self.until(GOAWAY)
        assert self._file.read() == b""
        return found

    def headers(self, found: Frame) -> dict[str, str]:
        """The fields of a HEADERS frame."""
        return dict(self._decoder.decode(found.payload))

    def answer(self, number: int) -> Answer:
        """A stream's answer, read to its end."""
        headers: dict[str, str] = {}
        data = b""
        while True:
            found = self.read()
            assert found.kind != GOAWAY, (found.code, found.payload[8:])
            fields = self.headers(found) if found.kind == HEADERS else {}
            if found.number != number:
                continue
            if found.kind == RST_STREAM:
                return Answer(headers, data, found.code)
            headers.update(fields)
            data += found.payload if found.kind == DATA else b""
            if found.kind in {HEADERS, DATA} and found.flags & END_STREAM:
                return Answer(headers, data)

    def ping(self) -> list[Frame]:
        """What the server sends until it has answered a PING: all that it had to say to the frames before it."""
        self.send(frame(PING, 0, 0, b"are you?"))
        found = []
        while True:
            one = self.read()
            if one == Frame(PING, ACK, 0, b"are you?"):
                return found
            found.append(one)


class Client:
    """A client that keeps the rules, and finds fault with a server that does not: h2's."""

    def __init__(self, address: Any, tls: ssl.SSLContext | None = None, **changed: int) -> None:
        self.socket = connect(address, tls)
        self.h2 = h2.connection.H2Connection(h2.config.H2Configuration(client_side=True, header_encoding="utf-8"))
        self.h2.initiate_connection()
        self.h2.update_settings({getattr(h2.settings.SettingCodes, name): value for name, value in changed.items()})
        self.flush()
        while not any(isinstance(event, h2.events.RemoteSettingsChanged) for event in self.receive()):
            pass

    def __enter__(self) -> Client:
        return self

    def __exit__(self, *_: object) -> None:
        self.socket.close()

    def flush(self) -> None:
        """Sends what is to be sent."""
        self.socket.sendall(self.h2.data_to_send())

    def begin(self, data: bytes, path: str = "/t/Echo", **changed: str | None) -> int:
        """Sends a unary call; its stream."""
        number = int(self.h2.get_next_available_stream_id())
        self.h2.send_headers(number, request(path, **changed))
        for piece in pieces(message(data), self.h2.max_outbound_frame_size):
            self.flush()
            while self.h2.local_flow_control_window(number) < len(piece):
                self.receive()
            self.h2.send_data(number, piece)
        self.h2.end_stream(number)
        self.flush()
        return number

    def receive(self) -> list[Any]:
        """The events of what comes next."""
        data = self.socket.recv(65536)
        assert data, "the connection is closed"
        events = self.h2.receive_data(data)
        for event in events:
            if isinstance(event, h2.events.DataReceived):
                self.h2.acknowledge_received_data(event.flow_controlled_length, event.stream_id)
        self.flush()
        return list(events)

    def answer(self, number: int) -> Answer:
        """A stream's answer."""
        headers: dict[str, str] = {}
        data = b""
        while True:
            for event in self.receive():
                if getattr(event, "stream_id", None) != number:
                    continue
                if isinstance(event, h2.events.ResponseReceived | h2.events.TrailersReceived):
                    headers.update(event.headers)
                elif isinstance(event, h2.events.DataReceived):
                    data += event.data
                elif isinstance(event, h2.events.StreamReset):
                    return Answer(headers, data, event.error_code)
                elif isinstance(event, h2.events.StreamEnded):
                    return Answer(headers, data)

    def ask(self, data: bytes, path: str = "/t/Echo", **changed: str | None) -> Answer:
        """A unary call and its answer."""
        return self.answer(self.begin(data, path, **changed))


def pieces(data: bytes, size: int) -> Iterator[bytes]:
    """The data in pieces of a size."""
    return (data[start : start + size] for start in range(0, len(data), size))

"""The gRPC port itself and its UNIX sockets: how they open, and how they end."""

from __future__ import annotations

import asyncio
import socket
from pathlib import Path

import pytest

from serving.embedded.admission import Admission
from serving.embedded.admission.budget import Budget
from serving.embedded.admission.connections import Connections
from serving.embedded.grpc.listener import GrpcListener
from serving.embedded.grpc.methods import Methods
from serving.embedded.grpc.options import ConnectionOptions
from serving.embedded.limits import Limits
from serving.embedded.observe.calls import Interceptor
from serving.embedded.offload import Offload
from serving.embedded.workers.sockets import Port
from serving.errors import ServerConfigError
from tests.support.event_loops import run
from tests.support.http2_peer import PREFACE, call, settings

GREETING = PREFACE + settings()


def listener(*paths: Path, total: int = 0) -> tuple[GrpcListener, Admission]:
    """A port without methods, and UNIX sockets at these paths; and what they let in."""
    loop = asyncio.get_running_loop()
    admission = Admission(Limits(), Budget(0, loop.time), Connections(total, 0, loop.time))
    methods = Methods(Interceptor(list), Limits(), Offload(), [])
    sockets = {str(path): methods for path in paths}
    return GrpcListener(Port("127.0.0.1", 0), methods, sockets, ConnectionOptions(), None, admission), admission


async def answered(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    """Asks for a method that there is not, and reads until its answer has come."""
    writer.write(GREETING + call(1, b"", "/t/None"))
    data = b""
    while b"Method not found: /t/None" not in data:
        more = await asyncio.wait_for(reader.read(4096), 10)
        assert more
        data += more


def test_a_port_and_its_unix_sockets_answer_and_end_together(tmp_path: Path) -> None:
    """Connections are told to go, and closed after the grace; the sockets' files are gone then."""

    async def work() -> None:
        path = tmp_path / "socket"
        port, admission = listener(path)
        address = await port.start()
        host, _, number = address.partition(":")
        assert host == "127.0.0.1"
        over_tcp = await asyncio.open_connection(host, int(number))
        over_unix = await asyncio.open_unix_connection(path)
        await answered(*over_tcp)
        await answered(*over_unix)
        assert len(admission.connections) == 1
        await asyncio.wait_for(port.stop(0.05), 10)
        for reader, writer in (over_tcp, over_unix):
            assert b"drained?" in await asyncio.wait_for(reader.read(), 10)
            writer.close()
        assert len(admission.connections) == 0
        assert not path.exists()
        with pytest.raises(ConnectionRefusedError):
            await asyncio.open_connection(host, int(number))

    run(work())


def test_connections_of_the_port_have_seats() -> None:
    """Those that have asked nothing make way for others."""

    async def work() -> None:
        port, admission = listener(total=1)
        host, _, number = (await port.start()).partition(":")
        stranger, writer = await asyncio.open_connection(host, int(number))
        other, other_writer = await asyncio.open_connection(host, int(number))
        await answered(other, other_writer)
        assert await asyncio.wait_for(stranger.read(), 10) == b""
        assert len(admission.connections) == 1
        writer.close()
        other_writer.close()
        await port.stop(0)

    run(work())


def test_a_unix_socket_that_cannot_be(tmp_path: Path) -> None:
    """The error says which, and why; the port can be closed all the same."""

    async def work() -> None:
        path = tmp_path / "missing" / "socket"
        port, _ = listener(path)
        with pytest.raises(ServerConfigError) as raised:
            await port.start()
        assert str(raised.value).startswith(f"{path} cannot be listened on for gRPC: ")
        assert "No such file or directory" in str(raised.value)
        await port.stop(0)

    run(work())


def test_a_port_that_is_taken_says_so() -> None:
    """For gRPC; what has never opened has nothing to stop."""

    async def work() -> None:
        with socket.create_server(("127.0.0.1", 0)) as taken:
            number = taken.getsockname()[1]
            port, _ = listener()
            port._port = Port("127.0.0.1", number)
            with pytest.raises(ServerConfigError, match=f"127.0.0.1:{number} cannot be listened on for gRPC: "):
                await port.start()
            await port.stop(0)

    run(work())

"""TensorFlow's profiler service: who may ask, what is traced, where it is written."""

from __future__ import annotations

import asyncio
import subprocess
import sys
import threading
from collections.abc import Coroutine
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import grpc
import numpy as np
import pytest
from google.protobuf.message import Message

from serving.apis.messages import ProfileOptions, ProfileRequest, ProfileResponse, TerminateRequest
from serving.apis.services import PROFILER_SERVICE
from serving.apis.status import Code
from serving.embedded.grpc.services.profiler import Profiler
from serving.embedded.observe.tracer import Levels, Trace, Tracer
from serving.errors import ServingError
from tests.support.asking import predict
from tests.support.live import Server, wait_until

LOCAL = "ipv4:127.0.0.1:50514"
REQUESTS = {"Profile": ProfileRequest, "Terminate": TerminateRequest}
_CAPTURE = """
import sys
import tensorflow as tf
tf.profiler.experimental.client.trace(sys.argv[1], sys.argv[2], 1000)
"""


class FakeTracer:
    """Takes the trace that it is given, at once or when its session ends; keeps what is saved."""

    def __init__(self, directory: Path, *, xspace: bytes = b"events", waits: bool = False) -> None:
        self.requests: list[tuple[Levels, float]] = []
        self.waiting = threading.Event()
        self.over = threading.Event()
        self._xspace = xspace
        self._waits = waits
        self.directory = directory
        self.profiler = Profiler(Tracer(self._take), directory)

    def ask(self, method: str, request: Any, peer: str = LOCAL) -> Coroutine[Any, Any, Message]:
        """One call of a method."""
        (rpc,) = (rpc for rpc in self.profiler.rpcs() if rpc.path == f"/{PROFILER_SERVICE}/{method}")
        handler: Any = rpc.unary
        answer: Coroutine[Any, Any, Message] = handler(request, SimpleNamespace(peer=lambda: peer))
        return answer

    def profile(self, peer: str = LOCAL, **fields: Any) -> ProfileResponse:
        """One trace, whose fields may differ from the usual ones."""
        request = ProfileRequest(
            **{"duration_ms": 500, "repository_root": str(self.directory), "session_id": "one", **fields}
        )
        response = asyncio.run(self.ask("Profile", request, peer))
        assert isinstance(response, ProfileResponse)
        return response

    def _take(self, levels: Levels, seconds: float, ended: threading.Event) -> Trace:
        self.requests.append((levels, seconds))
        self.waiting.set()
        if self._waits:
            assert ended.wait(30)
        self.over.set()
        return Trace(self._xspace, empty=not self._xspace)

    def saved(self) -> dict[str, bytes]:
        """The files below its directory."""
        files = (path for path in self.directory.rglob("*") if path.is_file())
        return {str(path.relative_to(self.directory)): path.read_bytes() for path in files}


@pytest.mark.parametrize("peer", [LOCAL, "ipv4:127.9.9.9:1", "ipv6:::1:50514", "ipv6:::ffff:127.0.0.1:50514", "unix:"])
def test_a_trace_is_written_for_callers_on_this_machine(peer: str, tmp_path: Path) -> None:
    """Under the session's name and the host's."""
    tracer = FakeTracer(tmp_path)

    response = tracer.profile(peer, host_name="localhost:8500")

    assert not response.empty_trace
    assert tracer.saved() == {"one/localhost_8500.xplane.pb": b"events"}


@pytest.mark.parametrize("peer", ["ipv4:10.0.0.7:50514", "ipv6:2001:db8::1:50514", "ipv6:::ffff:10.0.0.7:50514"])
@pytest.mark.parametrize("method", ["Profile", "Terminate"])
def test_nobody_else_may_ask(method: str, peer: str, tmp_path: Path) -> None:
    """PERMISSION_DENIED, and nothing is traced."""
    tracer = FakeTracer(tmp_path)

    with pytest.raises(ServingError, match="on the server's own machine only") as raised:
        asyncio.run(tracer.ask(method, REQUESTS[method](session_id="one"), peer))

    assert raised.value.code == Code.PERMISSION_DENIED
    assert tracer.requests == []


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"session_id": "../etc"}, "session_id must be a file name: got '../etc'"),
        ({"session_id": ""}, "session_id must be a file name"),
        ({"session_id": ".."}, "session_id must be a file name"),
        ({"host_name": "a/b"}, "host_name must be a file name: got 'a/b'"),
        ({"repository_root": ""}, "repository_root is missing"),
        ({"repository_root": "/tmp/\0"}, "repository_root has a NUL"),  # noqa: S108 - never written
        ({"duration_ms": 60_001}, "duration_ms must be at most 60000: got 60001"),
    ],
)
def test_names_that_are_none(fields: dict[str, str], message: str, tmp_path: Path) -> None:
    """They are refused before anything is traced."""
    tracer = FakeTracer(tmp_path)

    with pytest.raises(ServingError, match=message) as raised:
        tracer.profile(**fields)

    assert raised.value.code == Code.INVALID_ARGUMENT
    assert tracer.requests == []


@pytest.mark.parametrize("root", ["/", "{0}/..", "{0}-more", "gs://bucket", "{0}/link", "logs"])
def test_directories_of_others(tmp_path: Path, root: str) -> None:
    """PERMISSION_DENIED with the rule, and nothing is traced; links are followed first."""
    directory = tmp_path / "traces"
    directory.mkdir()
    (directory / "link").symlink_to(tmp_path)
    tracer = FakeTracer(directory)

    with pytest.raises(ServingError, match=f"must be below {directory}, the server's --profiler_directory") as raised:
        tracer.profile(repository_root=root.format(directory))

    assert raised.value.code == Code.PERMISSION_DENIED
    assert tracer.requests == []


def test_a_trace_that_cannot_be_written(tmp_path: Path) -> None:
    """The caller gets the reason."""
    (tmp_path / "file").touch()
    with pytest.raises(ServingError, match="the trace cannot be written: "):
        FakeTracer(tmp_path).profile(repository_root=f"{tmp_path}/file")


def test_how_much_and_how_long(tmp_path: Path) -> None:
    """Levels that are given count whole, 0 for off; without any TensorFlow's own."""
    tracer = FakeTracer(tmp_path)

    tracer.profile(duration_ms=1500)
    tracer.profile(opts=ProfileOptions(host_tracer_level=3, python_tracer_level=1))

    assert tracer.requests == [(Levels(2, 0, 1), 1.5), (Levels(3, 1, 0), 0.5)]


def test_an_empty_trace_is_told_and_not_written(tmp_path: Path) -> None:
    """The client tries again."""
    tracer = FakeTracer(tmp_path, xspace=b"")

    assert tracer.profile().empty_trace
    assert tracer.saved() == {}


def test_a_trace_that_is_answered_is_not_written(tmp_path: Path) -> None:
    """It needs no path either."""
    tracer = FakeTracer(tmp_path)

    assert tracer.profile(emit_xspace=True, repository_root="").xspace == b"events"
    assert tracer.saved() == {}


def test_a_session_ends_when_it_is_terminated(tmp_path: Path) -> None:
    """Long before its time; meanwhile its name is taken."""
    tracer = FakeTracer(tmp_path, waits=True)
    request = ProfileRequest(duration_ms=60_000, repository_root=str(tmp_path), session_id="one", host_name="h")

    async def ask() -> None:
        first = asyncio.create_task(tracer.ask("Profile", request))
        await asyncio.to_thread(tracer.waiting.wait, 30)
        with pytest.raises(ServingError, match="a session is being traced already") as raised:
            await tracer.ask("Profile", request)
        assert raised.value.code == Code.ALREADY_EXISTS
        await tracer.ask("Terminate", TerminateRequest(session_id="another"))
        assert not tracer.over.is_set()
        await tracer.ask("Terminate", TerminateRequest(session_id="one"))
        await first

    asyncio.run(ask())

    assert list(tracer.saved()) == ["one/h.xplane.pb"]


def test_a_session_ends_when_its_client_goes_away(tmp_path: Path) -> None:
    """It is not traced for the rest of its time."""
    tracer = FakeTracer(tmp_path, waits=True)

    async def ask() -> None:
        request = ProfileRequest(duration_ms=60_000, repository_root=str(tmp_path), session_id="one")
        first = asyncio.create_task(tracer.ask("Profile", request))
        await asyncio.to_thread(tracer.waiting.wait, 30)
        first.cancel()
        assert await asyncio.to_thread(tracer.over.wait, 30)

    asyncio.run(ask())


def test_tensorflows_own_client_gets_a_trace(toy_server: Server, tmp_path: Path) -> None:
    """The runs of a live server, where TensorBoard looks for them."""
    command = [sys.executable, "-c", _CAPTURE, toy_server.grpc, str(tmp_path)]
    with (
        grpc.insecure_channel(toy_server.grpc) as channel,
        subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True) as capture,
    ):
        wait_until(lambda: _asked(channel) and capture.poll() is not None)
        assert capture.stderr is not None
        assert capture.returncode == 0, capture.stderr.read()[-2000:]

    (file,) = tmp_path.glob("plugins/profile/*/*.xplane.pb")
    assert file.name == f"{toy_server.grpc.replace(':', '_')}.xplane.pb"
    assert b"SessionRun" in file.read_bytes()


def test_one_trace_at_a_time(toy_server: Server) -> None:
    """Of two that a live server is asked for one is taken, and ends when it is told to; there is no Monitor."""
    names = ("a", "b")
    with grpc.insecure_channel(toy_server.grpc) as channel, ThreadPoolExecutor(2) as pool:
        methods: list[Any] = [
            channel.unary_unary(f"/{PROFILER_SERVICE}/{name}") for name in ("Profile", "Terminate", "Monitor")
        ]
        profile, terminate, monitor = methods

        def take(name: str) -> grpc.StatusCode:
            request = ProfileRequest(duration_ms=60_000, session_id=name, emit_xspace=True)
            try:
                profile(request.SerializeToString(), timeout=60)
            except grpc.RpcError as error:
                return error.code()
            return grpc.StatusCode.OK

        traces = [pool.submit(take, name) for name in names]
        wait_until(lambda: any(trace.done() for trace in traces))
        for name in names:
            terminate(TerminateRequest(session_id=name).SerializeToString(), timeout=30)
        assert {trace.result() for trace in traces} == {grpc.StatusCode.OK, grpc.StatusCode.ALREADY_EXISTS}
        with pytest.raises(grpc.RpcError, match="Method not found"):
            monitor(b"", timeout=30)


def _asked(channel: grpc.Channel) -> bool:
    return bool(predict(channel, "half_plus_two", {"x": np.array([1.0], np.float32)}))

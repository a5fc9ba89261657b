"""TensorFlow's profiler service, for `tf.profiler.experimental.client.trace` and TensorBoard's capture button.

A trace is written to a path that the caller names: only who is on this machine may ask for one.
"""

from __future__ import annotations

import asyncio
import ipaddress
import platform
import threading
from collections.abc import Callable
from typing import NamedTuple

from google.protobuf.message import DecodeError

from serving.apis.profiler import SERVICE, ProfileRequest, ProfileResponse, TerminateRequest, TerminateResponse
from serving.apis.status import Code
from serving.embedded.grpc.stream import Method, Stream
from serving.errors import InvalidArgument, ServingError, Unimplemented


class Levels(NamedTuple):
    """How much is traced of operations, of Python and of devices; the defaults are TensorFlow's."""

    host: int = 2
    python: int = 0
    device: int = 1


class Trace(NamedTuple):
    """A serialized XSpace, and whether it has no event."""

    xspace: bytes
    empty: bool


class Tracer(NamedTuple):
    """What TensorFlow does for the service.

    take: traces until the event is set, for so many seconds at the longest. save: writes a trace to a path.
    """

    take: Callable[[Levels, float, threading.Event], Trace]
    save: Callable[[str, bytes], None]


class Profiler:
    """Profile and Terminate; Monitor answers that TensorFlow has it for Cloud TPUs only."""

    def __init__(self, tracer: Tracer) -> None:
        self._tracer = tracer
        self._sessions: dict[str, threading.Event] = {}

    def methods(self) -> dict[str, Method]:
        """The service's methods, by path."""
        unary = {"Profile": self._profile, "Terminate": self._terminate, "Monitor": self._monitor}
        return {f"/{SERVICE}/{name}": Method(method) for name, method in unary.items()}

    async def _profile(self, data: bytes, stream: Stream) -> bytes:
        _check_local(stream.peer())
        try:
            request = ProfileRequest.FromString(data)
        except DecodeError as error:
            raise InvalidArgument(f"The request is not the method's message: {error}") from error
        path = "" if request.emit_xspace else _path(request)
        if request.session_id in self._sessions:
            raise ServingError(f"session {request.session_id} is being traced already", Code.ALREADY_EXISTS)
        ended = self._sessions[request.session_id] = threading.Event()
        try:
            return await asyncio.get_running_loop().run_in_executor(None, self._traced, request, path, ended)
        finally:
            # A client that went away is not traced for any longer.
            ended.set()
            del self._sessions[request.session_id]

    def _traced(self, request: ProfileRequest, path: str, ended: threading.Event) -> bytes:
        seconds = min(request.duration_ms / 1000, threading.TIMEOUT_MAX)
        trace = self._tracer.take(_levels(request), seconds, ended)
        response = ProfileResponse(empty_trace=trace.empty)
        if request.emit_xspace:
            response.xspace = trace.xspace
        elif not trace.empty:
            self._tracer.save(path, trace.xspace)
        return response.SerializeToString()

    async def _terminate(self, data: bytes, stream: Stream) -> bytes:
        _check_local(stream.peer())
        try:
            session = TerminateRequest.FromString(data).session_id
        except DecodeError as error:
            raise InvalidArgument(f"The request is not the method's message: {error}") from error
        if session in self._sessions:
            self._sessions[session].set()
        return TerminateResponse().SerializeToString()

    async def _monitor(self, _: bytes, __: Stream) -> bytes:
        raise Unimplemented("Monitor is there for Cloud TPUs only: Profile takes a trace of this server")


def _check_local(peer: str) -> None:
    """Raises ServingError for a peer that is not on this machine, as far as its address tells."""
    kind, _, address = peer.partition(":")
    if kind == "unix":
        return
    host = ipaddress.ip_address(address.rpartition(":")[0])
    mapped = host.ipv4_mapped if isinstance(host, ipaddress.IPv6Address) else None
    if not (mapped or host).is_loopback:
        raise ServingError(
            f"the profiler answers callers on the server's own machine only, not {host}: it writes to a path they name",
            Code.PERMISSION_DENIED,
        )


def _levels(request: ProfileRequest) -> Levels:
    if not request.HasField("opts"):
        return Levels()
    options = request.opts
    return Levels(options.host_tracer_level, options.python_tracer_level, options.device_tracer_level)


def _path(request: ProfileRequest) -> str:
    """Where TensorBoard looks for the trace of a session. Raises InvalidArgument for names that are none."""
    host = (request.host_name or platform.node()).replace(":", "_")
    if not request.repository_root:
        raise InvalidArgument("repository_root is missing: the directory that the trace is written to")
    for field, name in (("session_id", request.session_id), ("host_name", host)):
        if name in ("", ".", "..") or "/" in name or "\0" in name:
            raise InvalidArgument(f"{field} must be a file name: got {name!r}")
    return f"{request.repository_root.rstrip('/')}/{request.session_id}/{host}.xplane.pb"

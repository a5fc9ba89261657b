"""TensorFlow's profiler service, for `tf.profiler.experimental.client.trace` and TensorBoard's capture button.

A trace is written to a path that the caller names, below a directory of the server's: only who is on this machine may
ask for one.
"""

from __future__ import annotations

import asyncio
import os
import platform
import threading
from pathlib import Path

from google.protobuf.message import Message

from fashion_common.files import write_whole
from serving.apis.messages import ProfileRequest, ProfileResponse, TerminateRequest, TerminateResponse
from serving.apis.services import PROFILER_SERVICE
from serving.apis.status import Code
from serving.embedded.access.tokens import FOR_ADMIN
from serving.embedded.grpc.methods import Rpc
from serving.embedded.grpc.services.peers import is_local
from serving.embedded.observe.calls import Call
from serving.embedded.observe.tracer import Levels, Tracer
from serving.errors import FailedPrecondition, InvalidArgument, PermissionDenied, ServingError, quoted

_MAX_DURATION_MS = 60_000


class Profiler:
    """Profile and Terminate; TensorFlow has Monitor for Cloud TPUs only."""

    def __init__(self, tracer: Tracer, directory: Path) -> None:
        self._tracer = tracer
        self._directory = directory
        self._sessions: dict[str, threading.Event] = {}

    def rpcs(self) -> list[Rpc]:
        """The service's methods."""
        return [
            Rpc(f"/{PROFILER_SERVICE}/Profile", ProfileRequest, FOR_ADMIN, self._profile),
            Rpc(f"/{PROFILER_SERVICE}/Terminate", TerminateRequest, FOR_ADMIN, self._terminate),
        ]

    async def _profile(self, request: ProfileRequest, call: Call) -> Message:
        _check_local(call.peer())
        path = None if request.emit_xspace else _path(request, self._directory)
        if request.duration_ms > _MAX_DURATION_MS:
            raise InvalidArgument(f"duration_ms must be at most {_MAX_DURATION_MS}: got {request.duration_ms}")
        if self._sessions:
            raise ServingError("a session is being traced already: ask when it has ended", Code.ALREADY_EXISTS)
        ended = self._sessions[request.session_id] = threading.Event()
        try:
            return await asyncio.get_running_loop().run_in_executor(None, self._traced, request, path, ended)
        finally:
            # A client that went away is not traced for any longer.
            ended.set()
            del self._sessions[request.session_id]

    def _traced(self, request: ProfileRequest, path: Path | None, ended: threading.Event) -> Message:
        trace = self._tracer.take(_levels(request), request.duration_ms / 1000, ended)
        response = ProfileResponse(empty_trace=trace.empty)
        if path is None:
            response.xspace = trace.xspace
        elif not trace.empty:
            try:
                write_whole(path, trace.xspace)
            except OSError as error:
                raise FailedPrecondition(f"the trace cannot be written: {error.strerror}") from error
        return response

    async def _terminate(self, request: TerminateRequest, call: Call) -> Message:
        _check_local(call.peer())
        if request.session_id in self._sessions:
            self._sessions[request.session_id].set()
        return TerminateResponse()


def _check_local(peer: str) -> None:
    """Raises PermissionDenied for a peer that is not on this machine."""
    if not is_local(peer):
        raise PermissionDenied(
            f"the profiler answers callers on the server's own machine only, not {peer}: it writes to a path they name"
        )


def _levels(request: ProfileRequest) -> Levels:
    if not request.HasField("opts"):
        return Levels()
    options = request.opts
    return Levels(options.host_tracer_level, options.python_tracer_level, options.device_tracer_level)


def _path(request: ProfileRequest, directory: Path) -> Path:
    """Where TensorBoard looks for the trace of a session, links resolved.

    Raises InvalidArgument for names that are none, PERMISSION_DENIED for a path that is not below the directory.
    """
    host = (request.host_name or platform.node()).replace(":", "_")
    if not request.repository_root:
        raise InvalidArgument("repository_root is missing: the directory that the trace is written to")
    for field, name in (("session_id", request.session_id), ("host_name", host)):
        if name in ("", ".", "..") or "/" in name or "\0" in name:
            raise InvalidArgument(f"{field} must be a file name: got {quoted(name)!r}")
    if "\0" in request.repository_root:
        raise InvalidArgument("repository_root has a NUL in it: no path has")
    path = os.path.realpath(f"{request.repository_root}/{request.session_id}/{host}.xplane.pb")
    if not Path(path).is_relative_to(os.path.realpath(directory)):
        raise PermissionDenied(
            f"repository_root must be below {directory}, the server's --profiler_directory: "
            f"got {quoted(request.repository_root)!r}"
        )
    return Path(path)

"""The health service that gRPC's tools expect of every server.

https://github.com/grpc/grpc/blob/master/doc/health-checking.md
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator

from google.protobuf.message import Message
from grpc_health.v1 import health
from grpc_health.v1.health_pb2 import HealthCheckRequest, HealthCheckResponse

from serving.apis import services
from serving.embedded.access.tokens import FOR_ANYONE
from serving.embedded.grpc.methods import Rpc
from serving.embedded.inference.model import LoadedModel
from serving.embedded.models.core import ServerCore
from serving.embedded.observe.calls import Call
from serving.errors import NotFound, Unimplemented, quoted

_POLL_SECONDS = 0.5
# "" is the server as a whole.
_NAMES = ("", services.PREDICTION_SERVICE, services.MODEL_SERVICE)


class Health:
    """SERVING while there is a configured model, and every one has a version that serves."""

    def __init__(self, core: ServerCore[LoadedModel]) -> None:
        self._core = core
        self._stopping = False
        # Set, and replaced, when what is answered may have changed: one task looks for all that watch.
        self._changed = asyncio.Event()
        self._watching = 0
        self._look: asyncio.Task[None] | None = None

    def rpcs(self) -> list[Rpc]:
        """Check and Watch."""
        service = f"/{health.SERVICE_NAME}"
        return [
            Rpc(f"{service}/Check", HealthCheckRequest, FOR_ANYONE, unary=self._check, counts=False),
            Rpc(f"{service}/Watch", HealthCheckRequest, FOR_ANYONE, streaming=self._watch, counts=False),
        ]

    def stop(self) -> None:
        """Tells everyone who watches that the server is going."""
        self._stopping = True
        if self._look is not None:
            self._look.cancel()
        self._tell()

    async def _check(self, request: HealthCheckRequest, _: Call) -> Message:
        if request.service not in _NAMES:
            raise NotFound(f"service {quoted(request.service)} is not known: {', '.join(_NAMES[1:])} are")
        return self._response(request.service)

    async def _watch(self, requests: AsyncIterator[HealthCheckRequest], _: Call) -> AsyncIterator[Message]:
        request = await anext(requests, None)
        if request is None:
            raise Unimplemented("Watch takes one message, not none")
        sent = None
        self._watching += 1
        if self._look is None:
            self._look = asyncio.get_running_loop().create_task(self._look_for_changes())
        try:
            while not self._stopping:
                changed = self._changed
                response = self._response(request.service)
                if response != sent:
                    sent = response
                    yield response
                await changed.wait()
        finally:
            self._watching -= 1
        yield HealthCheckResponse(status=HealthCheckResponse.NOT_SERVING)

    async def _look_for_changes(self) -> None:
        last = self._response("")
        while self._watching:
            await asyncio.sleep(_POLL_SECONDS)
            if (response := self._response("")) != last:
                last = response
                self._tell()
        self._look = None

    def _tell(self) -> None:
        self._changed.set()
        self._changed = asyncio.Event()

    def _response(self, name: str) -> Message:
        if name not in _NAMES:
            status = HealthCheckResponse.SERVICE_UNKNOWN
        else:
            status = HealthCheckResponse.SERVING if self._core.ready else HealthCheckResponse.NOT_SERVING
        response: Message = HealthCheckResponse(status=status)
        return response

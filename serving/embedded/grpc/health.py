"""The services that gRPC's tools expect of every server: health and reflection.

https://github.com/grpc/grpc/blob/master/doc/health-checking.md
https://github.com/grpc/grpc/blob/master/doc/server-reflection.md
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator

from google.protobuf.message import DecodeError
from grpc_health.v1 import health, health_pb2
from grpc_reflection.v1alpha import reflection, reflection_pb2

from serving.apis import messages, services
from serving.embedded.grpc.stream import Method, Stream
from serving.embedded.inference.servable import Servable
from serving.embedded.models.core import ServerCore
from serving.errors import InvalidArgument, NotFound, Unimplemented

_HEALTH_SECONDS = 0.5
# "" is the server as a whole.
_HEALTH_NAMES = ("", services.PREDICTION_SERVICE, services.MODEL_SERVICE)
# The messages of both versions are the same on the wire; tools try the newer one first.
_REFLECTION = ("grpc.reflection.v1.ServerReflection", reflection.SERVICE_NAME)


class Health:
    """The standard health service: SERVING while every configured model has a version that serves."""

    def __init__(self, core: ServerCore[Servable]) -> None:
        self._core = core
        self._stopping = asyncio.Event()

    def methods(self) -> dict[str, Method]:
        """Check and Watch, by path."""
        return {
            f"/{health.SERVICE_NAME}/Check": Method(self._check),
            f"/{health.SERVICE_NAME}/Watch": Method(None, self._watch),
        }

    def stop(self) -> None:
        """Tells everyone who watches that the server is going."""
        self._stopping.set()

    async def _check(self, data: bytes, _: Stream) -> bytes:
        name = _health_name(data)
        if name not in _HEALTH_NAMES:
            raise NotFound(f"service {name} is not known: {', '.join(_HEALTH_NAMES[1:])} are")
        return _health_response(self._status(name))

    async def _watch(self, incoming: AsyncIterator[bytes], _: Stream) -> AsyncIterator[bytes]:
        first = await anext(incoming, None)
        if first is None:
            raise Unimplemented("Watch takes one message, not none")
        name = _health_name(first)
        told = None
        while not self._stopping.is_set():
            status = self._status(name)
            if status != told:
                told = status
                yield _health_response(status)
            with contextlib.suppress(asyncio.TimeoutError):
                await asyncio.wait_for(self._stopping.wait(), _HEALTH_SECONDS)
        yield _health_response(health_pb2.HealthCheckResponse.NOT_SERVING)

    def _status(self, name: str) -> int:
        response = health_pb2.HealthCheckResponse
        if name not in _HEALTH_NAMES:
            return int(response.SERVICE_UNKNOWN)
        return int(response.NOT_SERVING if self._core.errors() else response.SERVING)


def reflection_methods(names: tuple[str, ...]) -> dict[str, Method]:
    """ServerReflectionInfo by its paths, for services of these names."""
    servicer = reflection.ReflectionServicer((*names, *_REFLECTION), pool=messages.POOL)

    async def reflect(incoming: AsyncIterator[bytes], _: Stream) -> AsyncIterator[bytes]:
        async for data in incoming:
            try:
                request = reflection_pb2.ServerReflectionRequest.FromString(data)
            except DecodeError as error:
                raise InvalidArgument(f"The request is not the method's message: {error}") from error
            for response in servicer.ServerReflectionInfo(iter((request,)), None):
                yield response.SerializeToString()

    return {f"/{service}/ServerReflectionInfo": Method(None, reflect) for service in _REFLECTION}


def _health_name(data: bytes) -> str:
    try:
        return str(health_pb2.HealthCheckRequest.FromString(data).service)
    except DecodeError as error:
        raise InvalidArgument(f"The request is not the method's message: {error}") from error


def _health_response(status: int) -> bytes:
    return bytes(health_pb2.HealthCheckResponse(status=status).SerializeToString())

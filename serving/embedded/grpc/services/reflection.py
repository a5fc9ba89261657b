"""Reflection: gRPC's tools ask the server itself for its services and their messages.

https://github.com/grpc/grpc/blob/master/doc/server-reflection.md
"""

from __future__ import annotations

from collections.abc import AsyncIterator

from google.protobuf.message import Message
from grpc_reflection.v1alpha import reflection
from grpc_reflection.v1alpha.reflection_pb2 import ServerReflectionRequest

from serving.apis import messages, services
from serving.embedded.grpc.methods import Rpc
from serving.embedded.observe.calls import Call

# The messages of both versions are the same on the wire; tools try the newer one first.
_SERVICES = ("grpc.reflection.v1.ServerReflection", reflection.SERVICE_NAME)


def rpcs() -> list[Rpc]:
    """ServerReflectionInfo of both versions; it tells of the models' services and of itself."""
    names = (services.PREDICTION_SERVICE, services.MODEL_SERVICE, *_SERVICES)
    servicer = reflection.ReflectionServicer(names, pool=messages.POOL)

    async def reflect(requests: AsyncIterator[ServerReflectionRequest], _: Call) -> AsyncIterator[Message]:
        async for request in requests:
            for response in servicer.ServerReflectionInfo(iter((request,)), None):
                yield response

    return [
        Rpc(f"/{service}/ServerReflectionInfo", ServerReflectionRequest, streaming=reflect, counts=False)
        for service in _SERVICES
    ]

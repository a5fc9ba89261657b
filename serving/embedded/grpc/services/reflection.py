"""Reflection: gRPC's tools ask the server itself for its services and their messages.

https://github.com/grpc/grpc/blob/master/doc/server-reflection.md
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Sequence
from functools import lru_cache

from google.protobuf.message import Message
from grpc_reflection.v1alpha import reflection
from grpc_reflection.v1alpha.reflection_pb2 import ServerReflectionRequest

from serving.apis import messages, services
from serving.embedded.access.tokens import FOR_READ
from serving.embedded.grpc.methods import Rpc
from serving.embedded.observe.calls import Call

# The messages of both versions are the same on the wire; tools try the newer one first.
_SERVICES = ("grpc.reflection.v1.ServerReflection", reflection.SERVICE_NAME)

# All descriptors are written out for an answer, 30 KB in a sixth of a millisecond: they are kept, with what was asked.
_KEPT_ANSWERS = 64
_KEPT_REQUEST_BYTES = 256


def rpcs() -> list[Rpc]:
    """ServerReflectionInfo of both versions; it tells of the models' services and of itself."""
    names = (services.PREDICTION_SERVICE, services.MODEL_SERVICE, *_SERVICES)
    servicer = reflection.ReflectionServicer(names, pool=messages.POOL)

    @lru_cache(_KEPT_ANSWERS)
    def answers(request: bytes) -> Sequence[Message]:
        return tuple(servicer.ServerReflectionInfo(iter((ServerReflectionRequest.FromString(request),)), None))

    async def reflect(requests: AsyncIterator[ServerReflectionRequest], _: Call) -> AsyncIterator[Message]:
        async for request in requests:
            data = request.SerializeToString()
            # What is long is no name of ours, and its answer repeats it.
            answer = answers if len(data) <= _KEPT_REQUEST_BYTES else answers.__wrapped__
            for response in answer(data):
                yield response

    return [
        Rpc(f"/{service}/ServerReflectionInfo", ServerReflectionRequest, FOR_READ, streaming=reflect, counts=False)
        for service in _SERVICES
    ]

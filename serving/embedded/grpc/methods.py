"""The way from a gRPC call to its handler and back: the interceptor, the request decoded, the response encoded."""

from __future__ import annotations

import contextlib
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from typing import Any, NamedTuple

from google.protobuf.message import DecodeError, Message

from serving.embedded.grpc.frames import header
from serving.embedded.grpc.stream import Method, Stream
from serving.embedded.limits import Limits
from serving.embedded.observe.calls import REQUEST_ID_HEADER, Call, Interceptor, Operation
from serving.errors import InvalidArgument, ResourceExhausted, ServingError

_REQUEST_ID = REQUEST_ID_HEADER.encode()

# Requests are of their method's request class, which no type can say, hence Any.
Unary = Callable[[Any, Call], Awaitable[Message]]
Streaming = Callable[[AsyncIterator[Any], Call], AsyncIterator[Message]]


class Rpc(NamedTuple):
    """A method as its service has it: `unary`, one request to one response, or `streaming`, many to many.

    model: the name of the model that a request asks for. measured, counts: as `Operation` has them.
    """

    path: str
    request_class: type[Message]
    unary: Unary | None = None
    streaming: Streaming | None = None
    model: Callable[[Any], str] = lambda _: ""
    measured: bool = False
    counts: bool = True

    @property
    def operation(self) -> Operation:
        """What the interceptor needs to know."""
        return Operation("GRPC", self.path.rpartition("/")[2], self.measured, self.counts)


class Methods:
    """The methods of a port, each behind the interceptor. by_path: what its connections answer with."""

    def __init__(self, interceptor: Interceptor, limits: Limits, rpcs: Sequence[Rpc]) -> None:
        self._interceptor = interceptor
        self._max_bytes = limits.max_response_bytes
        self._operations = {rpc.path: rpc.operation for rpc in rpcs}
        self.by_path = {rpc.path: self._unary(rpc) if rpc.unary else self._streaming(rpc) for rpc in rpcs}

    def refused(self, stream: Stream, error: ServingError) -> None:
        """Takes note of a call that its connection fails before its method has begun, or for want of one."""
        unknown = Operation("GRPC", stream.path.rpartition("/")[2])
        # It is answered whatever else is under way.
        operation = self._operations.get(stream.path, unknown)._replace(counts=False)
        with contextlib.suppress(ServingError), self._call(operation, stream):
            raise error

    def _unary(self, rpc: Rpc) -> Method:
        handler, request_class, model, operation = rpc.unary, rpc.request_class, rpc.model, rpc.operation
        assert handler is not None

        async def answer(data: bytes, stream: Stream) -> bytes:
            with self._call(operation, stream) as call:
                request = _decoded(request_class, data)
                call.model = model(request)
                return self._encoded(await handler(request, call))

        return Method(unary=answer)

    def _streaming(self, rpc: Rpc) -> Method:
        handler, request_class, operation = rpc.streaming, rpc.request_class, rpc.operation
        assert handler is not None

        async def answer(incoming: AsyncIterator[bytes], stream: Stream) -> AsyncIterator[bytes]:
            with self._call(operation, stream) as call:
                requests = (_decoded(request_class, data) async for data in incoming)
                async for response in handler(requests, call):
                    yield self._encoded(response)

        return Method(streaming=answer)

    def _encoded(self, response: Message) -> bytes:
        data = response.SerializeToString()
        if len(data) > self._max_bytes:
            raise ResourceExhausted(f"Sent message larger than max ({len(data)} vs. {self._max_bytes})")
        return data

    def _call(self, operation: Operation, stream: Stream) -> Call:
        own_id = stream.metadata.get(_REQUEST_ID, b"")
        call = stream.call = Call(
            self._interceptor, operation, stream.path, stream.peer, own_id.decode("latin-1"), stream.deadline
        )
        if own_id or self._interceptor.logs:
            stream.trailers = header(_REQUEST_ID, call.request_id.encode())
        return call


def _decoded(request_class: type[Message], data: bytes) -> Message:
    try:
        return request_class.FromString(data)
    except DecodeError as error:
        raise InvalidArgument(f"The request is not the method's message: {error}") from error

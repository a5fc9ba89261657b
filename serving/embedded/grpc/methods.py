"""The way from a gRPC call to its handler and back: the interceptor, the request decoded, the response encoded."""

from __future__ import annotations

import contextlib
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from typing import Any, NamedTuple

from google.protobuf.message import DecodeError
from google.protobuf.message import Message as ProtobufMessage

from serving.embedded.access.tokens import FOR_ANYONE, Gate, Tokens
from serving.embedded.grpc.frames import header
from serving.embedded.grpc.large import Large, broken
from serving.embedded.grpc.messages import Message
from serving.embedded.grpc.stream import Method, Stream
from serving.embedded.limits import Limits
from serving.embedded.observe.calls import REQUEST_ID_HEADER, Call, Interceptor, Operation
from serving.embedded.offload import LARGE_BYTES, Offload
from serving.errors import ResourceExhausted, ServingError

_REQUEST_ID = REQUEST_ID_HEADER.encode()

# Over all connections: each is a task for as long as its client likes, and takes about so much.
_MAX_STREAMING_CALLS = 1000
_STREAMING_CALL_BYTES = 8192

# Requests are of their method's request class, which no type can say, hence Any. Large responses come as their bytes.
Unary = Callable[[Any, Call], Awaitable["ProtobufMessage | bytes"]]
Streaming = Callable[[AsyncIterator[Any], Call], AsyncIterator[ProtobufMessage]]


class Rpc(NamedTuple):
    """A method as its service has it: `unary`, one request to one response, or `streaming`, many to many.

    model: the name of the model that a request asks for. scopes, measured, counts: as `Operation` has them.
    """

    path: str
    request_class: type[ProtobufMessage]
    scopes: frozenset[str]
    unary: Unary | None = None
    streaming: Streaming | None = None
    model: Callable[[Any], str] = lambda _: ""
    measured: bool = False
    counts: bool = True

    @property
    def operation(self) -> Operation:
        """What the interceptor needs to know."""
        return Operation("GRPC", self.path.rpartition("/")[2], self.scopes, self.measured, self.counts)


class Methods:
    """The methods of a port, each behind the interceptor. by_path: what its connections answer with.

    tokens: of those who may ask; None for everybody.
    """

    def __init__(
        self,
        interceptor: Interceptor,
        limits: Limits,
        offload: Offload,
        rpcs: Sequence[Rpc],
        tokens: Tokens | None = None,
    ) -> None:
        self._interceptor = interceptor
        self._limits = limits
        self._offload = offload
        self._streaming_calls = 0
        self._operations = {rpc.path: rpc.operation for rpc in rpcs}
        methods = {rpc: self._unary(rpc) if rpc.unary else self._streaming(rpc) for rpc in rpcs}
        self.by_path = {
            rpc.path: method if tokens is None else method._replace(gate=Gate(tokens, rpc.scopes))
            for rpc, method in methods.items()
        }

    def refused(self, stream: Stream, error: ServingError) -> None:
        """Takes note of a call that its connection fails before its method has begun, or for want of one."""
        unknown = Operation("GRPC", stream.path.rpartition("/")[2], FOR_ANYONE)
        # It is answered whatever else is under way.
        operation = self._operations.get(stream.path, unknown)._replace(counts=False)
        with contextlib.suppress(ServingError), self._call(operation, stream, 0) as call:
            # Not raised: an error in its own traceback keeps what was read last until the garbage collector comes by.
            call.code = error.code

    def _unary(self, rpc: Rpc) -> Method:
        handler, request_class, model, operation = rpc.unary, rpc.request_class, rpc.model, rpc.operation
        assert handler is not None

        async def answer(message: Message, stream: Stream) -> bytes:
            if isinstance(message, bytes) and len(message) <= LARGE_BYTES:
                with self._call(operation, stream, stream.header_bytes + len(message)) as call:
                    request = _decoded(request_class, message)
                    call.model = model(request)
                    response = handler(request, call)
                    # The handler alone has it, and can let go of it.
                    del request
                    encoded = self._encoded(await response)
                    if call.header:
                        stream.trailers += header(*call.header)
                    return encoded
            large = Large(message)
            del message
            with self._call(operation, stream, stream.header_bytes + large.size) as call, large:
                return self._encoded(await handler(await self._large_request(rpc, large, call), call))

        return Method(unary=answer)

    async def _large_request(self, rpc: Rpc, large: Large, call: Call) -> Any:
        request = await large.request(rpc.request_class, self._limits.max_request_elements, self._offload, call)
        call.model = rpc.model(request)
        return request

    def _streaming(self, rpc: Rpc) -> Method:
        handler, operation = rpc.streaming, rpc.operation
        assert handler is not None

        async def answer(incoming: AsyncIterator[Message], stream: Stream) -> AsyncIterator[bytes]:
            with self._call(operation, stream, stream.header_bytes + _STREAMING_CALL_BYTES) as call:
                self._count_streaming()
                try:
                    requests = (await self._streamed(rpc, message, call) async for message in incoming)
                    async for response in handler(requests, call):
                        yield self._encoded(response)
                finally:
                    self._streaming_calls -= 1

        return Method(streaming=answer)

    def _count_streaming(self) -> None:
        if self._streaming_calls >= _MAX_STREAMING_CALLS:
            raise ResourceExhausted(f"{_MAX_STREAMING_CALLS} streaming calls are open, as many as may be: try again")
        self._streaming_calls += 1

    async def _streamed(self, rpc: Rpc, message: Message, call: Call) -> Any:
        if isinstance(message, bytes) and len(message) <= LARGE_BYTES:
            return _decoded(rpc.request_class, message)
        before = call.size
        with Large(message) as large:
            call.charge(large.size)
            request = await self._large_request(rpc, large, call)
        # Nobody keeps it for longer than its answer takes.
        call.refund(call.size - before)
        return request

    def _encoded(self, response: ProtobufMessage | bytes) -> bytes:
        data = response if isinstance(response, bytes) else response.SerializeToString()
        if len(data) > self._limits.max_response_bytes:
            raise ResourceExhausted(f"Sent message larger than max ({len(data)} vs. {self._limits.max_response_bytes})")
        return data

    def _call(self, operation: Operation, stream: Stream, size: int) -> Call:
        own_id = stream.metadata.get(_REQUEST_ID, b"")
        call = stream.call = Call(
            self._interceptor, operation, stream.path, stream.peer, own_id.decode("latin-1"), stream.deadline, size,
            stream.metadata, stream.caller,
        )  # fmt: skip
        if own_id or self._interceptor.logs:
            stream.trailers = header(_REQUEST_ID, call.request_id.encode())
        return call


def _decoded(request_class: type[ProtobufMessage], data: bytes) -> ProtobufMessage:
    try:
        return request_class.FromString(data)
    except DecodeError as error:
        raise broken(error) from error

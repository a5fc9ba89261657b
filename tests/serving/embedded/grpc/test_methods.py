"""What stands between a gRPC connection and a service: requests decoded, responses encoded, ids, limits."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from types import SimpleNamespace
from typing import Any

import pytest
from google.protobuf.message import Message
from google.protobuf.wrappers_pb2 import StringValue

from serving.apis.status import Code
from serving.embedded.access.tokens import FOR_ANYONE, FOR_READ
from serving.embedded.admission.budget import Budget
from serving.embedded.grpc import methods
from serving.embedded.grpc.frames import header
from serving.embedded.grpc.methods import Methods, Rpc
from serving.embedded.limits import Limits
from serving.embedded.observe.calls import Call, Interceptor, Operation
from serving.embedded.offload import LARGE_BYTES, Offload
from serving.errors import InvalidArgument, ResourceExhausted, ServingError, Unimplemented

# Of an answer: a StringValue of 8 characters.
LIMIT = 10
PATHS = ("/t.Echo/One", "/t.Echo/All")


async def one(request: StringValue, _: Call) -> Message:
    """The request."""
    return request


async def every(requests: AsyncIterator[StringValue], _: Call) -> AsyncIterator[Message]:
    """The requests."""
    async for request in requests:
        yield request


class Port:
    """Methods that give requests back, one by one and as they come, and the codes of the calls that have ended."""

    def __init__(self, *, logs: bool = True) -> None:
        self.codes: list[Code] = []
        interceptor = Interceptor(list, access_log=(lambda call: self.codes.append(call.code)) if logs else None)
        rpcs = [
            Rpc(PATHS[0], StringValue, FOR_ANYONE, unary=one),
            Rpc(PATHS[1], StringValue, FOR_ANYONE, streaming=every),
        ]
        self.methods = Methods(interceptor, Limits(max_response_bytes=LIMIT), Offload(), rpcs)

    def stream(self, path: str, **metadata: str) -> Any:
        """A call of a method, as its connection has it."""
        fields = {name.replace("_", "-").encode(): value.encode() for name, value in metadata.items()}
        return SimpleNamespace(
            path=path, peer=str, deadline=None, metadata=fields, header_bytes=0, caller="", trailers=b"", call=None
        )

    def ask(self, path: str, *messages: bytes, stream: Any = None) -> list[bytes]:
        """What a method answers these messages with."""
        method = self.methods.by_path[path]
        stream = stream or self.stream(path)

        async def answers() -> list[bytes]:
            if method.unary is not None:
                return [await method.unary(messages[0], stream)]
            assert method.streaming is not None
            return [answer async for answer in method.streaming(incoming(), stream)]

        async def incoming() -> AsyncIterator[bytes]:
            for message in messages:
                yield message

        return asyncio.run(answers())


@pytest.mark.parametrize("path", PATHS)
def test_requests_and_responses(path: str) -> None:
    """A handler sees messages, and a connection bytes."""
    port = Port()

    assert port.ask(path, b"\x0a\x0201") == [b"\x0a\x0201"]
    assert port.codes == [Code.OK]


@pytest.mark.parametrize("path", PATHS)
def test_bytes_that_are_no_message(path: str) -> None:
    """INVALID_ARGUMENT, before the handler sees anything."""
    port = Port()

    with pytest.raises(InvalidArgument, match="The request is not the method's message: "):
        port.ask(path, b"\x0a\x0501")

    assert port.codes == [Code.INVALID_ARGUMENT]


@pytest.mark.parametrize("path", PATHS)
def test_a_response_that_is_too_long(path: str) -> None:
    """RESOURCE_EXHAUSTED in its place; the longest that may be is sent."""
    port = Port()
    longest = StringValue(value="8" * 8).SerializeToString()

    assert port.ask(path, longest) == [longest]
    with pytest.raises(ResourceExhausted, match=r"Sent message larger than max \(11 vs\. 10\)"):
        port.ask(path, StringValue(value="9" * 9).SerializeToString())

    assert port.codes == [Code.OK, Code.RESOURCE_EXHAUSTED]


@pytest.mark.parametrize("path", [*PATHS, "/t.Echo/None"])
@pytest.mark.parametrize("error", [ResourceExhausted("too long"), Unimplemented("not found")])
def test_a_call_that_its_connection_refuses(path: str, error: ServingError) -> None:
    """It is noted with its error, whether the method is known or not."""
    port = Port()

    port.methods.refused(port.stream(path), error)

    assert port.codes == [error.code]


@pytest.mark.parametrize(
    ("logs", "metadata", "has_id"),
    [(False, {}, False), (True, {}, True), (False, {"x_request_id": "mine"}, True)],
    ids=["neither", "logged", "the client's own"],
)
def test_request_ids(logs: bool, metadata: dict[str, str], has_id: bool) -> None:
    """They go back where the client has one of its own, or can find the call in a log by it."""
    port = Port(logs=logs)
    stream = port.stream(PATHS[0], **metadata)

    port.ask(PATHS[0], b"", stream=stream)

    assert (b"x-request-id" in stream.trailers) == has_id
    assert stream.call.request_id.encode() in stream.trailers or not has_id


def test_as_many_streaming_calls_as_there_may_be() -> None:
    """Of all connections together; one more is refused, and each gives its place back."""
    port = Port()
    port.methods._streaming_calls = methods._MAX_STREAMING_CALLS - 1
    for _ in range(2):
        assert port.ask(PATHS[1], b"") == [b""]
    port.methods._streaming_calls += 1
    for _ in range(2):
        with pytest.raises(ResourceExhausted, match="streaming calls are open, as many as may be"):
            port.ask(PATHS[1], b"")
    assert port.methods._streaming_calls == methods._MAX_STREAMING_CALLS


class Sized:
    """Methods that note what each call takes, of a server with a budget."""

    def __init__(self, budget: int = 0) -> None:
        self.sizes: list[int] = []
        self.calls: list[Call] = []
        self.budget = Budget(budget, lambda: 0.0)

        async def one(request: StringValue, call: Call) -> Message:
            self.sizes.append(call.size)
            call.header = b"x-own", b"value"
            return request

        async def every(requests: AsyncIterator[StringValue], call: Call) -> AsyncIterator[Message]:
            self.sizes.append(call.size)
            async for _ in requests:
                self.sizes.append(call.size)
                yield StringValue(value="x")

        interceptor = Interceptor(list, budget=self.budget, access_log=self.calls.append)
        rpcs = [
            Rpc(PATHS[0], StringValue, FOR_READ, unary=one, model=lambda request: str(request.value), measured=True),
            Rpc(PATHS[1], StringValue, FOR_ANYONE, streaming=every, model=lambda _: "all", counts=False),
        ]
        self.methods = Methods(interceptor, Limits(), Offload(), rpcs)

    def ask(self, path: str, *messages: bytes) -> Any:
        """The stream of a call, once it is answered."""
        port = Port()
        port.methods = self.methods
        stream = port.stream(path, x_request_id="mine")
        stream.header_bytes, stream.caller, stream.deadline = 100, "me", 7.0
        port.ask(path, *messages, stream=stream)
        assert self.budget.used == 0
        return stream


def test_a_call_takes_its_headers_and_its_message() -> None:
    """And is known by its method, its model, and who asks; a header of its handler's goes back beside the id."""
    port = Sized()
    stream = port.ask(PATHS[0], StringValue(value="m").SerializeToString())
    assert port.sizes == [100 + 3]
    assert stream.trailers == header(b"x-request-id", b"mine") + header(b"x-own", b"value")
    (call,) = port.calls
    assert call.operation == Operation("GRPC", "One", FOR_READ, measured=True, counts=True)
    assert (call.model, call.path, call.caller, call.deadline, call.code) == ("m", PATHS[0], "me", 7.0, Code.OK)


def test_a_streaming_call_takes_eight_kibibytes_and_each_large_message_while_it_is_answered() -> None:
    """A small one is not counted."""
    port = Sized()
    small, large = (StringValue(value="x" * size).SerializeToString() for size in (10, 200_000))
    port.ask(PATHS[1], small, large, small)
    begun = 100 + 8192
    assert port.sizes == [begun] * 4
    (call,) = port.calls
    assert call.operation == Operation("GRPC", "All", FOR_ANYONE, measured=False, counts=False)
    assert call.model == "all"


def test_a_large_message_of_a_streaming_call_that_does_not_fit_is_refused() -> None:
    """A small one is answered though nothing is left but what its call takes."""
    port = Sized(budget=100 + 8192)
    port.ask(PATHS[1], StringValue(value="x" * 10_000).SerializeToString())
    with pytest.raises(ResourceExhausted, match="--max_bytes_in_flight is 8292"):
        port.ask(PATHS[1], StringValue(value="x" * 200_000).SerializeToString())
    assert port.budget.used == 0


@pytest.mark.parametrize("size", [LARGE_BYTES, LARGE_BYTES + 1])
def test_a_message_of_128_kib_is_the_largest_that_is_decoded_at_once(size: int) -> None:
    """A larger one is paid for as a message once it is one."""
    port = Sized()
    data = StringValue(value="x" * (size - 4)).SerializeToString()
    assert len(data) == size
    port.ask(PATHS[0], data)
    assert port.sizes == [100 + size + (72 if size > LARGE_BYTES else 0)]


def test_a_refused_call_is_noted_under_its_method_and_takes_nothing() -> None:
    """Or under its name, where the server does not have it."""
    port = Sized()
    for path, operation in (
        (PATHS[0], Operation("GRPC", "One", FOR_READ, measured=True, counts=False)),
        ("/t.Echo/None", Operation("GRPC", "None", FOR_ANYONE, measured=False, counts=False)),
    ):
        stream = Port().stream(path)
        port.methods.refused(stream, ResourceExhausted("too long"))
        call = port.calls.pop()
        assert (call.operation, call.path, call.code, call.size) == (operation, path, Code.RESOURCE_EXHAUSTED, 0)


def test_more_streaming_calls_than_there_may_be_says_how_many() -> None:
    """A thousand, of all connections."""
    port = Port()
    port.methods._streaming_calls = 1000
    with pytest.raises(ResourceExhausted) as raised:
        port.ask(PATHS[1], b"")
    assert str(raised.value) == "1000 streaming calls are open, as many as may be: try again"

"""Large requests and what they may cost: measured before they are parsed, unpacked within the budget, let go of."""

from __future__ import annotations

import asyncio
import gzip
import itertools
import sys
from collections.abc import Callable
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
from google.protobuf.message import DecodeError, Message
from hypothesis import given, settings
from hypothesis import strategies as st

from serving.apis import tensors
from serving.apis.messages import ClassificationRequest, PredictRequest, TensorProto
from serving.embedded.access.tokens import FOR_ANYONE
from serving.embedded.admission.budget import Budget
from serving.embedded.grpc.messages import MessageReader, Parcel
from serving.embedded.grpc.methods import Methods, Rpc
from serving.embedded.grpc.wire import Cost, cost
from serving.embedded.limits import Limits
from serving.embedded.observe.calls import Call, Interceptor
from serving.embedded.offload import LARGE_BYTES, Offload
from serving.errors import InvalidArgument, ResourceExhausted
from tests.support.http2_peer import message

MiB = 2**20
PATH = "/t/Predict"
# References to a request: its handler's own, and the one of `getrefcount`.
_ALONE = 2


def field(number: int, data: bytes) -> bytes:
    """A field with a length, of less than 2 MiB."""
    size = len(data)
    return bytes((number << 3 | 2, size & 0x7F | 0x80, size >> 7 & 0x7F | 0x80, size >> 14)) + data


def steps(data: bytes, request_class: Any = PredictRequest, elements: int = 1000) -> tuple[int, Cost]:
    """In how many steps a message is measured, and what it costs."""
    measure = cost(data, request_class.DESCRIPTOR, elements)
    for count in itertools.count(1):
        try:
            next(measure)
        except StopIteration as end:
            return count, end.value
    raise AssertionError


def measured(data: bytes, request_class: Any = PredictRequest, elements: int = 1000) -> int:
    """What a message will take."""
    return steps(data, request_class, elements)[1].nbytes


@pytest.mark.parametrize(
    ("data", "request_class"),
    [
        (b"\x12\x00" * 200, PredictRequest),
        (b"\x1a\x00" * 300, PredictRequest),
        (field(2, field(2, b"\x42\x00" * 300)), PredictRequest),
        (field(2, field(2, field(7, bytes(10_000)))), PredictRequest),
        (field(2, field(2, field(2, b"\x12\x00" * 2000))), PredictRequest),
        (field(2, field(1, field(1, b"\x0a\x00" * 2000))), ClassificationRequest),
        (field(2, field(1, field(1, field(1, b"\x0a\x00" * 200)))), ClassificationRequest),
        (b"\xf8\x07\x01" * 2000, PredictRequest),
    ],
    ids=["map", "names", "strings", "packed", "dims", "examples", "features", "unknown"],
)
def test_elements_are_bounded_however_they_are_nested(data: bytes, request_class: Any) -> None:
    """The flag is named; the same is taken when the limit is higher."""
    with pytest.raises(ResourceExhausted, match="--max_request_elements=1000"):
        measured(data, request_class)
    assert measured(data, request_class, 100_000) >= len(data)


def test_as_many_elements_as_there_may_be() -> None:
    """Exactly the limit passes."""
    numbers = b"\xf8\x07\x01"  # a field that no message has
    assert measured(numbers * 1000, PredictRequest) > 3000
    with pytest.raises(ResourceExhausted, match="--max_request_elements=1000"):
        measured(numbers * 1001, PredictRequest)
    names = field(3, b"probabilities")
    assert measured(names * 250, PredictRequest) > len(names) * 250
    with pytest.raises(ResourceExhausted, match="--max_request_elements=1000"):
        measured(names * 251, PredictRequest)


@pytest.mark.parametrize("values", [{"tensor_content": bytes(MiB)}, {"float_val": np.zeros(MiB // 4)}], ids=list)
def test_large_tensors_are_few_elements(values: dict[str, Any]) -> None:
    """However large: they cost no more than their bytes, twice."""
    request = PredictRequest()
    request.inputs["x"].CopyFrom(TensorProto(**values))
    assert MiB < measured(request.SerializeToString()) < MiB + 10_000


def test_many_elements_are_measured_in_steps() -> None:
    """A thread that measures holds the interpreter for a few thousand elements at a time; the first step is short."""
    number = b"\xf8\x07\x01"  # a field that no message has
    assert steps(number * 99)[0] == 1
    assert steps(number * 100)[0] == 2
    assert steps(number * 4195, elements=5000)[0] == 2
    assert steps(number * 4196, elements=5000)[0] == 3
    assert steps(number * 4197, elements=5000)[1].elements == 4197


@settings(deadline=None, max_examples=200)
@given(st.binary(max_size=60))
def test_what_is_broken_for_the_measure_is_broken_for_the_parser(data: bytes) -> None:
    """The measure refuses nothing that protobuf would take."""
    try:
        measured(data)
    except DecodeError:
        with pytest.raises(DecodeError):
            PredictRequest.FromString(data)


def parcel(data: bytes, encoding: bytes = b"identity") -> Parcel:
    """A message as it comes in pieces."""
    reader = MessageReader(encoding, 100 * MiB)
    whole = message(data, int(encoding != b"identity"))
    (result,) = [*reader.feed(whole[:50]), *reader.feed(whole[50:])]
    assert isinstance(result, Parcel)
    return result


class Port:
    """One method behind an interceptor with a budget of 8 MiB. handle: gets the request and the call."""

    def __init__(self, handle: Callable[[Any, Call], Message], budget: int = 8 * MiB) -> None:
        self.budget = Budget(budget, lambda: 0.0)

        async def unary(request: Message, call: Call) -> Message:
            return handle(request, call)

        rpc = Rpc(PATH, PredictRequest, FOR_ANYONE, unary=unary)
        self._method = Methods(Interceptor(list, budget=self.budget), Limits(), Offload(), [rpc]).by_path[PATH].unary

    def ask(self, data: Any) -> bytes:
        """The answer."""
        assert self._method is not None
        stream: Any = SimpleNamespace(
            path=PATH, peer=str, deadline=None, metadata={}, header_bytes=100, caller="", trailers=b"", call=None
        )
        return asyncio.run(self._asked(data, stream))

    async def _asked(self, data: Any, stream: Any) -> bytes:
        assert self._method is not None
        return await self._method(data, stream)


def predict_request(size: int) -> PredictRequest:
    """A request of so many bytes."""
    request = PredictRequest()
    request.inputs["x"].CopyFrom(tensors.make_tensor_proto(np.zeros(size // 4, np.float32)))
    return request


@pytest.mark.parametrize("encoding", [b"identity", b"gzip"])
def test_a_large_request_arrives(encoding: bytes) -> None:
    """In pieces or packed; its bytes are gone, and the message is paid for, when its handler begins."""
    request = predict_request(2 * MiB)
    data = request.SerializeToString()
    sizes: list[int] = []

    def handle(request: Message, call: Call) -> Message:
        sizes.append(call.size)
        return request

    port = Port(handle)
    whole = parcel(gzip.compress(data) if encoding == b"gzip" else data, encoding)
    assert PredictRequest.FromString(port.ask(whole)) == request
    # Beside 100 bytes of headers.
    assert sizes == [measured(data) + 100]
    assert whole.joined() == b""
    assert port.budget.used == 0


def test_what_unpacks_beyond_the_budget_is_refused_while_it_does() -> None:
    """80 MiB of zeros in 80 KiB: RESOURCE_EXHAUSTED, and nothing is kept."""
    port = Port(lambda request, _: request)
    bomb = parcel(gzip.compress(bytes(80 * MiB)), b"gzip")
    with pytest.raises(ResourceExhausted, match="--max_bytes_in_flight"):
        port.ask(bomb)
    assert port.budget.used == 0
    assert bomb.joined() == b""


def test_large_bytes_that_are_no_message() -> None:
    """INVALID_ARGUMENT, as for small ones."""
    with pytest.raises(InvalidArgument, match="The request is not the method's message"):
        Port(lambda request, _: request).ask(b"\x0a\xff\xff\xff\x7f" + bytes(LARGE_BYTES))


@pytest.mark.parametrize("size", [1000, 2 * MiB], ids=["small", "large"])
def test_a_request_is_its_handlers_alone(size: int) -> None:
    """Nothing on the way to it keeps the message: it is free once the handler lets go of it."""
    counts: list[int] = []

    async def unary(request: Any, _: Call) -> Message:
        # The thread that made it may have to run once more to let go of it.
        for _attempt in range(1000):
            await asyncio.sleep(0.001)
            if sys.getrefcount(request) == _ALONE:
                break
        counts.append(sys.getrefcount(request))
        return PredictRequest()

    port = Port(lambda request, _: request)
    rpc = Rpc(PATH, PredictRequest, FOR_ANYONE, unary=unary)
    port._method = Methods(Interceptor(list), Limits(), Offload(), [rpc]).by_path[PATH].unary
    port.ask(predict_request(size).SerializeToString())
    assert counts == [_ALONE]


def test_a_large_request_takes_its_bytes_while_it_is_unpacked() -> None:
    """128 KiB first, and then 4 MiB at a time, beside what was sent: where there is less, it is refused."""
    data = predict_request(MiB).SerializeToString()
    packed = gzip.compress(data)
    needed = 100 + len(packed) + LARGE_BYTES + 4 * MiB
    for more, fits in ((0, True), (-1, False)):
        # A large charge has nine tenths of the budget.
        port = Port(lambda request, _: request, budget=-(-(needed + more) * 10 // 9))
        whole = parcel(packed, b"gzip")
        if fits:
            assert port.ask(whole)
        else:
            with pytest.raises(ResourceExhausted, match="--max_bytes_in_flight"):
                port.ask(whole)
        assert port.budget.used == 0


def test_a_large_request_with_too_many_elements_is_refused_before_it_is_parsed() -> None:
    """Its bytes are let go of."""
    whole = parcel(b"\xf8\x07\x01" * (2**20 + 1))
    port = Port(lambda request, _: request)
    with pytest.raises(ResourceExhausted, match="more elements than --max_request_elements=1048576"):
        port.ask(whole)
    assert whole.joined() == b""
    assert port.budget.used == 0

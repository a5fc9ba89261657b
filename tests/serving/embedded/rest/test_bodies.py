"""JSON bodies at the edges of their limits, what calls are charged for them, and where the work is done."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Coroutine, Mapping
from typing import Any, TypeVar

import numpy as np
import pytest

from serving.embedded.access.tokens import FOR_ANYONE
from serving.embedded.admission.budget import Budget
from serving.embedded.limits import Limits
from serving.embedded.observe.calls import Call, Interceptor, Operation
from serving.embedded.offload import LARGE_BYTES, Offload
from serving.embedded.rest.bodies import Bodies, Document
from serving.embedded.rest.json import outputs
from serving.embedded.rest.json.size import json_size
from serving.embedded.rest.messages import HttpRequest
from serving.errors import ResourceExhausted

T = TypeVar("T")
LIMITS = Limits(max_request_elements=6, max_unpacked_bytes=13)


class Noted(Offload):
    """Does its work, and notes its sizes."""

    def __init__(self) -> None:
        super().__init__()
        self.sizes: list[int] = []

    async def run(self, size: int, work: Any) -> Any:
        """What the work gives."""
        self.sizes.append(size)
        return await super().run(size, work)


class Bench:
    """The bodies of one call, and its budget. size: of what it sent."""

    def __init__(self, limits: Limits = Limits(), size: int = 0, budget: int = 0) -> None:  # noqa: B008 - a constant
        self.budget = Budget(budget, lambda: 0.0)
        self.offload = Noted()
        self.bodies = Bodies(self.offload, limits)
        operation = Operation("REST", "Predict", FOR_ANYONE)
        self.call = Call(Interceptor(list, budget=self.budget), operation, "/p", str, "", size=size)

    def run(self, work: Coroutine[Any, Any, T]) -> T:
        """What becomes of some work while the call lasts; nothing is left of its bytes."""
        with self.call:
            result = asyncio.run(work)
            self.charged = self.call.size
            assert self.budget.used == self.charged
        assert self.budget.used == 0
        return result

    def parse(self, body: bytes) -> Document:
        """What a body holds, which its request does not have any more."""
        request = HttpRequest("POST", "/p", {}, body, True, False)
        document = self.run(self.bodies.parse(request, self.call))
        assert request.body == b""
        return document


def body_of(size: int) -> bytes:
    """A body of a size with one value."""
    return b'{"a":"' + b"x" * (size - 8) + b'"}'


def test_as_many_values_as_there_may_be() -> None:
    """An object, a name, a list and three numbers are six."""
    limits = LIMITS._replace(max_unpacked_bytes=1000)
    assert Bench(limits).parse(b'{"a":[1,2,3]}').value == {"a": [1, 2, 3]}
    with pytest.raises(ResourceExhausted) as raised:
        Bench(limits).parse(b'{"a":[1,2,3,4]}')
    assert str(raised.value) == (
        "The request has more than 6 JSON values, the server's --max_request_elements: send fewer rows at a time, or "
        "send gRPC"
    )


def test_a_body_as_large_as_it_may_be() -> None:
    """To the byte."""
    assert Bench(LIMITS).parse(b'{"a":[1,2,3]}').value == {"a": [1, 2, 3]}
    with pytest.raises(ResourceExhausted) as raised:
        Bench(LIMITS).parse(b'{"a":[1,2,3]} ')
    assert str(raised.value) == "A JSON body of 14 bytes is too large: the limit is 13, send gRPC"


@pytest.mark.parametrize(
    ("body", "none"),
    [
        (b'{"a": true}', False),
        (b'{"a": false}', False),
        (b'{"a": [true, false]}', False),
        (b'{"a": null, "l": "u"}', True),
        (b'{"tru": "fals"}', True),
        (b'{"a": 1}', True),
    ],
)
def test_a_document_says_whether_it_may_hold_booleans(body: bytes, none: bool) -> None:
    """And how large its body was."""
    document = Bench().parse(body)
    assert (document.no_booleans, document.size) == (none, len(body))


def test_a_large_body_is_charged_for_what_its_values_take() -> None:
    """It is looked at, and parsed, away from the event loop; one of 128 KiB is neither charged nor given away."""
    bench, body = Bench(size=LARGE_BYTES), body_of(LARGE_BYTES)
    bench.parse(body)
    assert (bench.charged, bench.offload.sizes) == (LARGE_BYTES, [])
    bench, body = Bench(size=LARGE_BYTES + 1), body_of(LARGE_BYTES + 1)
    document = bench.parse(body)
    assert (document.value, document.size) == ({"a": "x" * (len(body) - 8)}, len(body))
    assert bench.charged == len(body) + json_size(body, 100).parsed_bytes
    assert bench.offload.sizes == [len(body), len(body)]


def test_a_body_that_might_have_too_many_values_is_charged_however_small() -> None:
    """Where the server takes fewer values than a body has bytes."""
    limits = Limits(max_request_elements=8)
    bench = Bench(limits)
    bench.parse(b'{"a": 1}')
    assert bench.charged == 0
    body = b'{"a": 1} '
    bench = Bench(limits)
    bench.parse(body)
    assert bench.charged == json_size(body, 8).parsed_bytes


def test_a_body_whose_values_do_not_fit_into_the_budget_is_refused() -> None:
    """Before it is parsed."""
    bench = Bench(size=LARGE_BYTES + 1, budget=2 * LARGE_BYTES)
    with pytest.raises(ResourceExhausted, match="--max_bytes_in_flight is 262144"):
        bench.parse(body_of(LARGE_BYTES + 1))
    assert bench.offload.sizes == [LARGE_BYTES + 1]


def converted(document: Document, seen: list[tuple[str, int]], bench: Bench, method: str) -> object:
    """What becomes of a document, and where and with how many bytes in use it was converted."""

    def convert(value: Mapping[str, Any]) -> object:
        assert document.value == {}
        seen.append((threading.current_thread().name.partition("_")[0], bench.call.size))
        return value["a"]

    work = bench.bodies.read if method == "read" else bench.bodies.read_message
    return bench.run(work(document, bench.call, convert))


@pytest.mark.parametrize("method", ["read", "read_message"])
def test_a_small_document_is_converted_at_once_and_for_nothing(method: str) -> None:
    """One of 128 KiB is the largest."""
    bench, seen = Bench(size=LARGE_BYTES + 500), list[tuple[str, int]]()
    assert converted(Document({"a": 1}, LARGE_BYTES, no_booleans=True), seen, bench, method) == 1
    assert seen == [("MainThread", LARGE_BYTES + 500)]
    assert (bench.charged, bench.offload.sizes) == (LARGE_BYTES + 500, [])


def test_the_arrays_of_a_large_document_are_charged_as_its_body() -> None:
    """What its values took is given back once they are arrays."""
    size = LARGE_BYTES + 1
    bench, seen = Bench(size=5 * size), list[tuple[str, int]]()
    assert converted(Document({"a": 1}, size, no_booleans=True), seen, bench, "read") == 1
    assert seen == [("large", 5 * size)]
    assert bench.charged == size
    # A body that was sent compressed and is charged for less than it is.
    for charged in (size, size - 1):
        bench = Bench(size=charged)
        converted(Document({"a": 1}, size, no_booleans=True), seen, bench, "read")
        assert bench.charged == charged


def test_the_message_of_a_large_document_is_charged_as_twice_its_values() -> None:
    """While it is made, beside them."""
    bench, seen = Bench(size=1000), list[tuple[str, int]]()
    assert converted(Document({"a": 1}, LARGE_BYTES + 1, no_booleans=True), seen, bench, "read_message") == 1
    assert seen == [("large", 3000)]
    assert bench.charged == 2000


@pytest.mark.parametrize("by_rows", [False, True])
def test_a_large_answer_is_charged_and_written_in_pieces(by_rows: bool) -> None:
    """Arrays of 128 KiB in all are not large."""
    arrays = {"a": np.zeros((2, 2**15), np.uint8), "b": np.zeros((2, 2**15), np.uint8)}
    text = outputs.outputs_json(arrays, row_format=by_rows).encode()
    bench = Bench()
    assert bench.run(bench.bodies.written(arrays, bench.call, by_rows=by_rows)) == text
    assert (bench.charged, bench.offload.sizes) == (0, [])
    arrays["c"] = np.zeros((2, 1), np.uint8)
    size = LARGE_BYTES + 2
    text = outputs.outputs_json(arrays, row_format=by_rows).encode()
    bench = Bench()
    assert bench.run(bench.bodies.written(arrays, bench.call, by_rows=by_rows)) == text
    assert bench.charged == size + outputs.outputs_bytes(arrays, row_format=by_rows)
    assert bench.offload.sizes == [size]


def test_a_text_becomes_the_bytes_that_it_was_made_of() -> None:
    """Those too that are no UTF-8; away from the event loop where it is about much."""
    for size in (LARGE_BYTES, LARGE_BYTES + 1):
        threads: list[str] = []

        def write(threads: list[str] = threads) -> str:
            threads.append(threading.current_thread().name.partition("_")[0])
            return b"\xc3\xa4\xff".decode("utf-8", "surrogateescape")

        bench = Bench()
        assert bench.run(bench.bodies.text(size, write)) == b"\xc3\xa4\xff"
        assert threads == ["MainThread" if size == LARGE_BYTES else "large"]

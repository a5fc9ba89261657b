"""Predict and Classify beside their models: who pays for arrays and answers, what is refused, what is let go of."""

from __future__ import annotations

import asyncio
import re
import sys
import threading
from collections.abc import Awaitable, Callable, Coroutine, Mapping
from pathlib import Path
from types import SimpleNamespace
from typing import Any, TypeVar

import numpy as np
import pytest

from serving.apis import tensors
from serving.apis.messages import (
    DT_FLOAT,
    DT_STRING,
    ClassificationRequest,
    MultiInferenceRequest,
    PredictRequest,
    PredictResponse,
    SignatureDef,
)
from serving.apis.tensors import Array
from serving.embedded.access.tokens import FOR_ANYONE
from serving.embedded.admission.budget import Budget
from serving.embedded.grpc.services.models import ModelServices
from serving.embedded.inference import examples
from serving.embedded.inference.model import LoadedModel
from serving.embedded.inference.predict import Engine, check_rows
from serving.embedded.inference.runner import Run
from serving.embedded.limits import Limits
from serving.embedded.models.storage import VersionDirectory
from serving.embedded.models.versions import Version
from serving.embedded.observe.calls import Call, Interceptor, Operation
from serving.embedded.offload import Offload
from serving.errors import InvalidArgument, ResourceExhausted

MiB = 2**20

T = TypeVar("T")


class Server:
    """A model whose answer is of so many floats, behind a budget of 16 MiB.

    optional: letters, which are inputs with defaults. paid: of the budget, when the model ran.
    """

    def __init__(
        self,
        size: int | tuple[int, ...] = 10,
        data_type: int = DT_FLOAT,
        alias: str = "x",
        output: str = "y",
        optional: str = "",
    ) -> None:
        definition = SignatureDef(method_name="tensorflow/serving/classify")
        definition.inputs[alias].name, definition.inputs[alias].dtype = "x:0", data_type
        definition.outputs[output].name, definition.outputs[output].dtype = "y:0", DT_FLOAT
        for name in optional:
            definition.inputs[name].name, definition.inputs[name].dtype = f"{name}:0", DT_FLOAT
            definition.defaults[name].CopyFrom(tensors.make_tensor_proto(np.ones(1, np.float32), tensor_content=False))
        servable: Any = SimpleNamespace(
            signatures={"serving_default": definition}, loop_free=frozenset(), runtime="none", run=None, close=None
        )
        self.version: Version[LoadedModel] = Version("m", 1, VersionDirectory(Path("/m/1")), threading.RLock())
        self.version.put(LoadedModel("m", 1, servable))
        self.size = size
        self.budget = Budget(16 * MiB, lambda: 0.0)
        self.request_references = 0
        self.paid = 0
        self.engine = Engine(self._use, self._run, Limits(), offload=Offload().run)
        api: Any = SimpleNamespace(engine=self.engine, core=SimpleNamespace(use=self._use))
        self._services = ModelServices(api)
        self._request: list[Any] = []

    def _use(self, _: Any) -> Version[LoadedModel]:
        self.version.use()
        return self.version

    def _run(self, run: Run) -> Awaitable[list[Array]]:
        async def values() -> list[Array]:
            self.paid = self.budget.used
            # The list's own, and the one of `getrefcount`.
            self.request_references = sys.getrefcount(self._request[0]) - 2
            assert run.feeds
            return [np.ones(self.size, np.float32)]

        return values()

    def predict(self, request: PredictRequest, size: int = 1000) -> PredictResponse:
        """The answer to a request that came as so many bytes."""
        requests = [request]
        del request
        answer = self.ask(requests, lambda requests, call: self._services._predict(requests.pop(), call), size)
        return PredictResponse.FromString(answer)

    def ask(
        self, requests: list[Any], method: Callable[[list[Any], Call], Coroutine[Any, Any, T]], size: int = 1000
    ) -> T:
        """What a method answers, which takes the request out of the list: nobody else has it."""
        self._request = list(requests)
        call = self.call(size)

        async def asked() -> T:
            with call:
                return await method(requests, call)

        return asyncio.run(asked())

    def call(self, size: int = 1000) -> Call:
        """A call of a request of so many bytes."""
        return Call(
            Interceptor(list, budget=self.budget), Operation("GRPC", "Predict", FOR_ANYONE), "/p", str, "", None, size
        )


def request_of(inputs: Mapping[str, Array]) -> PredictRequest:
    """A request for these arrays."""
    request = PredictRequest()
    request.model_spec.name = "m"
    for name, array in inputs.items():
        request.inputs[name].CopyFrom(tensors.make_tensor_proto(array, tensor_content=False))
    return request


@pytest.mark.parametrize("count", [10, 500_000], ids=["small", "large"])
def test_a_request_is_let_go_of_before_its_model_runs(count: int) -> None:
    """The arrays are paid for then, and the message is not."""
    server = Server()
    answer = server.predict(request_of({"x": np.ones(count, np.float32)}), 3 * MiB)
    assert list(answer.outputs["y"].float_val) == [1.0] * 10
    # `predict` of this test has none either.
    assert server.request_references <= 1
    assert server.paid == 4 * count
    assert server.budget.used == 0


@pytest.mark.parametrize(
    ("method", "output"), [("classify", "scores"), ("regress", "outputs"), ("multi_inference", "scores")]
)
def test_a_request_of_examples_is_let_go_of_before_its_model_runs(method: str, output: str) -> None:
    """Whoever asks for what."""
    server = Server((2, 1), DT_STRING, "inputs", output)
    requests: list[Any] = [MultiInferenceRequest() if method == "multi_inference" else ClassificationRequest()]
    if method == "multi_inference":
        requests[0].tasks.add(method_name="tensorflow/serving/classify").model_spec.name = "m"
    else:
        requests[0].model_spec.name = "m"
    for _ in range(2):
        requests[0].input.example_list.examples.add()
    server.ask(requests, lambda requests, call: getattr(examples, method)(server.engine, requests.pop(), None, call))
    assert server.paid > 0
    assert server.request_references == 0


def test_a_large_answer_is_paid_for_before_it_is_written() -> None:
    """As message and as bytes; beyond the budget it is refused, and the next is before its run."""
    server = Server(MiB)
    assert len(server.predict(request_of({"x": np.ones(1, np.float32)})).outputs["y"].float_val) == MiB
    server.size = 3 * MiB
    with pytest.raises(ResourceExhausted, match="--max_bytes_in_flight"):
        server.predict(request_of({"x": np.ones(1, np.float32)}))
    server.paid = 0
    with pytest.raises(ResourceExhausted):
        server.predict(request_of({"x": np.ones(1, np.float32)}))
    assert server.paid == 0
    assert server.budget.used == 0


def test_a_short_request_for_a_large_tensor_pays_for_it() -> None:
    """64 MB by their shape, of one value."""
    request = request_of({"x": np.ones(1, np.float32)})
    request.inputs["x"].tensor_shape.dim[0].size = 2**24
    with pytest.raises(ResourceExhausted, match="--max_bytes_in_flight"):
        Server().predict(request)


def test_a_short_request_for_very_many_strings() -> None:
    """They are elements, however few were sent."""
    request = request_of({"x": np.array([b""], object)})
    request.inputs["x"].tensor_shape.dim[0].size = 2**20
    with pytest.raises(ResourceExhausted, match=r"Input x has 1048576 strings.*--max_request_elements=1048576"):
        Server(data_type=DT_STRING).predict(request)
    # Each counts as four.
    request.inputs["x"].tensor_shape.dim[0].size = 2**18 + 1
    with pytest.raises(ResourceExhausted, match="Input x has 262145 strings"):
        Server(data_type=DT_STRING).predict(request)
    # As many as may be: only their bytes are too many here.
    request.inputs["x"].tensor_shape.dim[0].size = 2**18
    with pytest.raises(ResourceExhausted, match="--max_bytes_in_flight"):
        Server(data_type=DT_STRING).predict(request)


def test_errors_quote_the_names_of_a_request_only_so_far() -> None:
    """The first few of very many, and no more than 200 characters of each."""
    request = request_of(
        {f"name{number}" if number else "n" * 100_000: np.ones(1, np.float32) for number in range(1000)}
    )
    with pytest.raises(
        InvalidArgument, match=r"input size does not match signature: 1000!=1 .*\(1000 in all\)"
    ) as info:
        Server().predict(request)
    assert len(str(info.value)) < 16_000
    # 32 of those that were sent, and as many of those that are unexpected.
    assert len(re.findall(r"name\d+|n{100,}", str(info.value))) == 2 * 32


def test_a_context_is_paid_for_with_every_example() -> None:
    """100 kB before each of 200 empty examples: 20 MB."""
    server = Server(data_type=DT_STRING, alias="inputs", output="scores")
    request = ClassificationRequest()
    request.model_spec.name = "m"
    list_with_context = request.input.example_list_with_context
    list_with_context.context.features.feature["c"].bytes_list.value.append(bytes(100_000))
    for _ in range(200):
        list_with_context.examples.add()
    call = server.call()
    with call, pytest.raises(ResourceExhausted, match="--max_bytes_in_flight"):
        asyncio.run(examples.classify(server.engine, request, None, call))


def test_as_many_rows_as_there_may_be() -> None:
    """Exactly the limit passes; 0 is none."""
    for rows, limit in ((0, 5), (5, 5), (10**9, 0)):
        check_rows("x", rows, Limits(max_request_rows=limit))
    with pytest.raises(InvalidArgument, match=r"^Input x has 6 rows: the limit is --max_request_rows=5$"):
        check_rows("x", 6, Limits(max_request_rows=5))


def test_an_input_that_the_signature_does_not_have_in_the_place_of_one_with_a_default() -> None:
    """The error says which of the inputs were used, and which were sent."""
    server = Server(optional="de")
    assert server.predict(request_of({"x": np.ones(1, np.float32)})).outputs["y"].float_val
    with pytest.raises(
        InvalidArgument, match=r"^Inputs contains invalid name\. Used request inputs: d,x, request input: [dxz,]{5}$"
    ):
        server.predict(request_of({name: np.ones(1, np.float32) for name in "xdz"}))

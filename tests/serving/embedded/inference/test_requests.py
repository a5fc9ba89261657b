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
from serving.embedded.inference.predict import Engine, check_rows, find_signature, input_size, planned
from serving.embedded.inference.runner import Run
from serving.embedded.limits import Limits
from serving.embedded.models.storage import VersionDirectory
from serving.embedded.models.versions import Version
from serving.embedded.observe.calls import Call, Interceptor, Operation
from serving.embedded.offload import Offload
from serving.errors import FailedPrecondition, Internal, InvalidArgument, ResourceExhausted, ServingError

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


X = np.ones(2, np.float32)


def plan(server: Server, inputs: Mapping[str, Any], *output_filter: str, **limits: int) -> Run:
    """The run of a request, of the inputs as messages or as arrays."""
    engine = server.engine._replace(limits=Limits(**limits))
    signature = find_signature(engine, server.version, "")
    return planned(engine, server.version, signature, inputs, output_filter, None).run


def test_a_request_becomes_a_run() -> None:
    """Arrays as they are, messages as arrays, in the order of the inputs' names; one with a default may be left."""
    server = Server(optional="de")
    run = plan(server, {"x": X, "d": tensors.make_tensor_proto(2 * X)})
    assert [(name, array.tolist()) for name, array in run.feeds.items()] == [
        ("d:0", [2, 2]),
        ("e:0", [1]),
        ("x:0", [1, 1]),
    ]
    assert run.feeds["x:0"] is X
    assert (run.version, run.fetches, run.deadline) == (server.version, ("y:0",), None)
    assert plan(Server(), {"x": X}, "y").fetches == ("y:0",)


@pytest.mark.parametrize(
    ("inputs", "output_filter", "limits", "error", "text"),
    [
        (
            {"x": X, "z": X}, [], {}, InvalidArgument,
            (
                "input size does not match signature: 2!=1 len({x,z}) != len({x}). Sent extra: {z}. "
                "Missing but required: {}."
            ),
        ),
        (
            {}, [], {}, InvalidArgument,
            (
                "input size does not match signature: 0!=1 len({}) != len({x}). Sent extra: {}. "
                "Missing but required: {x}."
            ),
        ),
        (
            {"z": X}, [], {}, InvalidArgument,
            (
                "Signature input alias: x(feed name: x:0) not found in request and no default value provided. Inputs "
                "expected to be in the request {z}, or default input alias set: "
            ),
        ),
        (
            {"x": X}, [], {"max_tensor_bytes": 7}, InvalidArgument,
            "Input x has 8 bytes: the limit is --max_tensor_bytes=7",
        ),
        (
            {"x": X}, [], {"max_request_rows": 1}, InvalidArgument,
            "Input x has 2 rows: the limit is --max_request_rows=1",
        ),
        (
            {"x": tensors.make_tensor_proto(X.astype(np.float64))}, [], {}, InvalidArgument,
            "Expects arg[0] to be float but double is provided",
        ),
        (
            {"x": tensors.make_tensor_proto(X)}, [], {"max_tensor_bytes": 7}, InvalidArgument,
            "tensor parsing error: x",
        ),
        (
            {"x": tensors.make_tensor_proto(np.array([b"a", b"b"], object))}, [], {"max_request_elements": 7},
            ResourceExhausted,
            "Input x has 2 strings, which count as 4 elements each: the limit is --max_request_elements=7",
        ),
        (
            {"x": X}, ["z"], {}, InvalidArgument,
            "output tensor alias not found in signature: z Outputs expected to be in the set {y}.",
        ),
        ({"x": X}, ["y", "y"], {}, InvalidArgument, "duplicate output tensor alias: y"),
    ],
)  # fmt: skip
def test_a_request_that_cannot_be_run(
    inputs: Mapping[str, Any], output_filter: list[str], limits: Mapping[str, int], error: type[ServingError], text: str
) -> None:
    """In TF Serving's words, or with the flag that bounds it."""
    with pytest.raises(error) as raised:
        plan(Server(), inputs, *output_filter, **limits)
    assert str(raised.value) == text


def test_an_input_without_a_default_must_be_sent() -> None:
    """The error says which have one."""
    with pytest.raises(InvalidArgument) as raised:
        plan(Server(optional="de"), {"d": X, "e": X})
    assert str(raised.value) == (
        "Signature input alias: x(feed name: x:0) not found in request and no default value provided. Inputs expected "
        "to be in the request {d,e}, or default input alias set: d,e"
    )


def test_a_wrong_type_is_named_by_its_place_among_the_inputs() -> None:
    """Which are sorted by their names."""
    with pytest.raises(InvalidArgument, match=r"^Expects arg\[2\] to be float but int32 is provided$"):
        plan(Server(optional="de"), {"d": X, "e": X, "x": tensors.make_tensor_proto(np.ones(1, np.int32))})


@pytest.mark.parametrize(
    "limits", [{"max_tensor_bytes": 8}, {"max_request_rows": 2}, {"max_request_rows": 0}], ids=["bytes", "rows", "none"]
)
def test_a_request_may_be_as_large_as_its_limits(limits: Mapping[str, int]) -> None:
    """As an array and as a message; strings count as four elements each."""
    for value in (X, tensors.make_tensor_proto(X)):
        assert plan(Server(), {"x": value}, **limits).feeds["x:0"].tolist() == [1, 1]
    strings = tensors.make_tensor_proto(np.array([b"a", b"b"], object))
    assert plan(Server(data_type=DT_STRING), {"x": strings}, max_request_elements=8).feeds["x:0"].tolist() == [
        b"a",
        b"b",
    ]
    scalar = tensors.make_tensor_proto(np.float32(3))
    assert plan(Server(), {"x": scalar}, max_request_rows=1).feeds["x:0"].tolist() == 3


def test_the_signature_of_a_request() -> None:
    """The default one where none is named; its method must be TF Serving's where the server is told to check it."""
    server = Server()
    default = server.version.servable.signatures["serving_default"]
    assert find_signature(server.engine, server.version, "") is default
    assert find_signature(server.engine, server.version, "serving_default") is default
    with pytest.raises(FailedPrecondition, match=r'^Serving signature key "other" not found\.$'):
        find_signature(server.engine, server.version, "other")
    checking = server.engine._replace(check_method_names=True)
    for method in ("predict", "classify", "regress"):
        default.definition.method_name = f"tensorflow/serving/{method}"
        assert find_signature(checking, server.version, "") is default
    default.definition.method_name = "mine"
    assert find_signature(server.engine, server.version, "") is default
    with pytest.raises(Internal) as raised:
        find_signature(checking, server.version, "")
    assert str(raised.value) == (
        "Expected prediction signature method_name to be one of {tensorflow/serving/predict, "
        "tensorflow/serving/classify, tensorflow/serving/regress}. Was: mine"
    )


def test_the_size_of_a_requests_arrays() -> None:
    """Of the signature's inputs; one that will be refused for its size, or for its name, is never made."""
    server = Server(optional="d")
    signature = server.version.servable.signatures["serving_default"]
    inputs = {
        "x": tensors.make_tensor_proto(np.ones(4, np.float32), tensor_content=False),
        "d": tensors.make_tensor_proto(np.ones(2, np.float32), tensor_content=False),
        "z": tensors.make_tensor_proto(np.ones(9, np.float32), tensor_content=False),
    }
    sizes = {limit: input_size(signature, inputs, Limits(max_tensor_bytes=limit)) for limit in (16, 15, 7)}
    both, one = (tensors.ndarray_size(inputs[name]) for name in "xd")
    assert (both.nbytes, one.nbytes) == (16, 8)
    assert sizes[16] == (24, both.converted + one.converted)
    assert sizes[15] == one
    assert sizes[7] == (0, 0)


def test_the_answer_names_the_version_that_gave_it() -> None:
    """And the signature, in the answer and as it is on the wire."""
    model = Server(optional="d").version.servable
    assert str(model.spec("s")) == str(PredictResponse(model_spec=model.spec("s")).model_spec)
    assert (model.spec("s").name, model.spec("s").version.value, model.spec("s").signature_name) == ("m", 1, "s")
    assert model.spec().signature_name == ""
    signature = model.signatures["serving_default"]
    assert signature.spec == model.spec("serving_default")
    assert PredictResponse.FromString(signature.spec_field).model_spec == signature.spec
    assert signature.inputs == (("d", "d:0", DT_FLOAT), ("x", "x:0", DT_FLOAT))
    assert signature.input_types == {"d": DT_FLOAT, "x": DT_FLOAT}
    assert (signature.aliases, signature.fetches, signature.output_types) == (("y",), ("y:0",), {"y": DT_FLOAT})


@pytest.mark.parametrize(("data_type", "expected"), [(DT_FLOAT, {"p:0"}), (DT_STRING, set())])
def test_the_probabilities_of_a_model_are_outputs_of_that_name(data_type: int, expected: set[str]) -> None:
    """Floats, of whichever signatures; another output is none."""
    first, second = SignatureDef(), SignatureDef()
    first.outputs["probabilities"].name, first.outputs["probabilities"].dtype = "p:0", data_type
    second.outputs["y"].name, second.outputs["y"].dtype = "y:0", DT_FLOAT
    servable: Any = SimpleNamespace(
        signatures={"a": first, "b": second}, loop_free=frozenset(), runtime="none", run=None, close=None
    )
    assert LoadedModel("m", 1, servable).probabilities == expected

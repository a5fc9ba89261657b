"""Classify and Regress: which signatures and which outputs are refused, in TF Serving's words."""

from __future__ import annotations

import asyncio
import re
import threading
from collections.abc import Mapping, Sequence
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

from serving.apis.messages import (
    DT_FLOAT,
    DT_STRING,
    ClassificationRequest,
    ClassificationResponse,
    ModelSpec,
    MultiInferenceRequest,
    RegressionRequest,
    RegressionResponse,
    SignatureDef,
)
from serving.apis.tensors import Array, array_bytes
from serving.embedded.admission.budget import Budget
from serving.embedded.admission.samples import Sample, Spare
from serving.embedded.inference import examples
from serving.embedded.inference.model import LoadedModel
from serving.embedded.inference.predict import CLASSIFY_METHOD, REGRESS_METHOD, Engine
from serving.embedded.inference.runner import Run
from serving.embedded.limits import Limits
from serving.embedded.models.storage import VersionDirectory
from serving.embedded.models.versions import Version
from serving.errors import FailedPrecondition, InvalidArgument, ServingError, Unimplemented

FLOATS = np.zeros((2, 3), np.float32)
LABELS = np.array([[b"a", b"b", b"c"], [b"d", b"e", b"\xff"]], object)
VALUES = np.array([1.5, 2.5], np.float32)


def engine(
    outputs: Mapping[str, Array], inputs: Sequence[str] = ("inputs",), method: str = "", *, checks: bool = False
) -> Engine:
    """One version whose only signature has these inputs, outputs and method name. checks: the method name."""
    definition = SignatureDef(method_name=method)
    for name in inputs:
        definition.inputs[name].name, definition.inputs[name].dtype = f"{name}:0", DT_STRING
    for name in outputs:
        definition.outputs[name].name, definition.outputs[name].dtype = name, DT_FLOAT
    servable: Any = SimpleNamespace(
        signatures={"serving_default": definition}, loop_free=frozenset(), runtime="none", run=None, close=None
    )
    version: Version[LoadedModel] = Version("m", 7, VersionDirectory(Path("/m/7")), threading.RLock())
    version.put(LoadedModel("m", 7, servable))

    def use(_: Any) -> Version[LoadedModel]:
        version.use()
        return version

    async def run(asked: Run) -> list[Array]:
        return [outputs[name] for name in asked.fetches]

    return Engine(use, run, Limits(), check_method_names=checks)


def classify(model: Engine) -> ClassificationResponse:
    """The answer for two examples."""
    request = ClassificationRequest()
    request.model_spec.name = "m"
    for _ in range(2):
        request.input.example_list.examples.add()
    return asyncio.run(examples.classify(model, request))


def regress(model: Engine) -> RegressionResponse:
    """The answer for two examples."""
    request = RegressionRequest()
    request.model_spec.name = "m"
    for _ in range(2):
        request.input.example_list.examples.add()
    return asyncio.run(examples.regress(model, request))


DEBUG = """goo.gle/debugstr\x20\x20\x20\x20
inputs {
  key: "inputs"
  value {
    name: "inputs:0"
    dtype: DT_STRING
  }
}
outputs {
  key: "values"
  value {
    name: "values"
    dtype: DT_FLOAT
  }
}
"""


def inference(*tasks: tuple[str, str, str]) -> MultiInferenceRequest:
    """A request of one example. tasks: the model, the signature and the method of each."""
    request = MultiInferenceRequest()
    request.input.example_list.examples.add()
    for model, signature, method in tasks:
        task = request.tasks.add(method_name=f"tensorflow/serving/{method}")
        task.model_spec.name, task.model_spec.signature_name = model, signature
    return request


def test_several_signatures_of_one_model_answer_at_once() -> None:
    """In one run of all their outputs, each in its place; the answers are as those of one alone."""
    runs: list[Run] = []
    model = engine({"scores": FLOATS[:1] + 0.5})
    version = model.use(ModelSpec())
    definition = SignatureDef()
    definition.inputs["inputs"].name, definition.inputs["inputs"].dtype = "inputs:0", DT_STRING
    definition.outputs["outputs"].name, definition.outputs["outputs"].dtype = "values", DT_FLOAT
    version.servable.signatures["second"] = version.servable._signature("second", definition)

    async def run(asked: Run) -> list[Array]:
        runs.append(asked)
        return [FLOATS[:1] + 0.5, VALUES[:1]]

    request = inference(("m", "second", "regress"), ("m", "", "classify"))
    response = asyncio.run(examples.multi_inference(model._replace(run=run), request, 7.0))
    (only,) = runs
    assert (only.fetches, only.deadline, only.version) == (("scores", "values"), 7.0, version)
    assert {name: feed.tolist() for name, feed in only.feeds.items()} == {"inputs:0": [b""]}
    first, second = response.results
    assert (first.model_spec.signature_name, second.model_spec.signature_name) == ("second", "serving_default")
    assert {each.model_spec.version.value for each in response.results} == {7}
    assert [entry.value for entry in first.regression_result.regressions] == [1.5]
    assert [entry.score for entry in second.classification_result.classifications[0].classes] == [0.5] * 3


@pytest.mark.parametrize(
    ("tasks", "error", "message"),
    [
        ([("", "", "classify")], InvalidArgument, "Found ModelSpec with an empty model name."),
        (
            [("m", "", "classify"), ("n", "", "classify")], InvalidArgument,
            "All ModelSpecs in a MultiInferenceRequest must access the same model name.",
        ),
        (
            [("m", "", "classify"), ("m", "serving_default", "regress")], InvalidArgument,
            "Duplicate evaluation of signature: serving_default",
        ),
        ([("m", "other", "classify")], InvalidArgument, "Requested signature not found in model graph: other"),
        ([("m", "", "predict")], Unimplemented, "Unsupported signature method_name: tensorflow/serving/predict"),
    ],
)  # fmt: skip
def test_several_signatures_that_are_refused(
    tasks: list[tuple[str, str, str]], error: type[ServingError], message: str
) -> None:
    """In TF Serving's words."""
    with pytest.raises(error) as raised:
        asyncio.run(examples.multi_inference(engine({"scores": FLOATS}), inference(*tasks)))
    assert str(raised.value) == message


def test_what_a_request_of_examples_must_have() -> None:
    """A model, a signature that there is, and an example."""
    model = engine({"scores": FLOATS})
    request = ClassificationRequest()
    for spec, message in (
        (None, "Missing ModelSpec"),
        (ModelSpec(signature_name="x"), "No signature was found with the name: x"),
        (ModelSpec(name="m"), "Input is empty."),
    ):
        if spec is not None:
            request.model_spec.CopyFrom(spec)
        with pytest.raises(InvalidArgument) as raised:
            asyncio.run(examples.classify(model, request))
        assert str(raised.value) == message
    for _ in range(3):
        request.input.example_list.examples.add()
    limited = model._replace(limits=Limits(max_request_rows=2))
    with pytest.raises(InvalidArgument, match=r"^Input inputs has 3 rows: the limit is --max_request_rows=2$"):
        asyncio.run(examples.classify(limited, request))


def test_a_context_is_in_front_of_every_example() -> None:
    """As one message: the features of both."""
    seen: list[bytes] = []
    model = engine({"scores": FLOATS})

    async def run(asked: Run) -> list[Array]:
        seen.extend(asked.feeds["inputs:0"].tolist())
        assert (asked.fetches, asked.deadline) == (("scores",), 5.0)
        return [FLOATS]

    request = ClassificationRequest()
    request.model_spec.name = "m"
    both = request.input.example_list_with_context
    both.context.features.feature["c"].bytes_list.value.append(b"1")
    for name in "ab":
        both.examples.add().features.feature[name].bytes_list.value.append(b"2")
    asyncio.run(examples.classify(model._replace(run=run), request, 5.0))
    context = both.context.SerializeToString()
    assert seen == [context + example.SerializeToString() for example in both.examples]


class Kept:
    """Who pays for a call, and keeps it: what was charged and given back, and the bytes of its record."""

    span = None

    def __init__(self, size: int) -> None:
        self.size = size
        self.deadline: float | None = None
        self.charges: list[int] = []
        self.kept = Sample(Spare(Budget(0, lambda: 0.0), 2**20), "m")

    def charge(self, size: int) -> None:
        """Takes bytes."""
        self.size += size
        self.charges.append(size)

    def refund(self, size: int) -> None:
        """Gives bytes back."""
        self.size -= size
        self.charges.append(-size)

    def sample(self, model: str) -> Sample:
        """The sample of its model."""
        assert model == "m"
        return self.kept


@pytest.mark.parametrize("with_context", [False, True])
@pytest.mark.parametrize("method", ["classify", "regress", "multi_inference"])
def test_a_call_of_examples_pays_and_is_kept(method: str, with_context: bool) -> None:
    """For its examples instead of its request, for its answer instead of them; the record is what was asked."""
    outputs = {"outputs": VALUES} if method == "regress" else {"scores": FLOATS}
    kinds: dict[str, Any] = {"classify": ClassificationRequest, "regress": RegressionRequest}
    request: Any = kinds[method]() if method in kinds else inference(("m", "", "classify"))
    request.ClearField("input")
    if method in kinds:
        request.model_spec.name = "m"
    given = request.input.example_list_with_context if with_context else request.input.example_list
    if with_context:
        given.context.features.feature["c"].bytes_list.value.append(b"1")
    for name in "ab":
        given.examples.add().features.feature[name].bytes_list.value.append(b"2")
    size = request.input.ByteSize() + 2 * 64 + (2 * given.context.ByteSize() if with_context else 0)
    account: Any = Kept(1000)
    asked = type(request).FromString(request.SerializeToString())
    response = asyncio.run(getattr(examples, method)(engine(outputs), request, None, account))
    answer = sum(64 * array.size + array.nbytes for array in outputs.values())
    assert account.charges == [size, -1000, -size, answer]
    assert account.size == answer
    name, head = account.kept.request
    assert (name, account.kept.size) == (type(asked).__name__, answer + tensors_of(given))
    assert account.kept.spec == (response.results[0] if method == "multi_inference" else response).model_spec
    assert b"".join(account.kept.response()) == response.SerializeToString(deterministic=True)
    recorded = type(asked).FromString(head + b"".join(account.kept.inputs()))
    if with_context:
        context = given.context.SerializeToString()
        joined = [type(each).FromString(context + each.SerializeToString()) for each in given.examples]
        asked.input.example_list.examples.extend(joined)
    assert recorded == asked


def tensors_of(given: Any) -> int:
    """The bytes of the strings that a model gets for these examples."""
    context = given.context.SerializeToString() if hasattr(given, "context") else b""
    return array_bytes(np.array([context + each.SerializeToString() for each in given.examples], object))


def test_classes_have_labels_and_scores() -> None:
    """What is no UTF-8 is replaced; either of the two may be missing, and a third output is too much."""
    both = classify(engine({"classes": LABELS, "scores": FLOATS + 0.5}))
    assert (both.model_spec.name, both.model_spec.version.value) == ("m", 7)
    assert [[entry.label for entry in row.classes] for row in both.result.classifications] == [
        ["a", "b", "c"],
        ["d", "e", "\ufffd"],
    ]
    assert {entry.score for row in both.result.classifications for entry in row.classes} == {0.5}
    assert {
        entry.score for row in classify(engine({"classes": LABELS})).result.classifications for entry in row.classes
    } == {0}
    assert {
        entry.label for row in classify(engine({"scores": FLOATS})).result.classifications for entry in row.classes
    } == {""}


@pytest.mark.parametrize("values", [VALUES, VALUES[:, np.newaxis]], ids=["vector", "column"])
def test_values_are_a_vector_or_a_column(values: Array) -> None:
    """One an example."""
    assert [entry.value for entry in regress(engine({"outputs": values})).result.regressions] == [1.5, 2.5]


@pytest.mark.parametrize(
    ("outputs", "error", "message"),
    [
        ({"a": FLOATS, "b": FLOATS, "c": FLOATS}, InvalidArgument, "Expected one or two output Tensors, found 3"),
        ({}, InvalidArgument, "Expected one or two output Tensors, found 0"),
        (
            {"values": FLOATS}, FailedPrecondition,
            r'^Expected classification signature outputs to contain at least one of "classes" or "scores"\. '
            "Signature was: "
            + re.escape(DEBUG),
        ),
        ({"scores": VALUES}, InvalidArgument, r"Expected Tensor shape: \[batch_size num_classes\] but got \[2\]"),
        ({"scores": FLOATS.astype(np.float64)}, InvalidArgument, "Expected scores Tensor of DT_FLOAT. Got: DT_DOUBLE"),
        ({"classes": FLOATS}, InvalidArgument, "Expected classes Tensor of DT_STRING. Got: DT_FLOAT"),
        ({"scores": FLOATS[:1]}, InvalidArgument, "Expected scores output batch size of 2. Got: 1"),
        (
            {"classes": LABELS, "scores": FLOATS[:, :2]}, InvalidArgument,
            r"Tensors class and score should match in dim_size\(1\). Got 3 vs. 2",
        ),
    ],
)  # fmt: skip
def test_classifications_that_are_refused(outputs: dict[str, Array], error: type[ServingError], message: str) -> None:
    """By their signature, or by what came out."""
    with pytest.raises(error, match=message):
        classify(engine(outputs))


@pytest.mark.parametrize(
    ("outputs", "error", "message"),
    [
        ({"outputs": VALUES, "more": VALUES}, InvalidArgument, r"^Expected one output Tensor\.$"),
        (
            {"values": VALUES}, FailedPrecondition,
            f"^{re.escape(f'No regression outputs found in SignatureDef: {DEBUG}')}$",
        ),
        ({"outputs": FLOATS}, InvalidArgument, r"\[batch_size\] or \[batch_size, 1\] but got \[2,3\]$"),
        ({"outputs": VALUES[0]}, InvalidArgument, r"\[batch_size\] or \[batch_size, 1\] but got \[\]$"),
        ({"outputs": VALUES[:1]}, InvalidArgument, "Input batch size did not match output batch size: 2 vs. 1"),
        ({"outputs": VALUES.astype(int)}, InvalidArgument, r"Expected output Tensor of DT_FLOAT\.  Got: DT_INT64"),
    ],
)  # fmt: skip
def test_regressions_that_are_refused(outputs: dict[str, Array], error: type[ServingError], message: str) -> None:
    """By their signature, or by what came out."""
    with pytest.raises(error, match=message):
        regress(engine(outputs))


@pytest.mark.parametrize(("inputs", "message"), [(("inputs", "more"), "one input Tensor"), ((), "one input Tensor")])
def test_examples_need_one_input(inputs: tuple[str, ...], message: str) -> None:
    """Whatever it is called."""
    with pytest.raises(InvalidArgument, match=message):
        regress(engine({"outputs": VALUES}, inputs))
    for ask, outputs in ((classify, {"scores": FLOATS}), (regress, {"outputs": VALUES})):
        with pytest.raises(FailedPrecondition, match=r"^No (classification|regression) inputs found in SignatureDef"):
            ask(engine(outputs, ("images",)))


def test_method_names_are_checked_where_the_server_is_told_to() -> None:
    """Otherwise a signature answers whatever it is called."""
    regress(engine({"outputs": VALUES}, method=CLASSIFY_METHOD))
    regress(engine({"outputs": VALUES}, method=REGRESS_METHOD, checks=True))
    with pytest.raises(
        InvalidArgument,
        match=f"^Expected regression signature method_name to be {REGRESS_METHOD}. Was: {CLASSIFY_METHOD}$",
    ):
        regress(engine({"outputs": VALUES}, method=CLASSIFY_METHOD, checks=True))

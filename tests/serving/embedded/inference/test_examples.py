"""Classify and Regress: which signatures and which outputs are refused, in TF Serving's words."""

from __future__ import annotations

import asyncio
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
    RegressionRequest,
    RegressionResponse,
    SignatureDef,
)
from serving.apis.tensors import Array
from serving.embedded.inference import examples
from serving.embedded.inference.model import LoadedModel
from serving.embedded.inference.predict import CLASSIFY_METHOD, REGRESS_METHOD, Engine
from serving.embedded.inference.runner import Run
from serving.embedded.limits import Limits
from serving.embedded.models.storage import VersionDirectory
from serving.embedded.models.versions import Version
from serving.errors import FailedPrecondition, InvalidArgument, ServingError

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
        ({"a": FLOATS}, FailedPrecondition, 'Expected classification signature outputs to contain at least one of "cl'),
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
        ({"values": VALUES}, FailedPrecondition, "No regression outputs found in SignatureDef"),
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

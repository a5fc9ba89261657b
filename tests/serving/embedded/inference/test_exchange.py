"""What is kept of a request and its answer becomes the bytes of its messages."""

from __future__ import annotations

import asyncio
import threading
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

from serving.apis.messages import (
    DT_FLOAT,
    DT_INT64,
    DT_STRING,
    ClassificationRequest,
    ClassificationResponse,
    Input,
    ModelSpec,
    PredictRequest,
    PredictResponse,
    SignatureDef,
)
from serving.apis.tensors import Array, array_bytes, make_ndarray
from serving.embedded.admission.budget import Budget
from serving.embedded.admission.samples import Sample, Spare
from serving.embedded.inference.exchange import (
    Tensors,
    answer_examples,
    answer_predict,
    ask_examples,
    ask_predict,
    map_entry,
    predict_head,
)
from serving.embedded.inference.model import LoadedModel, Signature
from serving.embedded.inference.predict import Engine, predict
from serving.embedded.inference.runner import Run
from serving.embedded.limits import Limits
from serving.embedded.models.storage import VersionDirectory
from serving.embedded.models.versions import Version

X = np.array([1.0, 2.5], np.float32)
WORDS = np.array([b"a", b""], object)


class BytesAlone(Sample):
    """One that needs no arrays."""

    wants_arrays = False


@pytest.fixture
def version() -> Version[LoadedModel]:
    """Version 7 of m, whose only signature is of x and words to y and z."""
    definition = SignatureDef()
    for side, names in ((definition.inputs, ("x", "words")), (definition.outputs, ("y", "z"))):
        for name in names:
            side[name].name = f"{name}:0"
            side[name].dtype = {"words": DT_STRING, "z": DT_INT64}.get(name, DT_FLOAT)
    servable: Any = SimpleNamespace(
        signatures={"s": definition}, loop_free=frozenset(), runtime="none", run=None, close=None
    )
    version: Version[LoadedModel] = Version("m", 7, VersionDirectory(Path("/m/7")), threading.RLock())
    version.put(LoadedModel("m", 7, servable))
    return version


@pytest.fixture
def signature(version: Version[LoadedModel]) -> Signature:
    """That signature."""
    return version.servable.signatures["s"]


def sample(kind: type[Sample] = Sample) -> Sample:
    """What keeps a request to m."""
    return kind(Spare(Budget(0, lambda: 0.0), 2**20), "m")


def arrays(tensors: Any) -> dict[str, list[Any]]:
    """The values of a map of TensorProtos."""
    return {alias: make_ndarray(tensor, max_bytes=2**20).tolist() for alias, tensor in tensors.items()}


def test_tensors_are_an_entry_each() -> None:
    """With what is behind them; their size is that of the arrays."""
    kept: dict[str, tuple[Array, int]] = {"x": (X, DT_FLOAT), "words": (WORDS, DT_STRING)}
    for tensor_content in (False, True):
        made = Tensors(b"\x12", kept, b"\x1a\x01y", tensor_content=tensor_content)
        request = PredictRequest.FromString(b"".join(made()))
        assert arrays(request.inputs) == {"x": [1.0, 2.5], "words": [b"a", b""]}
        assert list(request.output_filter) == ["y"]
        assert bool(request.inputs["x"].tensor_content) is tensor_content
        assert made.size == X.nbytes + array_bytes(WORDS)
        assert made.arrays == {"x": X, "words": WORDS}
    assert Tensors(b"\x12", {})() == [b""]


@pytest.mark.parametrize("size", [0, 1, 117, 118, 200, 2**14, 2**21])
def test_the_beginning_of_an_entry(size: int) -> None:
    """Lengths have as many bytes as they need."""
    content = bytes(max(0, size - 8))
    response = PredictResponse()
    response.outputs["n\u00e4me"].string_val.append(content)
    whole = response.SerializeToString()
    tensor = response.outputs["n\u00e4me"].SerializeToString()
    assert map_entry(b"\x0a", "n\u00e4me", len(tensor)) + tensor == whole


@pytest.mark.parametrize("output_filter", [[], ["y"]])
def test_a_predict_request_and_its_answer(signature: Signature, output_filter: list[str]) -> None:
    """As it was sent, numbers as raw bytes; inputs that were not sent are not there; the answer has its version."""
    spec = ModelSpec(name="m", signature_name="s", version_label="stable")
    request = PredictRequest(model_spec=spec, output_filter=output_filter)
    kept = sample()
    ask_predict(kept, predict_head(request), signature, {"x:0": X})
    answer_predict(kept, signature, {"z": np.array([3, 4]), "y": X})
    name, head = kept.request
    assert kept.inputs
    assert kept.response
    asked = PredictRequest.FromString(head + b"".join(kept.inputs()))
    assert (name, asked.model_spec, list(asked.output_filter)) == ("PredictRequest", spec, output_filter)
    assert arrays(asked.inputs) == {"x": [1.0, 2.5]}
    assert asked.inputs["x"].tensor_content == X.tobytes()
    answer = PredictResponse.FromString(b"".join(kept.response()))
    assert arrays(answer.outputs) == {"y": [1.0, 2.5], "z": [3, 4]}
    assert (answer.model_spec.version.value, answer.model_spec.signature_name) == (7, "s")
    assert kept.spec == answer.model_spec
    assert kept.size == X.nbytes + X.nbytes + 16


@pytest.mark.parametrize("is_kept", [True, False])
def test_a_call_that_is_kept_and_traced(version: Version[LoadedModel], is_kept: bool) -> None:
    """What it asked for, and what it got; its run has its span, which is told when the request is read."""
    kept, told = sample(), list[str]()
    span = SimpleNamespace(parsed=lambda: told.append("parsed"))
    account: Any = SimpleNamespace(span=span, sample=lambda model: kept if (is_kept, model) == (True, "m") else None)
    runs: list[Run] = []

    async def run(asked: Run) -> list[Array]:
        runs.append(asked)
        return [X * 2]

    def use(_: ModelSpec) -> Version[LoadedModel]:
        return version

    spec = ModelSpec(name="m", signature_name="s")
    asked = predict(Engine(use, run, Limits()), version, "s", {"x": X, "words": WORDS}, ["y"], 7.0, account, spec)
    signature, outputs = asyncio.run(asked)
    assert signature is version.servable.signatures["s"]
    assert {name: array.tolist() for name, array in outputs.items()} == {"y": [2.0, 5.0]}
    (only,) = runs
    assert (only.fetches, only.deadline, only.spans) == (("y:0",), 7.0, (span,))
    assert told == ["parsed"]
    assert kept.is_whole is is_kept
    if is_kept:
        assert kept.inputs
        assert kept.response
        request = PredictRequest.FromString(kept.request[1] + b"".join(kept.inputs()))
        assert (request.model_spec, list(request.output_filter)) == (spec, ["y"])
        assert arrays(request.inputs) == {"x": [1.0, 2.5], "words": [b"a", b""]}
        answer = PredictResponse.FromString(b"".join(kept.response()))
        assert arrays(answer.outputs) == {"y": [2.0, 5.0]}


def test_the_bytes_of_an_answer_are_kept_where_they_are_at_hand(signature: Signature) -> None:
    """Unless somebody wants the arrays."""
    for kind, is_bytes in ((BytesAlone, True), (Sample, False)):
        kept = sample(kind)
        answer_predict(kept, signature, {"y": X}, b"the answer")
        assert kept.response
        assert isinstance(kept.response, Tensors) is not is_bytes
        assert (kept.response() == [b"the answer"]) is is_bytes
        assert kept.size == (len(b"the answer") if is_bytes else X.nbytes)
        assert kept.spec == signature.spec
    kept = sample(BytesAlone)
    answer_predict(kept, signature, {"y": X})
    assert isinstance(kept.response, Tensors)


def test_a_request_of_examples_and_its_answer() -> None:
    """Examples as they are fed; however long one is."""
    examples = np.array([b"", b"x" * 300], object)
    kept = sample()
    ask_examples(kept, ClassificationRequest(model_spec=ModelSpec(name="m")), examples)
    response = ClassificationResponse(model_spec=ModelSpec(name="m"))
    answer_examples(kept, response.model_spec, 50, response)
    assert kept.inputs
    assert kept.response
    name, head = kept.request
    assert (name, head) == ("ClassificationRequest", b"\x0a\x03\x0a\x01m")
    # The second is no tf.Example: what is fed is not looked at.
    inner = Input()
    inner.example_list.examples.add()
    assert b"".join(kept.inputs()).startswith(b"\x12\xb4\x02\x0a\xb1\x02\x0a\x00\x0a\xac\x02xxx")
    assert b"".join(kept.response()) == response.SerializeToString()
    assert (kept.spec, kept.size) == (response.model_spec, array_bytes(examples) + 50)

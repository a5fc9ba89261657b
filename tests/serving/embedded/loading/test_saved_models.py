"""Any SavedModel is served: TensorFlow 1 and 2, rarer dtypes, asset files, several versions."""

from __future__ import annotations

from collections.abc import Iterator

import grpc
import httpx
import ml_dtypes
import numpy as np
import pytest

from serving.apis import services
from serving.apis.messages import (
    DT_QINT8,
    ClassificationRequest,
    ModelSpec,
    MultiInferenceRequest,
    RegressionRequest,
)
from tests.support.asking import call, predict
from tests.support.live import Server


@pytest.fixture(scope="module")
def channel(toy_server: Server) -> Iterator[grpc.Channel]:
    """A connection to the server with the toy models."""
    with grpc.insecure_channel(toy_server.grpc) as channel:
        yield channel


def test_versions_side_by_side(channel: grpc.Channel) -> None:
    """The newest one without a version, each one by its number."""
    x = np.array([1.0, 4.0], np.float32)

    assert predict(channel, "half_plus_two", {"x": x})["y"].tolist() == [3.5, 5.0]
    assert predict(channel, "half_plus_two", {"x": x}, version=1)["y"].tolist() == [2.5, 4.0]


def test_a_tensorflow_1_export(channel: grpc.Channel, toy_server: Server) -> None:
    """Predict, Classify, Regress and MultiInference of an export with a variable and a leading-zero version."""
    spec = ModelSpec(name="tf1", signature_name="classify_x_to_y")
    classify = ClassificationRequest(model_spec=spec)
    classify.input.example_list.examples.add().features.feature["x"].float_list.value.append(2.0)
    regress = RegressionRequest(model_spec=spec, input=classify.input)
    regress.model_spec.signature_name = "regress_x_to_y"
    both = MultiInferenceRequest(input=classify.input)
    both.tasks.add(model_spec=regress.model_spec, method_name="tensorflow/serving/regress")
    both.tasks.add(model_spec=classify.model_spec, method_name="tensorflow/serving/classify")

    assert predict(channel, "tf1", {"x": np.array([2.0], np.float32)})["y"].tolist() == [3.0]
    classified = call(channel, services.CLASSIFY, classify)
    assert classified.model_spec.version.value == 123
    assert classified.result.classifications[0].classes[0].score == 3.0
    assert call(channel, services.REGRESS, regress).result.regressions[0].value == 3.0
    results = call(channel, services.MULTI_INFERENCE, both).results
    assert results[0].regression_result.regressions[0].value == 3.0
    assert results[1].classification_result.classifications[0].classes[0].score == 3.0
    answer = httpx.post(
        f"http://{toy_server.rest}/v1/models/tf1:classify",
        json={"signature_name": "classify_x_to_y", "examples": [{"x": 2.0}]},
    )
    assert answer.json() == {"results": [[["", 3.0]]]}


def test_rarer_dtypes(channel: grpc.Channel) -> None:
    """What goes in comes out, in both encodings of the wire, bit for bit."""
    values = {
        "bfloat16": np.array([1.5, -2.0], ml_dtypes.bfloat16),
        "half": np.array([0.5, 65504], np.float16),
        "int8": np.array([-128, 127], np.int8),
        "int16": np.array([-32768, 32767], np.int16),
        "uint16": np.array([0, 65535], np.uint16),
        "uint32": np.array([0, 2**32 - 1], np.uint32),
        "uint64": np.array([0, 2**64 - 1], np.uint64),
        "complex64": np.array([1 + 2j, -1j], np.complex64),
        "complex128": np.array([1 + 2j, -1j], np.complex128),
        "qint8": np.array([-128, 127], np.int8),
    }

    answer = predict(channel, "many_types", values, dtypes={"qint8": DT_QINT8})

    for name, value in values.items():
        assert answer[f"{name}_out"].dtype == value.dtype, name
        assert answer[f"{name}_out"].tolist() == value.tolist(), name


def test_an_asset_file(channel: grpc.Channel, toy_server: Server) -> None:
    """The words come from the file in the SavedModel."""
    assert predict(channel, "assets", {"words": ["two", "zero"]})["ids"].tolist() == [2, 0]
    answer = httpx.post(
        f"http://{toy_server.rest}/v1/models/assets:predict", json={"instances": ["one", {"b64": "dHdv"}]}
    )
    assert answer.json() == {"predictions": [1, 2]}

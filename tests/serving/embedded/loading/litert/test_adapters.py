"""The export's four signatures on LiteRT, two of which need decoders that it has not."""

from __future__ import annotations

import base64
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import grpc
import httpx
import numpy as np
import pytest
from google.protobuf.json_format import MessageToDict

from fashion_common.served_model import CLASS_NAMES
from serving.apis import services
from serving.apis.messages import ClassificationRequest, ModelSpec, MultiInferenceRequest, SavedModel
from serving.embedded.inference.model import Servable
from serving.embedded.loading.litert.adapters import with_pictures
from serving.embedded.loading.litert.lite_model import LiteModel, load
from serving.embedded.loading.load import version_load
from serving.embedded.models.storage import VersionDirectory
from serving.errors import InvalidArgument
from tests.support.asking import call, predict
from tests.support.live import Server, running
from tests.support.road import Road
from tests.training.export.test_decoding import FILES

GOOD = FILES["PNG gray"]


@pytest.fixture(scope="module")
def version(road: Road) -> Path:
    """The road's export."""
    return road.directory / "models" / "fashion_mnist" / "1"


@pytest.fixture(scope="module")
def server(version: Path) -> Iterator[Server]:
    """A server of the export on LiteRT; version 1 is AVAILABLE, so warmup and self-test have passed."""
    with running("--model_name=fashion_mnist", f"--model_base_path={version.parent}", "--runtime=litert") as server:
        yield server


@pytest.fixture(scope="module")
def model(version: Path) -> Servable:
    """The same in this process."""
    return load(VersionDirectory(version))


def shapes(definition: Any) -> dict[str, Any]:
    """What a client sees of a signature, but for the tensors' names, which are each runtime's own."""
    tensors = MessageToDict(definition)
    for side in ("inputs", "outputs"):
        for info in tensors[side].values():
            del info["name"]
    tensors.pop("defaults", None)
    return dict(tensors)


def test_the_signatures_are_the_saved_model_s(version: Path, model: Servable) -> None:
    """Names, dtypes, shapes and method names."""
    saved_model = SavedModel.FromString((version / "saved_model.pb").read_bytes())
    definitions = saved_model.meta_graphs[0].signature_def
    expected = {name: shapes(definitions[name]) for name in definitions if not name.startswith("__")}
    assert {name: shapes(definition) for name, definition in model.signatures.items()} == expected


def test_warmup_and_self_test_pass(version: Path) -> None:
    """Of all four signatures."""
    loaded = version_load(load, require_manifest=True)("fashion_mnist", 1, VersionDirectory(version))
    assert sorted(loaded.signatures) == ["classify", "encoded_images", "float_images", "serving_default"]
    # A file decides how long these two take.
    assert not loaded.loop_free & {info.name for info in model_outputs(loaded.signatures["encoded_images"])}
    assert loaded.loop_free >= {info.name for info in model_outputs(loaded.signatures["serving_default"])}


def model_outputs(signature: Any) -> list[Any]:
    """The outputs' TensorInfos."""
    return list(signature.definition.outputs.values())


def test_the_answers_are_those_of_tensorflow(road: Road, server: Server) -> None:
    """The road's server runs the same version on TensorFlow."""
    files = np.array([FILES["PNG colour with alpha"], FILES["JPEG colour"], GOOD], object)
    with grpc.insecure_channel(road.servers["grpc"].removeprefix("grpc://")) as channel:
        expected = predict(channel, "fashion_mnist", {"image_bytes": files}, signature_name="encoded_images")
    with grpc.insecure_channel(server.grpc) as channel:
        answer = predict(channel, "fashion_mnist", {"image_bytes": files}, signature_name="encoded_images")
    assert answer.keys() == expected.keys()
    # A pixel may be rounded to its neighbour where a picture is resized.
    np.testing.assert_allclose(answer["probabilities"], expected["probabilities"], atol=0.02)


def test_a_picture_over_rest(server: Server) -> None:
    """As the README asks TensorFlow; a bad one is told with its row, and a good one beside it is not answered."""
    url = f"http://{server.rest}/v1/models/fashion_mnist:predict"
    good = {"b64": base64.b64encode(GOOD).decode()}
    body = {"signature_name": "encoded_images", "instances": [good]}
    [prediction] = httpx.post(url, json=body).json()["predictions"]
    assert prediction["class_names"] == CLASS_NAMES[prediction["class_ids"]]
    assert abs(sum(prediction["probabilities"]) - 1) < 1e-5

    answer = httpx.post(url, json={**body, "instances": [good, {"b64": "AAAA"}]})
    assert answer.status_code == 400
    text = "image 1 of 2, counted from 0, is not a whole PNG, JPEG, GIF or BMP image of at most 67108864 pixels"
    assert answer.json()["error"] == text


def example(file: bytes) -> ClassificationRequest:
    """A request of TF Serving's Classify API."""
    request = ClassificationRequest(model_spec=ModelSpec(name="fashion_mnist", signature_name="classify"))
    feature = request.input.example_list.examples.add().features.feature["image/encoded"]
    feature.bytes_list.value.append(file)
    return request


def test_classify(server: Server) -> None:
    """Class names in label order, with their scores; MultiInference takes the same way."""
    request = example(GOOD)
    both = MultiInferenceRequest(input=request.input)
    both.tasks.add(model_spec=request.model_spec, method_name="tensorflow/serving/classify")
    with grpc.insecure_channel(server.grpc) as channel:
        [row] = call(channel, services.CLASSIFY, request).result.classifications
        [result] = call(channel, services.MULTI_INFERENCE, both).results
        encoded = predict(
            channel, "fashion_mnist", {"image_bytes": np.array([GOOD], object)}, signature_name="encoded_images"
        )
    assert tuple(entry.label for entry in row.classes) == CLASS_NAMES
    assert [entry.score for entry in row.classes] == encoded["probabilities"][0].tolist()
    assert result.classification_result.classifications[0] == row


@pytest.mark.parametrize(
    ("change", "text"),
    [
        (
            lambda request: request.input.example_list.examples[0].ClearField("features"),
            "image/encoded .* required",
        ),
        (lambda request: features(request)["image/encoded"].bytes_list.value.append(GOOD), "has 2 strings, not one$"),
        (lambda request: features(request)["image/encoded"].int64_list.value.append(1), "has 0 strings, not one$"),
        (lambda request: features(request)["image/encoded"].bytes_list.value.__setitem__(0, b"x"), "^image 0 of 1, "),
    ],
    ids=["no feature", "two files", "a number", "no picture"],
)
def test_an_example_without_a_picture(server: Server, change: Any, text: str) -> None:
    """Is refused with what is missing."""
    request = example(GOOD)
    change(request)
    with grpc.insecure_channel(server.grpc) as channel, pytest.raises(grpc.RpcError) as raised:
        call(channel, services.CLASSIFY, request)
    error: Any = raised.value
    assert error.code() == grpc.StatusCode.INVALID_ARGUMENT
    assert re.search(text, error.details())


def features(request: ClassificationRequest) -> Any:
    """Those of the first example."""
    return request.input.example_list.examples[0].features.feature


def test_requests_that_no_front_end_sends(model: Servable) -> None:
    """A warmup file may ask for any tensors, those of several signatures at once too."""
    files = np.array([GOOD], object)
    images = np.zeros((1, 28, 28), np.uint8)
    default = model.signatures["serving_default"]
    feeds = {"encoded_images/image_bytes": files, default.inputs["images"].name: images}
    ids = default.outputs["class_ids"].name
    of_file, of_zeros = model.run(feeds, ["encoded_images/class_ids", ids])
    assert of_zeros == model.run({default.inputs["images"].name: images}, [ids])[0]
    assert of_file.shape == (1,)
    [classes] = model.run({"classify/inputs": np.array([], object)}, ["classify/classes"])
    assert classes.shape == (0, 10)
    for feeds, fetches, text in (
        ({"classify/inputs": files}, ["encoded_images/class_ids"], "^You must feed a value for the tensor encoded_im"),
        ({"classify/inputs": files}, [ids], "^You must feed a value for the tensor "),
        ({"classify/inputs": files}, ["classify/scores"], "^Example 0, counted from 0, cannot be parsed$"),
        ({"encoded_images/image_bytes": files.reshape(1, 1)}, ["encoded_images/class_ids"], r"the shape \[\?\], not"),
    ):
        with pytest.raises(InvalidArgument, match=text):
            model.run(feeds, fetches)


def test_other_models_are_left_as_they_are(lite_toys: Path) -> None:
    """Their serving_default is not the export's."""
    for name in ("half_plus_two", "two", "named"):
        model = LiteModel((lite_toys / name / "1" / "model.tflite").read_bytes())
        assert with_pictures(model) is model

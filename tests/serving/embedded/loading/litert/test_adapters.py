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
from serving.apis.messages import (
    DT_FLOAT,
    DT_INT64,
    DT_STRING,
    DT_UINT8,
    ClassificationRequest,
    ModelSpec,
    MultiInferenceRequest,
    SavedModel,
    SignatureDef,
)
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


class Classifier:
    """A model whose serving_default is the export's: its answers are what it was asked."""

    def __init__(self, *, extra: bool = False) -> None:
        definition = SignatureDef()
        infos = {
            "images": (definition.inputs, DT_UINT8, (-1, 28, 28)),
            "probabilities": (definition.outputs, DT_FLOAT, (-1, 10)),
            "class_ids": (definition.outputs, DT_INT64, (-1,)),
            "class_names": (definition.outputs, DT_STRING, (-1,)),
        }
        if extra:
            infos["more"] = (definition.outputs, DT_INT64, (-1,))
        for name, (side, data_type, sizes) in infos.items():
            side[name].name, side[name].dtype = f"{name}:0", data_type
            for size in sizes:
                side[name].tensor_shape.dim.add(size=size)
        self.signatures: Any = {"serving_default": definition}
        self.runtime = "LiteRT"
        self.loop_free = frozenset({"class_ids:0"})
        self.asked: list[tuple[dict[str, tuple[int, ...]], list[str]]] = []
        self.closed = False

    def run(self, feeds: Any, fetches: Any) -> list[Any]:
        """For each output the number of its place among those asked for, in every row."""
        self.asked.append(({name: array.shape for name, array in feeds.items()}, list(fetches)))
        rows = len(next(iter(feeds.values())))
        return [np.full(rows, place) for place, _ in enumerate(fetches)]

    def close(self) -> None:
        """Notes it."""
        self.closed = True


def test_the_signatures_that_are_added() -> None:
    """With their types, shapes and methods; the runtime, and what may run on the event loop, are the model's."""
    own = Classifier()
    made = with_pictures(own)
    assert made.signatures["serving_default"] is own.signatures["serving_default"]
    described = {
        name: (
            made.signatures[name].method_name,
            [
                [(alias, info.name, info.dtype, [dim.size for dim in info.tensor_shape.dim]) for alias, info in side]
                for side in (
                    sorted(made.signatures[name].inputs.items()), sorted(made.signatures[name].outputs.items())
                )
            ],
        )
        for name in ("encoded_images", "classify")
    }  # fmt: skip
    assert described == {
        "encoded_images": (
            "tensorflow/serving/predict",
            [
                [("image_bytes", "encoded_images/image_bytes", DT_STRING, [-1])],
                [
                    ("class_ids", "encoded_images/class_ids", DT_INT64, [-1]),
                    ("class_names", "encoded_images/class_names", DT_STRING, [-1]),
                    ("probabilities", "encoded_images/probabilities", DT_FLOAT, [-1, 10]),
                ],
            ],
        ),
        "classify": (
            "tensorflow/serving/classify",
            [
                [("inputs", "classify/inputs", DT_STRING, [-1])],
                [
                    ("classes", "classify/classes", DT_STRING, [-1, 10]),
                    ("scores", "classify/scores", DT_FLOAT, [-1, 10]),
                ],
            ],
        ),
    }
    assert made.runtime == "LiteRT"
    assert made.loop_free == {"class_ids:0"}
    made.close()
    assert own.closed


@pytest.mark.parametrize("change", ["output", "signature", "dtype", "shape"])
def test_a_signature_that_is_not_the_exports_gets_none(change: str) -> None:
    """One output more, another name, type or shape."""
    own = Classifier(extra=change == "output")
    definition = own.signatures["serving_default"]
    if change == "signature":
        own.signatures = {"other": definition}
    elif change == "dtype":
        definition.inputs["images"].dtype = DT_FLOAT
    elif change == "shape":
        definition.outputs["probabilities"].tensor_shape.dim[1].size = 9
    assert with_pictures(own) is own


def test_pictures_go_through_the_model_once() -> None:
    """Whichever outputs are asked for, each once; the names of all classes need no run."""
    own = Classifier()
    made = with_pictures(own)
    files = np.array([GOOD, GOOD, GOOD], object)
    wanted = ["encoded_images/class_ids", "encoded_images/probabilities"]
    assert [value.tolist() for value in made.run({"encoded_images/image_bytes": files}, wanted)] == [[0] * 3, [1] * 3]
    assert own.asked == [({"images:0": (3, 28, 28)}, ["class_ids:0", "probabilities:0"])]
    examples = np.array([serialized(GOOD)], object)
    scores, classes = made.run({"classify/inputs": examples}, ["classify/scores", "classify/classes"])
    assert scores.tolist() == [0]
    assert classes.tolist() == [[name.encode() for name in CLASS_NAMES]]
    assert own.asked[1:] == [({"images:0": (1, 28, 28)}, ["probabilities:0"])]
    assert made.run({"classify/inputs": examples}, ["classify/classes"])[0].shape == (1, 10)
    assert len(own.asked) == 2
    images = np.zeros((2, 28, 28), np.uint8)
    both = made.run({"images:0": images, "classify/inputs": examples}, ["class_ids:0", "classify/scores"])
    assert [value.tolist() for value in both] == [[0, 0], [0]]
    assert own.asked[2:] == [
        ({"images:0": (1, 28, 28)}, ["probabilities:0"]),
        ({"images:0": (2, 28, 28)}, ["class_ids:0"]),
    ]
    assert made.run({"images:0": images}, ["class_ids:0"])[0].tolist() == [0, 0]


def serialized(*files: bytes) -> bytes:
    """A tf.Example of these files."""
    made = example(b"").input.example_list.examples[0]
    made.features.feature["image/encoded"].bytes_list.value[:] = files
    text: bytes = made.SerializeToString()
    return text


@pytest.mark.parametrize(
    ("feeds", "fetch", "text"),
    [
        (
            {"classify/inputs": [GOOD]}, "encoded_images/class_ids",
            "You must feed a value for the tensor encoded_images/image_bytes",
        ),
        (
            {"encoded_images/image_bytes": [[GOOD]]}, "encoded_images/class_ids",
            "Input encoded_images/image_bytes takes the shape [?], not [1, 1]",
        ),
        ({"classify/inputs": [b"\xff"]}, "classify/scores", "Example 0, counted from 0, cannot be parsed"),
        (
            {"classify/inputs": [serialized(GOOD), b""]}, "classify/scores",
            "Example 1, counted from 0: feature image/encoded (data type: string) is required but could not be found",
        ),
        (
            {"classify/inputs": [serialized()]}, "classify/scores",
            "Example 0, counted from 0: feature image/encoded has 0 strings, not one",
        ),
        (
            {"classify/inputs": [serialized(GOOD, GOOD)]}, "classify/scores",
            "Example 0, counted from 0: feature image/encoded has 2 strings, not one",
        ),
    ],
)  # fmt: skip
def test_pictures_that_are_not_given_as_they_are_taken(feeds: dict[str, Any], fetch: str, text: str) -> None:
    """The text says what is."""
    own = Classifier()
    with pytest.raises(InvalidArgument) as raised:
        with_pictures(own).run({name: np.array(value, object) for name, value in feeds.items()}, [fetch])
    assert str(raised.value) == text
    assert own.asked == []

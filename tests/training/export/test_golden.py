"""Golden inputs and outputs: those that the export chooses, and files of users' own with theirs."""

from __future__ import annotations

import io
import json
from pathlib import Path
from typing import Any

import keras
import numpy as np
import numpy.typing as npt
import pytest
import tensorflow as tf
from PIL import Image

from fashion_common.served_model import CLASS_NAMES
from serving.apis.messages import Example
from serving.apis.self_test import Case
from tests.support.exports import small_model
from training.data import synthetic
from training.errors import TrainingUsageError
from training.export.golden import golden_cases, image_example, image_file
from training.export.golden_file import read_class_names, read_golden


@pytest.fixture(scope="module")
def model() -> keras.Model:
    """One whose answers are neither sure nor even."""
    model = small_model()
    model.set_weights([8 * weight for weight in model.get_weights()])
    return model


@pytest.fixture(scope="module")
def cases(model: keras.Model) -> dict[str, Case]:
    """Those of the model."""
    return golden_cases(model)


def answers(model: keras.Model, images: npt.NDArray[np.uint8]) -> npt.NDArray[np.float32]:
    """What Keras gives for raw images."""
    probabilities: npt.NDArray[np.float32] = model(images.astype(np.float32) / np.float32(255)).numpy()
    return probabilities


def test_every_signature_has_the_same_sixteen_images(model: keras.Model, cases: dict[str, Case]) -> None:
    """Raw, scaled, as files and in examples, with what Keras gives for them."""
    assert list(cases) == ["serving_default", "encoded_images", "float_images", "classify"]
    images = cases["serving_default"].inputs["images"]
    assert images.shape == (16, 28, 28)
    assert images.dtype == np.uint8
    probabilities = answers(model, images)
    class_ids = probabilities.argmax(axis=1)
    names = np.array([name.encode() for name in CLASS_NAMES], object)
    for name in ("serving_default", "encoded_images"):
        assert list(cases[name].outputs) == ["probabilities", "class_ids", "class_names"]
        np.testing.assert_allclose(cases[name].outputs["probabilities"], probabilities, atol=1e-6)
        np.testing.assert_array_equal(cases[name].outputs["class_ids"], class_ids)
        assert cases[name].outputs["class_ids"].dtype == np.int64
        np.testing.assert_array_equal(cases[name].outputs["class_names"], names[class_ids])
    np.testing.assert_array_equal(cases["float_images"].inputs["images"], images / np.float32(255))
    np.testing.assert_allclose(cases["float_images"].outputs["probabilities"], probabilities, atol=1e-6)
    np.testing.assert_allclose(cases["classify"].outputs["scores"], probabilities, atol=1e-6)
    np.testing.assert_array_equal(cases["classify"].outputs["classes"], np.stack([names] * 16))
    files = cases["encoded_images"].inputs["image_bytes"].tolist()
    opened = [Image.open(io.BytesIO(file)) for file in files]
    assert [image.format for image in opened] == (["PNG", "GIF", "BMP"] * 6)[:16]
    np.testing.assert_array_equal(np.stack([np.asarray(image.convert("L")) for image in opened]), images)
    examples = [Example.FromString(text) for text in cases["classify"].inputs["inputs"].tolist()]
    assert [example.features.feature["image/encoded"].bytes_list.value[0] for example in examples] == files


def test_the_images_are_of_every_class_that_there_is_and_clear(model: keras.Model, cases: dict[str, Case]) -> None:
    """Of two hundred drawn garments, those whose best class leads by about a half, in the order they were drawn in."""
    candidates, _ = synthetic.draw(200, np.random.default_rng(0))
    probabilities = answers(model, candidates)
    ranked = np.sort(probabilities, axis=1)
    lead = ranked[:, -1] - ranked[:, -2]
    images = cases["serving_default"].inputs["images"]
    places = [int(np.flatnonzero((candidates == image).all(axis=(1, 2)))[0]) for image in images]
    assert places == sorted(places)
    assert lead[places].min() >= 0.1
    class_ids = probabilities.argmax(axis=1)
    clear = set(class_ids[lead >= 0.1].tolist())
    assert {int(class_ids[place]) for place in places} == clear
    for class_id in clear:
        chosen = [place for place in places if class_ids[place] == class_id]
        others = [place for place in np.flatnonzero(class_ids == class_id) if place not in chosen]
        farthest = max(abs(lead[place] - 0.5) for place in chosen)
        assert all(abs(lead[place] - 0.5) >= farthest - 1e-6 for place in others)


@pytest.mark.parametrize(
    ("activation", "scale", "is_refused"),
    [("softmax", 1.0, False), ("sigmoid", 0.0, True), ("linear", 1.0, True), ("softmax", float("nan"), True)],
)
def test_outputs_are_probabilities(activation: str, scale: float, is_refused: bool) -> None:
    """They are finite, not negative, and a row sums to 1; else the worst sum is told."""
    layers = [keras.Input((28, 28)), keras.layers.Flatten(), keras.layers.Dense(10, activation=activation)]
    other = keras.Sequential(layers)
    other.set_weights([scale * weight for weight in other.get_weights()])
    if not is_refused:
        assert len(golden_cases(other)) == 4
        return
    with pytest.raises(TrainingUsageError, match=r"^The model's outputs are no probabilities: a row sums to ") as error:
        golden_cases(other)
    assert str(error.value).endswith(", not to 1: end it in softmax")
    if activation == "sigmoid":
        assert "a row sums to 5, not to 1" in str(error.value)


def test_an_example_has_the_file_alone() -> None:
    """Under the name that `classify` reads."""
    file = image_file(np.zeros((2, 3), np.uint8), "PNG")
    assert Image.open(io.BytesIO(file)).size == (3, 2)
    assert {name: list(feature.bytes_list.value) for name, feature in image_example(file).features.feature.items()} == {
        "image/encoded": [file]
    }


SPEC = tf.TensorSpec([None, 2], tf.float32)
INPUTS = {"serving_default": {"x": SPEC, "both": SPEC}, "other": {"text": tf.TensorSpec([None], tf.string)}}
OUTPUTS = {"serving_default": {"y": SPEC, "both": SPEC}, "other": {"n": tf.TensorSpec([None], tf.int64)}}
ROWS = np.array([[1.0, 2.0]])


def golden(path: Path, **arrays: Any) -> dict[str, Case]:
    """The cases in a file with these arrays; `__` stands for a slash."""
    named = {name.replace("__", "/"): array for name, array in arrays.items()}
    np.savez(path, **named)
    return read_golden(path, INPUTS, OUTPUTS)


def test_arrays_are_found_by_their_names(tmp_path: Path) -> None:
    """Those of the default signature by the name alone, unless an input and an output have it."""
    path = tmp_path / "g.npz"
    cases = golden(
        path, x=ROWS, inputs__both=2 * ROWS, outputs__both=3 * ROWS, y=4 * ROWS,
        other__inputs__text=np.array(["a", "é"]), other__outputs__n=np.array([1, 2], np.int8),
    )  # fmt: skip
    assert list(cases) == ["serving_default", "other"]
    case = cases["serving_default"]
    assert {name: array.tolist() for name, array in case.inputs.items()} == {"x": [[1, 2]], "both": [[2, 4]]}
    assert {name: array.tolist() for name, array in case.outputs.items()} == {"both": [[3, 6]], "y": [[4, 8]]}
    assert {array.dtype for array in (*case.inputs.values(), *case.outputs.values())} == {np.dtype(np.float32)}
    assert cases["other"].inputs["text"].tolist() == [b"a", "é".encode()]
    assert cases["other"].outputs["n"].dtype == np.int64
    assert golden(path, other__inputs__text=np.array([b"a"]), other__outputs__n=[1])["other"].inputs["text"] == [b"a"]


KNOWN = "inputs/x, inputs/both, outputs/y, outputs/both"
WRONG: list[tuple[dict[str, Any], str]] = [
    ({"z": ROWS}, f": z is no input or output of serving_default: name {KNOWN}"),
    ({"outputs__x": ROWS}, f": outputs/x is no input or output of serving_default: name {KNOWN}"),
    ({"sides__x": ROWS}, f": sides/x is no input or output of serving_default: name {KNOWN}"),
    (
        {"a__other__inputs__text": ROWS},
        ": a/other/inputs/text is no input or output of other: name inputs/text, outputs/n",
    ),
    (
        {"none__inputs__x": ROWS},
        ": none/inputs/x is no input or output of none: name one of the signatures serving_def",
    ),
    ({"x": ROWS, "y": ROWS}, " has no both, which serving_default takes"),
    ({"x": ROWS, "inputs__both": ROWS}, " has no output of serving_default: y, both"),
    ({"x": np.zeros((2, 3))}, ": x has the shape [2, 3]: expected (None, 2)"),
    ({"other__inputs__text": np.array([1])}, ": other/inputs/text is int64: expected strings"),
]


@pytest.mark.parametrize(("arrays", "text"), WRONG)
def test_arrays_that_do_not_fit(tmp_path: Path, arrays: dict[str, Any], text: str) -> None:
    """The first is named, with what would fit."""
    path = tmp_path / "g.npz"
    with pytest.raises(TrainingUsageError) as error:
        golden(path, **arrays)
    assert str(error.value).startswith(f"--golden {path}{text}")


@pytest.mark.parametrize("content", [None, b"", b"no archive"])
def test_a_golden_file_that_cannot_be_read(tmp_path: Path, content: bytes | None) -> None:
    """It is named, and how one is written; one array alone is no archive."""
    path = tmp_path / "g.npz"
    if content is not None:
        path.write_bytes(content)
    for _ in range(2):
        with pytest.raises(TrainingUsageError) as error:
            read_golden(path, INPUTS, OUTPUTS)
        assert str(error.value).startswith(f"--golden {path} cannot be read (")
        assert str(error.value).endswith("): write it with numpy.savez, without objects")
        with path.open("wb") as file:
            np.save(file, ROWS)


@pytest.mark.parametrize(
    ("text", "names"),
    [
        ("cat\ndog\n", ("cat", "dog")),
        ("cat\ndog", ("cat", "dog")),
        (" cat \n dog\n\n\n", ("cat", "dog")),
        (' ["cat", " big dog"]\n', ("cat", "big dog")),
    ],
)
def test_class_names_are_lines_or_a_list(tmp_path: Path, text: str, names: tuple[str, ...]) -> None:
    """In label order, without the spaces around them."""
    path = tmp_path / "names"
    path.write_text(text)
    assert read_class_names(path) == names


EMPTY = " has an empty name: give one on each line, or a JSON list of strings"


@pytest.mark.parametrize(
    ("content", "text"),
    [
        (None, " cannot be read: No such file or directory"),
        (b"[", " cannot be read: Expecting value: line 1 column 2 (char 1)"),
        (b"\xff", " cannot be read: 'utf-8' codec can't decode byte 0xff in position 0: invalid start byte"),
        (b"cat\n\ndog\n", EMPTY),
        (b"cat\n  \ndog\n", EMPTY),
        (json.dumps(["cat", 1]).encode(), EMPTY),
        (b"cat\n", " has 1 names: at least two, each once, in label order"),
        (b"", " has 0 names: at least two, each once, in label order"),
        (b"cat\ndog\ncat\n", " has 3 names: at least two, each once, in label order"),
    ],
)
def test_class_names_that_cannot_be(tmp_path: Path, content: bytes | None, text: str) -> None:
    """The file is named."""
    path = tmp_path / "names"
    if content is not None:
        path.write_bytes(content)
    with pytest.raises(TrainingUsageError) as error:
        read_class_names(path)
    assert str(error.value) == f"--class-names {path}{text}"

"""The four signatures, as a plain `tf.saved_model.load` of the exported directory answers them."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import keras
import numpy as np
import pytest
import tensorflow as tf
from numpy.typing import NDArray
from tensorflow.python.saved_model import fingerprinting_utils

from fashion_common.runtimes import WITHOUT_KERAS
from fashion_common.served_model import CLASS_NAMES
from tests.support.exports import Pixels, encoded, pictures, small_model
from training.export.golden import image_example
from training.export.signatures import write_saved_model

Signatures = Mapping[str, Any]  # TensorFlow ships no types

SHOWN = """
classify
inputs inputs DT_STRING (-1)
outputs classes DT_STRING (-1, 10)
outputs scores DT_FLOAT (-1, 10)
tensorflow/serving/classify
encoded_images
inputs image_bytes DT_STRING (-1)
outputs class_ids DT_INT64 (-1)
outputs class_names DT_STRING (-1)
outputs probabilities DT_FLOAT (-1, 10)
tensorflow/serving/predict
float_images
inputs images DT_FLOAT (-1, 28, 28)
outputs probabilities DT_FLOAT (-1, 10)
tensorflow/serving/predict
serving_default
inputs images DT_UINT8 (-1, 28, 28)
outputs class_ids DT_INT64 (-1)
outputs class_names DT_STRING (-1)
outputs probabilities DT_FLOAT (-1, 10)
tensorflow/serving/predict
"""
_SHOWN = re.compile(
    r"""signature_def\['([a-z]\w+)'\]
    | (inputs|outputs)\['([a-z]\w+)'\]\ tensor_info:\s+dtype:\ (\w+)\s+shape:\ (.+)
    | Method\ name\ is:\ (.+)""",
    re.VERBOSE,
)


@pytest.fixture(scope="module")
def model() -> keras.Model:
    """The textbook's model."""
    return small_model()


@pytest.fixture(scope="module")
def path(model: keras.Model, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Its SavedModel."""
    path = tmp_path_factory.mktemp("models") / "1"
    write_saved_model(model, path)
    return path


@pytest.fixture(scope="module")
def signatures(path: Path) -> Iterator[Signatures]:
    """Its signatures."""
    saved_model = tf.saved_model.load(str(path))  # its variables live as long as this name
    yield saved_model.signatures
    del saved_model


def keras_probabilities(model: keras.Model, images: Pixels) -> NDArray[np.float32]:
    """The model's output for raw pixels."""
    probabilities: NDArray[np.float32] = model.predict(images / np.float32(255), verbose=0)
    return probabilities


def test_names_shapes_and_dtypes_are_the_design_s(signatures: Signatures) -> None:
    """Every signature has exactly the tensors of the table."""
    described = {
        name: (
            {key: (spec.dtype.name, tuple(spec.shape)) for key, spec in function.structured_input_signature[1].items()},
            {key: (spec.dtype.name, tuple(spec.shape)) for key, spec in function.structured_outputs.items()},
        )
        for name, function in signatures.items()
    }
    three = {
        "probabilities": ("float32", (None, 10)),
        "class_ids": ("int64", (None,)),
        "class_names": ("string", (None,)),
    }
    assert described == {
        "serving_default": ({"images": ("uint8", (None, 28, 28))}, three),
        "encoded_images": ({"image_bytes": ("string", (None,))}, three),
        "float_images": ({"images": ("float32", (None, 28, 28))}, {"probabilities": ("float32", (None, 10))}),
        "classify": (
            {"inputs": ("string", (None,))},
            {"classes": ("string", (None, 10)), "scores": ("float32", (None, 10))},
        ),
    }


def test_float_images_is_the_keras_model(model: keras.Model, signatures: Signatures) -> None:
    """256 scaled images give Keras's probabilities within 1e-6."""
    images = pictures(256) / np.float32(255)
    answer = signatures["float_images"](images=tf.constant(images))
    np.testing.assert_allclose(answer["probabilities"], model.predict(images, verbose=0), rtol=0, atol=1e-6)


def test_serving_default_scales_in_the_graph_and_names_the_class(model: keras.Model, signatures: Signatures) -> None:
    """Raw pixels give Keras's probabilities, the best class's number and its name."""
    images = pictures(32)
    answer = signatures["serving_default"](images=tf.constant(images))
    expected = keras_probabilities(model, images)
    np.testing.assert_allclose(answer["probabilities"], expected, rtol=0, atol=1e-6)
    assert answer["class_ids"].numpy().tolist() == expected.argmax(axis=1).tolist()
    assert answer["class_names"].numpy().tolist() == [CLASS_NAMES[row].encode() for row in expected.argmax(axis=1)]


@pytest.mark.parametrize("form", ["PNG", "GIF", "BMP"])
def test_encoded_images_sees_the_pixels_of_the_file(model: keras.Model, signatures: Signatures, form: str) -> None:
    """A 28 x 28 gray file without loss gives the probabilities of its pixels."""
    images = pictures(5)
    files = tf.constant([encoded(image, form) for image in images])
    answer = signatures["encoded_images"](image_bytes=files)
    np.testing.assert_allclose(answer["probabilities"], keras_probabilities(model, images), rtol=0, atol=1e-6)


def test_encoded_images_mixes_formats_and_sizes_in_one_request(model: keras.Model, signatures: Signatures) -> None:
    """Rows keep their order whatever they are: here a large JPEG, a small GIF, a wide BMP and a plain PNG."""
    image = pictures(1)[0]
    flat = np.full((280, 280), 200, np.uint8)
    wide = np.zeros((28, 28), np.uint8)
    wide[7:21] = 200  # 140 x 280 becomes 14 x 28, centred on black
    files = [encoded(flat, "JPEG"), encoded(flat[:14, :14], "GIF"), encoded(flat[:140], "BMP"), encoded(image, "PNG")]
    probabilities = signatures["encoded_images"](image_bytes=tf.constant(files))["probabilities"]
    expected = keras_probabilities(model, np.stack([flat[:28, :28], flat[:28, :28], wide, image]))
    np.testing.assert_allclose(probabilities, expected, rtol=0, atol=1e-6)


def test_an_empty_request_gives_an_empty_answer(signatures: Signatures) -> None:
    """No rows in, no rows out, in every signature."""
    assert signatures["serving_default"](images=tf.zeros([0, 28, 28], tf.uint8))["class_names"].shape == (0,)
    assert signatures["encoded_images"](image_bytes=tf.constant([], tf.string))["probabilities"].shape == (0, 10)
    assert signatures["classify"](inputs=tf.constant([], tf.string))["classes"].shape == (0, 10)


def test_classify_gives_every_class_with_its_score(model: keras.Model, signatures: Signatures) -> None:
    """A tf.Example with the file's bytes gives all names in label order and the probabilities."""
    images = pictures(3)
    examples = [image_example(encoded(image, "PNG")).SerializeToString() for image in images]
    answer = signatures["classify"](inputs=tf.constant(examples))
    assert answer["classes"].numpy().tolist() == [[name.encode() for name in CLASS_NAMES]] * 3
    np.testing.assert_allclose(answer["scores"], keras_probabilities(model, images), rtol=0, atol=1e-6)


def test_weights_are_written_once(path: Path) -> None:
    """101,770 float32 take 407 kB, where Keras's own export takes twice that."""
    checkpoint = tf.train.load_checkpoint(str(path / "variables" / "variables"))
    weights = {name: shape for name, shape in checkpoint.get_variable_to_shape_map().items() if shape}
    assert sorted(map(tuple, weights.values())) == [(10,), (128,), (128, 10), (784, 128)]
    assert (path / "variables" / "variables.data-00000-of-00001").stat().st_size < 4 * 101_770 + 1_000


def test_saved_model_cli_prints_the_names_of_the_table(path: Path) -> None:
    """TensorFlow's own tool, in a process without our code, shows the signatures and their method names."""
    command = [sys.executable, "-m", "tensorflow.python.tools.saved_model_cli", "show", "--dir", str(path), "--all"]
    environment = {**os.environ, **WITHOUT_KERAS}
    output = subprocess.run(command, env=environment, capture_output=True, text=True, cwd=path, check=True).stdout
    lines = [" ".join(filter(None, match)) for match in _SHOWN.findall(output.partition("Concrete Functions")[0])]
    assert lines == SHOWN.split("\n")[1:-1]


def test_the_fingerprint_is_that_of_the_file(path: Path) -> None:
    """TensorFlow's checksums agree with the SavedModel as it lies there, method names and all."""
    fingerprint = tf.saved_model.experimental.read_fingerprint(str(path))
    (path / "fingerprint.pb").rename(path / "kept")
    fingerprinting_utils.write_fingerprint(str(path))
    fingerprint_of_file = tf.saved_model.experimental.read_fingerprint(str(path))
    (path / "kept").replace(path / "fingerprint.pb")
    assert fingerprint.singleprint() == fingerprint_of_file.singleprint()
    assert fingerprint.saved_model_checksum == fingerprint_of_file.saved_model_checksum

"""The calls that carry a batch, by what the signature takes."""

from __future__ import annotations

import io

import numpy as np
import pytest
from PIL import Image

from client.calls import calls
from client.errors import ClientUsageError
from client.pictures.batch import Batch
from client.types import Call, Metadata, Signature, TensorInfo
from serving.apis import messages

_PREDICT = "tensorflow/serving/predict"
_PIXELS = np.arange(784, dtype=np.uint32).reshape(1, 28, 28).astype(np.uint8)
_FLOATS = np.full((1, 28, 28), 0.5, np.float32)


def _takes(dtype: str, *shape: int, name: str = "images", method_name: str = _PREDICT) -> Signature:
    return Signature({name: TensorInfo(dtype, shape)}, {"output_0": TensorInfo("DT_FLOAT", (-1, 10))}, method_name)


def _calls(images: np.ndarray, signatures: dict[str, Signature], name: str | None = None) -> list[Call]:
    return list(calls(Batch.of(images), Metadata("m", 1, signatures), name))


def test_floats_go_where_floats_are_taken_and_nowhere_else() -> None:
    """The message says what the signature takes, what was sent, and which one would work."""
    signatures = {"serving_default": _takes("DT_UINT8", -1, 28, 28), "float_images": _takes("DT_FLOAT", -1, 28, 28)}
    with pytest.raises(
        ClientUsageError,
        match=r"'serving_default' takes DT_UINT8 \[N, 28, 28\], not DT_FLOAT \[1, 28, 28\]: --signature float_images",
    ):
        _calls(_FLOATS, signatures)
    [call] = _calls(_FLOATS, signatures, "float_images")
    assert call.inputs["images"] == ("DT_FLOAT", (1, 28, 28), _FLOATS.tobytes())


@pytest.mark.parametrize("shape", [(-1, 28, 28), (-1, 784), (-1, 28, 28, 1), (-1, -1, -1)])
def test_a_plain_keras_export_works_too(shape: tuple[int, ...]) -> None:
    """`keras_tensor` -> `output_0`: pixels are scaled to 0..1 and take the signature's form."""
    [call] = _calls(_PIXELS, {"serving_default": _takes("DT_FLOAT", *shape, name="keras_tensor")})
    tensor = call.inputs["keras_tensor"]
    assert (tensor.dtype, tensor.shape) == ("DT_FLOAT", (1, 28, 28) if shape == (-1, -1, -1) else (1, *shape[1:]))
    assert tensor.content == (_PIXELS.astype(np.float32) / np.float32(255)).tobytes()


def test_a_signature_of_any_rank_gets_images() -> None:
    """As [N, 28, 28]."""
    signature = Signature({"images": TensorInfo("DT_UINT8", None)}, {}, _PREDICT)
    [call] = _calls(_PIXELS, {"serving_default": signature})
    assert call.inputs["images"] == ("DT_UINT8", (1, 28, 28), _PIXELS.tobytes())


def test_a_signature_that_takes_no_images_is_refused_with_what_it_takes() -> None:
    """Unknown names list the known ones; other shapes, dtypes and several inputs say what they are."""
    signatures = {
        "small": _takes("DT_UINT8", -1, 8, 8),
        "scalar": _takes("DT_UINT8"),
        "none": _takes("DT_UINT8", -1, 0, 28),
        "single": _takes("DT_UINT8", 1, 28, 28),
        "ints": _takes("DT_INT32", -1, 784),
        "two": Signature({"a": TensorInfo("DT_UINT8", (-1, 28, 28)), "b": TensorInfo("DT_UINT8", (-1,))}, {}, _PREDICT),
    }
    for name, message in (
        (None, r"m has no signature 'serving_default': it has small, scalar, none, single, ints, two"),
        ("small", r"takes \[N, 8, 8\], which no images of 28x28 fit"),
        ("scalar", r"takes \[\], which no images of 28x28 fit"),
        ("none", r"takes \[N, 0, 28\], which no images of 28x28 fit: --signature names another"),
        ("single", r"takes 1 images at a time, not 2: --batch-size 1"),
        ("ints", r"takes DT_INT32 \[N, 784\], not DT_UINT8 \[2, 28, 28\]"),
        ("two", r"takes 2 inputs"),
    ):
        with pytest.raises(ClientUsageError, match=message):
            _calls(np.zeros((2, 28, 28), np.uint8), signatures, name)


def test_picture_files_are_offered_beside_pixels_unless_a_signature_was_named() -> None:
    """PNG of the same pixels; a transport sends whichever is cheaper."""
    signatures = {
        "serving_default": _takes("DT_UINT8", -1, 28, 28),
        "encoded_images": _takes("DT_STRING", -1, name="image_bytes"),
    }
    pixels, files = _calls(_PIXELS, signatures)
    assert (pixels.signature_name, files.signature_name) == ("serving_default", "encoded_images")
    [file] = files.inputs["image_bytes"].content
    assert isinstance(file, bytes)
    np.testing.assert_array_equal(np.asarray(Image.open(io.BytesIO(file))), _PIXELS[0])
    assert len(_calls(_PIXELS, signatures, "serving_default")) == 1
    with pytest.raises(ClientUsageError, match="floats cannot be sent as picture files: --signature float_images"):
        _calls(_FLOATS, signatures, "encoded_images")


def test_classify_gets_examples_of_picture_files() -> None:
    """tf.Example with `image/encoded`, as TF Serving's Classify API has it."""
    signature = _takes("DT_STRING", -1, name="inputs", method_name="tensorflow/serving/classify")
    [call] = _calls(_PIXELS, {"classify": signature}, "classify")
    [content] = call.inputs["inputs"].content
    assert isinstance(content, bytes)
    [file] = messages.Example.FromString(content).features.feature["image/encoded"].bytes_list.value
    assert file.startswith(b"\x89PNG")

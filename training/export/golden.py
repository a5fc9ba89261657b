"""Golden inputs and outputs: what Keras gives, written down so that a served version can be held to it anywhere."""

from __future__ import annotations

import io

import keras
import numpy as np
import numpy.typing as npt
from PIL import Image

from fashion_common.served_model import CLASS_NAMES
from serving.apis.messages import BytesList, Example, Feature, Features
from serving.apis.self_test import Case
from training.data import synthetic
from training.errors import TrainingUsageError
from training.fit import evaluate

_ROWS = 16
_CANDIDATES = 200
_CLEAR_LEAD = 0.1
# Formats without loss: the pixels of the file are the pixels that Keras saw.
_FORMATS = ("PNG", "GIF", "BMP")


def golden_cases(model: keras.Model) -> dict[str, Case]:
    """Inputs for every signature and the outputs that the Keras model gives for them; the same model, the same cases.

    Raises TrainingUsageError when the model's outputs are no probabilities.
    """
    images, probabilities = _telling_cases(model)
    files = [image_file(image, _FORMATS[row % len(_FORMATS)]) for row, image in enumerate(images)]
    names = np.array([name.encode() for name in CLASS_NAMES], object)
    class_ids = probabilities.argmax(axis=1).astype(np.int64)
    best = {"probabilities": probabilities, "class_ids": class_ids, "class_names": names[class_ids]}
    return {
        "serving_default": Case({"images": images}, best),
        "encoded_images": Case({"image_bytes": np.array(files, object)}, best),
        "float_images": Case({"images": evaluate.scale(images)}, {"probabilities": probabilities}),
        "classify": Case(
            {"inputs": np.array([image_example(file).SerializeToString(deterministic=True) for file in files], object)},
            {"classes": np.tile(names, (_ROWS, 1)), "scores": probabilities},
        ),
    }


def image_file(pixels: npt.NDArray[np.uint8], image_format: str) -> bytes:
    """The bytes of an image file in one of Pillow's formats; pixels: uint8 [height, width]."""
    buffer = io.BytesIO()
    Image.fromarray(pixels).save(buffer, image_format)
    return buffer.getvalue()


def image_example(file: bytes) -> Example:
    """A tf.Example with the image file under `image/encoded`, as `classify` takes it."""
    return Example(features=Features(feature={"image/encoded": Feature(bytes_list=BytesList(value=[file]))}))


def _telling_cases(model: keras.Model) -> tuple[npt.NDArray[np.uint8], npt.NDArray[np.float32]]:
    """Drawn garments of as many predicted classes as there are, whose best class leads by about a half.

    A class that leads by less may change with a rounding; probabilities near 0 and 1 would hide weights that drifted.
    """
    images, _ = synthetic.draw(_CANDIDATES, np.random.default_rng(0))
    probabilities = evaluate.predict(model, images)
    sums = probabilities.sum(axis=1)
    if not (np.isfinite(probabilities).all() and (probabilities >= 0).all() and np.allclose(sums, 1, atol=1e-3)):
        raise TrainingUsageError(
            f"The model's outputs are no probabilities: a row sums to {sums[np.abs(sums - 1).argmax()]:.4g}, not to 1: "
            "end it in softmax"
        )
    second, first = np.sort(probabilities, axis=1)[:, -2:].T
    lead = first - second
    order = np.argsort(np.abs(lead - 0.5), kind="stable")
    classes = probabilities.argmax(axis=1)[order].tolist()
    turns = [classes[:row].count(class_id) for row, class_id in enumerate(classes)]
    # Clear rows first, and of those the classes by turns.
    chosen = np.sort(order[np.lexsort((turns, lead[order] < _CLEAR_LEAD))[:_ROWS]])
    return images[chosen], probabilities[chosen]

"""Golden inputs and outputs: what Keras gives, written down so that a served version can be held to it anywhere."""

from __future__ import annotations

import keras
import numpy as np
import numpy.typing as npt

from training import evaluate
from training.dataset import CLASS_NAMES
from training.decoding import IMAGE_SIZE
from training.errors import TrainingUsageError
from training.examples import image_file, tf_example
from training.self_test import Array, Tensors

_ROWS = 16
_CANDIDATES = 128
# Formats without loss: the pixels of the file are the pixels that Keras saw.
_FORMATS = ("PNG", "GIF", "BMP")


def golden_tensors(model: keras.Model) -> Tensors:
    """Inputs for every signature and the outputs that the Keras model gives for them; the same model, the same tensors.

    Raises TrainingUsageError when the model's outputs are no probabilities.
    """
    images, probabilities = _clear_cases(model)
    files = [image_file(image, _FORMATS[row % len(_FORMATS)]) for row, image in enumerate(images)]
    names = np.array([name.encode() for name in CLASS_NAMES], object)
    class_ids = probabilities.argmax(axis=1).astype(np.int64)
    best = {"probabilities": probabilities, "class_ids": class_ids, "class_names": names[class_ids]}
    cases: dict[str, tuple[dict[str, Array], dict[str, Array]]] = {
        "serving_default": ({"images": images}, best),
        "encoded_images": ({"image_bytes": np.array(files, object)}, best),
        "float_images": ({"images": evaluate.scale(images)}, {"probabilities": probabilities}),
        "classify": (
            {"inputs": np.array([tf_example(file) for file in files], object)},
            {"classes": np.tile(names, (_ROWS, 1)), "scores": probabilities},
        ),
    }
    return {
        (signature, side, name): tensor
        for signature, case in cases.items()
        for side, tensors in zip(("inputs", "outputs"), case, strict=True)
        for name, tensor in tensors.items()
    }


def _clear_cases(model: keras.Model) -> tuple[npt.NDArray[np.uint8], npt.NDArray[np.float32]]:
    """The images whose two best classes lie furthest apart: their class does not hang on a rounding."""
    images = _candidates()
    probabilities = evaluate.probabilities(model, images)
    sums = probabilities.sum(axis=1)
    if not (np.isfinite(probabilities).all() and (probabilities >= 0).all() and np.allclose(sums, 1, atol=1e-3)):
        raise TrainingUsageError(
            f"The model's outputs are no probabilities: a row sums to {sums[np.abs(sums - 1).argmax()]:.4g}, not to 1: "
            "end it in softmax"
        )
    two_best = np.sort(probabilities, axis=1)[:, -2:]
    clearest = np.sort(np.argsort(two_best[:, 0] - two_best[:, 1], kind="stable")[:_ROWS])
    return images[clearest], probabilities[clearest]


def _candidates() -> npt.NDArray[np.uint8]:
    """Noise, and noise inside boxes on black, which reach more classes than noise alone."""
    random = np.random.default_rng(0)
    images = random.integers(0, 256, (_CANDIDATES, IMAGE_SIZE, IMAGE_SIZE), dtype=np.uint8)
    for image in images[::2]:
        top, left = random.integers(0, IMAGE_SIZE // 2, 2)
        height, width = random.integers(IMAGE_SIZE // 4, IMAGE_SIZE, 2)
        inside = image[top : top + height, left : left + width].copy()
        image[:] = 0
        image[top : top + height, left : left + width] = inside
    return images

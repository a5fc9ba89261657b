"""The evaluation of a model: loss, accuracy, and precision, recall and F1 of each class."""

from __future__ import annotations

from dataclasses import dataclass

import keras
import numpy as np
from numpy.typing import NDArray

from fashion_common.served_model import CLASS_NAMES

_BATCH = 5_000
_BINS = 10
_SMALLEST = 1e-7  # keras.config.epsilon(): Keras clips probabilities there before it takes the logarithm


@dataclass(frozen=True)
class Evaluation:
    """A model against labelled images.

    confusion: int64 [10, 10], rows the true class, columns the predicted. confidence: int64 [10], images by the
    probability of the predicted class, in tenths.
    """

    loss: float
    accuracy: float
    confusion: NDArray[np.int64]
    confidence: NDArray[np.int64]

    def distribution(self) -> dict[str, list[int]]:
        """Images by predicted class, and by confidence."""
        return {"classes": self.confusion.sum(axis=0).tolist(), "confidence": self.confidence.tolist()}

    def per_class(self) -> list[tuple[str, float, float, float, int]]:
        """Name, precision, recall and F1 (0 to 1, 0 where undefined), and images of each class, in label order."""
        hits = np.diag(self.confusion)
        predictions, images = self.confusion.sum(axis=0), self.confusion.sum(axis=1)
        precision, recall = hits / np.maximum(predictions, 1), hits / np.maximum(images, 1)
        f1 = 2 * hits / np.maximum(predictions + images, 1)
        figures = (column.tolist() for column in (precision, recall, f1, images))
        return list(zip(CLASS_NAMES, *figures, strict=True))


def predict(model: keras.Model, images: NDArray[np.uint8]) -> NDArray[np.float32]:
    """Class probabilities, float32 [N,10], for raw images, uint8 [N,28,28]."""
    batches = [images[start : start + _BATCH] for start in range(0, len(images), _BATCH)]
    return np.concatenate([model(scale(batch), training=False).numpy() for batch in batches])


def scale(images: NDArray[np.uint8]) -> NDArray[np.float32]:
    """Raw pixels, 0 to 255, as the models take them: float32, 0 to 1."""
    return images.astype(np.float32) / np.float32(255)


def evaluate(model: keras.Model, images: NDArray[np.uint8], labels: NDArray[np.int64]) -> Evaluation:
    """Runs the model on raw images, uint8 [N,28,28], and compares with labels, int64 [N]."""
    return compare(predict(model, images), labels)


def compare(probabilities: NDArray[np.float32], labels: NDArray[np.int64]) -> Evaluation:
    """Compares probabilities, float32 [N,10], with labels, int64 [N]; the loss is the mean cross-entropy."""
    class_ids = probabilities.argmax(axis=1)
    likelihoods = np.clip(probabilities[np.arange(len(labels)), labels].astype(np.float64), _SMALLEST, 1.0)
    count = len(CLASS_NAMES)
    confusion = np.bincount(labels * count + class_ids, minlength=count * count).reshape(count, count)
    tenths = np.minimum(np.nan_to_num(probabilities).max(axis=1) * _BINS, _BINS - 1).astype(np.int64)
    return Evaluation(
        float(-np.log(likelihoods).mean()),
        float((class_ids == labels).mean()),
        confusion.astype(np.int64),
        np.bincount(tenths, minlength=_BINS).astype(np.int64),
    )

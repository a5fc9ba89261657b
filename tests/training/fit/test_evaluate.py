"""Figures of a model against labels, on numbers small enough to check by hand."""

from __future__ import annotations

import math

import keras
import numpy as np
import pytest
import tensorflow as tf

from fashion_common.served_model import CLASS_NAMES
from tests.support.exports import pictures
from training.fit import models
from training.fit.evaluate import compare, evaluate, predict, scale


def test_loss_accuracy_and_classes_of_three_predictions() -> None:
    """Two Trousers, one of them taken for a Dress, and one Bag."""
    probabilities = np.zeros((3, 10), np.float32)
    probabilities[0, 1], probabilities[0, 3] = 0.5, 0.5 - 0.25
    probabilities[1, 3], probabilities[1, 1] = 0.75, 0.25
    probabilities[2, 8] = 1.0
    result = compare(probabilities, np.array([1, 1, 8]))
    assert result.accuracy == pytest.approx(2 / 3)
    assert result.loss == pytest.approx(-(math.log(0.5) + math.log(0.25) + math.log(1.0)) / 3)
    assert result.confusion[1, 1] == result.confusion[1, 3] == result.confusion[8, 8] == 1
    assert result.distribution() == {
        "classes": [0, 1, 0, 1, 0, 0, 0, 0, 1, 0],
        "confidence": [0, 0, 0, 0, 0, 1, 0, 1, 0, 1],
    }
    trouser, dress, coat = (result.per_class()[i] for i in (1, 3, 4))
    name, precision, recall, f1, images = trouser
    assert (name, precision, recall, images) == ("Trouser", 1.0, 0.5, 2)
    assert f1 == pytest.approx(2 / 3)
    assert (dress[1], dress[2], coat[3]) == (0.0, 0.0, 0.0)


def test_a_probability_of_0_has_a_loss_and_one_of_1_has_none() -> None:
    """As Keras has it, which takes nothing below 1e-7 for the logarithm: a run's figures are never infinite."""
    probabilities = np.eye(10, dtype=np.float32)[[3, 3]]
    assert compare(probabilities, np.array([3, 3])).loss == 0
    assert compare(probabilities, np.array([3, 4])).loss == pytest.approx(-math.log(1e-7) / 2)
    keras_loss = keras.losses.sparse_categorical_crossentropy(np.array([3, 4]), probabilities)
    assert compare(probabilities, np.array([3, 4])).loss == pytest.approx(float(np.mean(keras_loss)), rel=1e-4)


def test_precision_is_of_the_predictions_and_recall_of_the_images() -> None:
    """Three Trousers and one Dress are taken for Trousers, a fourth Trouser for a Dress."""
    result = compare(np.eye(10, dtype=np.float32)[[1, 1, 1, 1, 3]], np.array([1, 1, 1, 3, 1]))
    _, precision, recall, f1, images = result.per_class()[1]
    assert (precision, recall, f1, images) == (3 / 4, 3 / 4, 3 / 4, 4)
    _, precision, recall, f1, images = result.per_class()[3]
    assert (precision, recall, f1, images) == (0.0, 0.0, 0.0, 1)


def test_confidence_is_counted_in_tenths() -> None:
    """A probability at an edge belongs to the tenth above it, 1 to the last one; NaN counts as 0."""
    highest = np.array([0.0, 0.125, 0.25, 0.5, 0.875, 1.0, np.nan], np.float32)
    probabilities = np.zeros((len(highest), 10), np.float32)
    probabilities[:, 4] = highest
    assert compare(probabilities, np.full(len(highest), 4)).confidence.tolist() == [2, 1, 1, 0, 0, 1, 0, 0, 1, 1]


def test_rows_of_the_confusion_are_the_true_classes() -> None:
    """Columns are the predicted ones; every figure is a whole number."""
    result = compare(np.eye(10, dtype=np.float32)[[9, 9, 0]], np.array([1, 1, 0]))
    assert result.confusion.shape == (10, 10)
    assert {(row, column): result.confusion[row, column] for row, column in np.argwhere(result.confusion)} == {
        (0, 0): 1,
        (1, 9): 2,
    }
    assert {result.confusion.dtype, result.confidence.dtype} == {np.dtype(np.int64)}
    assert result.confidence.tolist() == [0] * 9 + [3]


def test_classes_are_told_in_the_order_of_their_labels() -> None:
    """All ten, with the name of each."""
    rows = compare(np.eye(10, dtype=np.float32), np.arange(10)).per_class()
    assert [row[0] for row in rows] == list(CLASS_NAMES)
    assert [row[1:] for row in rows] == [(1.0, 1.0, 1.0, 1)] * 10


def test_pixels_are_scaled_to_0_to_1() -> None:
    """255 becomes 1, as float32."""
    scaled = scale(np.array([0, 51, 255], np.uint8))
    assert scaled.dtype == np.float32
    assert scaled.tolist() == [0.0, pytest.approx(0.2), 1.0]


def test_many_images_are_run_in_batches_of_5000() -> None:
    """In order, for inference; the last batch has what is left over."""
    sizes: list[int] = []

    class Counting(keras.Model):  # type: ignore[misc]  # Keras ships no types
        """Its probability of class 0 is the first pixel."""

        def call(self, images: tf.Tensor, training: bool | None = None) -> tf.Tensor:
            """Keras calls this once a batch."""
            assert training is False
            sizes.append(images.shape[0])
            return images[:, 0, :10]

    images = np.zeros((5_001, 28, 28), np.uint8)
    images[:, 0, 0] = np.arange(5_001) % 256
    answers = predict(Counting(), images)
    assert sizes == [5_000, 1]
    np.testing.assert_array_equal(answers[:, 0], images[:, 0, 0] / np.float32(255))


def test_a_model_is_evaluated_on_raw_images() -> None:
    """As its probabilities for the scaled ones compare with the labels."""
    images, labels = pictures(20), np.arange(20) % 10
    model = models.build("mlp")
    expected = compare(model(images / np.float32(255)).numpy(), labels)
    found = evaluate(model, images, labels)
    assert found.loss == pytest.approx(expected.loss)
    assert found.accuracy == expected.accuracy
    np.testing.assert_array_equal(found.confusion, expected.confusion)

"""Figures of a model against labels, on numbers small enough to check by hand."""

from __future__ import annotations

import math

import keras
import numpy as np
import pytest

from training.fit.evaluate import compare


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

"""Figures of a model against labels, on numbers small enough to check by hand."""

from __future__ import annotations

import math

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
    trouser, dress, coat = (result.per_class()[i] for i in (1, 3, 4))
    name, precision, recall, f1, images = trouser
    assert (name, precision, recall, images) == ("Trouser", 1.0, 0.5, 2)
    assert f1 == pytest.approx(2 / 3)
    assert (dress[1], dress[2], coat[3]) == (0.0, 0.0, 0.0)

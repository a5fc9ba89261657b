"""The drawn garments: the arrays of the real data, the same each time, and worth learning."""

from __future__ import annotations

import numpy as np

from training.data import synthetic
from training.data.dataset import Dataset
from training.train import TrainingResult


def test_drawn_data_has_the_arrays_of_the_real_data(synthetic_data: Dataset) -> None:
    """uint8 images, int64 labels, every class equally often."""
    assert synthetic_data.train_images.shape == (3_000, 28, 28)
    assert synthetic_data.train_images.dtype == np.uint8
    assert synthetic_data.train_labels.dtype == np.int64
    assert np.bincount(synthetic_data.test_labels).tolist() == [50] * 10
    assert synthetic_data.manifest()["name"] == "synthetic"


def test_drawn_data_is_the_same_for_the_same_seed(synthetic_data: Dataset) -> None:
    """Seed and sizes settle every pixel; another seed gives others."""
    assert np.array_equal(synthetic.load().test_images, synthetic_data.test_images)
    assert not np.array_equal(synthetic.load(seed=1).test_images, synthetic_data.test_images)


def test_drawn_data_is_learnable(synthetic_run: TrainingResult) -> None:
    """A short run learns it well, though not without a mistake to learn from."""
    assert synthetic_run.test.accuracy >= 0.95

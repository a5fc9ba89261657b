"""The drawn garments: the arrays of the real data, the same each time, and worth learning."""

from __future__ import annotations

import numpy as np
import pytest
from numpy.typing import NDArray

from fashion_common.served_model import CLASS_NAMES
from training.data import synthetic
from training.data.dataset import Dataset
from training.train import TrainingResult

Drawn = tuple[NDArray[np.uint8], NDArray[np.int64]]


def test_drawn_data_has_the_arrays_of_the_real_data(synthetic_data: Dataset) -> None:
    """uint8 images, int64 labels, every class equally often."""
    assert synthetic_data.train_images.shape == (3_000, 28, 28)
    assert synthetic_data.train_images.dtype == np.uint8
    assert synthetic_data.train_labels.dtype == np.int64
    assert np.bincount(synthetic_data.test_labels).tolist() == [50] * 10
    assert synthetic_data.manifest() == {
        "name": "synthetic",
        "version": "1",
        "sha256": {},
        "train_images": 3_000,
        "validation_images": 500,
        "test_images": 500,
    }


def test_drawn_data_is_the_same_for_the_same_seed(synthetic_data: Dataset) -> None:
    """Seed and sizes settle every pixel; another seed gives others."""
    assert np.array_equal(synthetic.load().test_images, synthetic_data.test_images)
    assert not np.array_equal(synthetic.load(seed=1).test_images, synthetic_data.test_images)


def test_drawn_data_is_learnable(synthetic_run: TrainingResult) -> None:
    """A short run learns it well, though not without a mistake to learn from."""
    assert synthetic_run.test.accuracy >= 0.95


@pytest.fixture
def plain(monkeypatch: pytest.MonkeyPatch) -> Drawn:
    """A thousand drawn images without noise, and their labels."""
    monkeypatch.setattr(synthetic, "_NOISE", 0.0)
    return synthetic.draw(1_000, np.random.default_rng(0))


def test_a_garment_has_one_brightness_of_its_own(plain: Drawn) -> None:
    """From 110 to 255, on black."""
    levels = [np.unique(image).tolist() for image in plain[0]]
    assert {len(found) for found in levels} == {2}
    assert {found[0] for found in levels} == {0}
    brightness = [found[1] for found in levels]
    assert min(brightness) in range(110, 116)
    assert max(brightness) in range(250, 256)


def test_garments_differ_in_size_and_place(plain: Drawn) -> None:
    """They are three quarters of the picture or more, each way for itself, and stand anywhere in it."""
    images, labels = plain
    lit: NDArray[np.bool_] = np.greater(images, 0)
    rows, columns = np.max(lit, axis=2), np.max(lit, axis=1)
    top, left = rows.argmax(axis=1), columns.argmax(axis=1)
    assert (top.min(), left.min()) == (0, 0)
    heights = 28 - rows[:, ::-1].argmax(axis=1) - top
    widths = 28 - columns[:, ::-1].argmax(axis=1) - left
    assert ((top + heights).max(), (left + widths).max()) == (27, 27)
    assert (heights.max(), widths.max()) == (27, 27)
    # Of bags, which fill their width and most of their height.
    bags = labels == CLASS_NAMES.index("Bag")
    assert (widths[bags].min(), widths[bags].max()) == (19, 25)
    assert abs(np.corrcoef(heights[bags], widths[bags])[0, 1]) < 0.3
    assert abs(np.corrcoef(top[bags], left[bags])[0, 1]) < 0.3


def test_noise_is_of_18_gray_levels() -> None:
    """In the garment and around it, where nothing is below black."""
    images, _ = synthetic.draw(500, np.random.default_rng(0))
    corner = images[:, :2, :2].astype(float).ravel()
    # Of a normal distribution that is cut at 0, and rounded down.
    assert (corner == 0).mean() == pytest.approx(0.5, abs=0.05)
    assert corner[corner > 0].mean() == pytest.approx(18 * 0.8, abs=1.5)


def test_splits_are_of_the_sizes_that_are_asked_for() -> None:
    """One after the other from one seed: none has an image of another."""
    data = synthetic.load({"train": 30, "validation": 20, "test": 10}, seed=3)
    assert [len(images) for images in (data.train_images, data.validation_images, data.test_images)] == [30, 20, 10]
    assert np.bincount(data.train_labels).tolist() == [3] * 10
    assert data.train_labels.tolist() != sorted(data.train_labels.tolist())
    assert not np.array_equal(data.test_images, data.train_images[:10])
    first = np.random.default_rng(3)
    np.testing.assert_array_equal(synthetic.draw(30, first)[0], data.train_images)
    np.testing.assert_array_equal(synthetic.draw(20, first)[0], data.validation_images)

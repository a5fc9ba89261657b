"""Which images a step sees, and how they are moved."""

from __future__ import annotations

import numpy as np
import pytest
import tensorflow as tf

from training.fit import batches
from training.fit.batches import SHIFTS, UNMOVED, ImageStore


def test_an_epoch_sees_every_image_at_most_once() -> None:
    """Whole batches of a permutation; another epoch is another permutation."""
    indices, shifts = batches.draw(1_000, 64, 0.0, seed=3, epoch=0)
    assert indices.shape == (15, 64)
    assert len(np.unique(indices)) == indices.size
    assert np.all(shifts == UNMOVED)
    same, _ = batches.draw(1_000, 64, 0.0, seed=3, epoch=0)
    other, _ = batches.draw(1_000, 64, 0.0, seed=3, epoch=1)
    assert np.array_equal(same, indices)
    assert not np.array_equal(other, indices)


def test_another_seed_draws_others() -> None:
    """Other batches, and others of them moved."""
    first, same, other = (batches.draw(1_000, 100, 0.5, seed=seed, epoch=2) for seed in (3, 3, 4))
    for index in range(2):
        assert np.array_equal(first[index], same[index])
        assert not np.array_equal(first[index], other[index])


def test_the_asked_share_of_images_is_moved() -> None:
    """Half of them, one in nine of those back to where it was."""
    _, shifts = batches.draw(9_000, 100, 0.5, seed=0, epoch=0)
    assert 0.41 < np.mean(shifts != UNMOVED) < 0.48
    assert np.unique(shifts).tolist() == list(range(SHIFTS))


def test_a_batch_larger_than_the_data_is_the_data() -> None:
    """One step of all images."""
    indices, _ = batches.draw(10, 64, 0.0, seed=0, epoch=0)
    assert indices.shape == (1, 10)


def test_gathered_images_are_scaled_and_moved() -> None:
    """Shift 0 looks one pixel up and left of the image: what was there comes one pixel lower and further right."""
    images = np.random.default_rng(0).integers(0, 256, (3, 28, 28), dtype=np.uint8)
    shifted_images = (
        ImageStore(images, moving=True).gather(tf.constant([2, 1, 0]), tf.constant([UNMOVED, 0, 8])).numpy()
    )
    np.testing.assert_allclose(shifted_images[0], images[2] / 255, atol=1e-7)
    np.testing.assert_allclose(shifted_images[1, 1:, 1:], images[1, :-1, :-1] / 255, atol=1e-7)
    np.testing.assert_allclose(shifted_images[2, :-1, :-1], images[0, 1:, 1:] / 255, atol=1e-7)
    assert shifted_images[1, 0].sum() == shifted_images[2, :, -1].sum() == 0
    still = ImageStore(images, moving=False).gather(tf.constant([2]), tf.constant([0])).numpy()
    np.testing.assert_allclose(still[0], images[2] / 255, atol=1e-7)


@pytest.mark.parametrize("shift", range(SHIFTS))
def test_each_shift_moves_its_own_way(shift: int) -> None:
    """Shift 3 * dy + dx shows the image from row dy - 1 and column dx - 1 on; what comes in is black."""
    images = np.random.default_rng(0).integers(1, 256, (2, 28, 28), dtype=np.uint8)
    row, column = divmod(shift, 3)
    expected = np.pad(images[1], 1)[row : row + 28, column : column + 28] / np.float32(255)
    [moved] = ImageStore(images, moving=True).gather(tf.constant([1]), tf.constant([shift])).numpy()
    assert moved.dtype == np.float32
    np.testing.assert_array_equal(moved, expected.astype(np.float32))


def test_images_that_do_not_move_are_gathered_whole() -> None:
    """In the order of the indices, whatever their shifts."""
    images = np.random.default_rng(0).integers(0, 256, (3, 28, 28), dtype=np.uint8)
    gathered = ImageStore(images, moving=False).gather(tf.constant([2, 0]), tf.constant([0, 8])).numpy()
    assert (gathered.dtype, gathered.shape) == (np.float32, (2, 28, 28))
    np.testing.assert_array_equal(gathered, images[[2, 0]] / np.float32(255))


@pytest.mark.parametrize("shift", [0.0, 0.5])
def test_indices_and_shifts_are_whole_numbers_of_32_bit(shift: float) -> None:
    """Of one shape; batches are whole where the images fill them."""
    indices, shifts = batches.draw(100, 20, shift, seed=0, epoch=0)
    assert (indices.shape, shifts.shape) == ((5, 20), (5, 20))
    assert {indices.dtype, shifts.dtype} == {np.dtype(np.int32)}
    assert sorted(indices.ravel().tolist()) == list(range(100))


def test_every_image_may_be_moved() -> None:
    """At a share of 1 each of the nine shifts is as frequent as the others."""
    _, shifts = batches.draw(9_000, 100, 1.0, seed=0, epoch=0)
    assert all(900 < count < 1_100 for count in np.bincount(shifts.ravel()))

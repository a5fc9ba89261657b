"""Which images each optimizer step takes, and how they are moved: a function of seed and epoch alone."""

from __future__ import annotations

import numpy as np
import tensorflow as tf
from numpy.typing import NDArray

from fashion_common.served_model import IMAGE_SHAPE

SIDE, _ = IMAGE_SHAPE
SHIFTS = 9  # up to one pixel up, down, left and right: shift 3 * dy + dx, unmoved is 4
UNMOVED = 4


def draw(
    count: int, batch_size: int, shift: float, seed: int, epoch: int
) -> tuple[NDArray[np.int32], NDArray[np.int32]]:
    """A permutation of `count` images in batches, a share `shift` of them moved at random.

    Gives the indices of the images and the shift of each, 0 to 8, both int32 [steps, batch]. What does not fill a batch
    is left out; another epoch leaves out other images. The same arguments give the same batches, so that a resumed run
    takes those that the uninterrupted one would have taken.
    """
    generator = np.random.default_rng((seed, epoch))
    batch = min(batch_size, count)
    indices = generator.permutation(count)[: count // batch * batch].reshape(-1, batch).astype(np.int32)
    if not shift:
        return indices, np.full_like(indices, UNMOVED)
    shifts = generator.integers(0, SHIFTS, indices.shape, dtype=np.int32)
    return indices, np.where(generator.random(indices.shape) < shift, shifts, np.int32(UNMOVED))


class ImageStore:
    """Training images in memory, gathered by index inside a graph: float32 [batch, 28, 28], scaled to 0..1."""

    def __init__(self, images: NDArray[np.uint8], *, moving: bool) -> None:
        """`images` are uint8 [N,28,28]; without `moving` shifts are ignored and whole images gathered: faster."""
        self._moving = moving
        width = SIDE + 2
        if moving:
            rows, columns = np.meshgrid(np.arange(SIDE), np.arange(SIDE), indexing="ij")
            self._pixels = tf.constant(np.pad(images, ((0, 0), (1, 1), (1, 1))).reshape(-1))
            self._window = tf.constant((rows * width + columns).reshape(-1).astype(np.int32))
            self._corners = tf.constant([dy * width + dx for dy in range(3) for dx in range(3)], tf.int32)
            self._size = width * width
        else:
            self._pixels = tf.constant(images)

    def gather(self, indices: tf.Tensor, shifts: tf.Tensor) -> tf.Tensor:
        """The images at int32 [batch] `indices`, each moved by its int32 [batch] shift."""
        if not self._moving:
            return tf.cast(tf.gather(self._pixels, indices), tf.float32) / 255.0
        first = indices * self._size + tf.gather(self._corners, shifts)
        pixels = tf.gather(self._pixels, first[:, tf.newaxis] + self._window)
        return tf.reshape(tf.cast(pixels, tf.float32) / 255.0, (-1, SIDE, SIDE))

"""Versions of a toy `fashion_mnist` with exact answers, written by a process of its own.

The class of an image is its first pixel, with the probability 0.91, each other class having 0.01; but

- version 2 takes 8 for 9 and 9 for 8, and 7 for 6, so that 6 is never answered,
- version 3 gives NaN for the class 5,
- version 4 refuses images of the class 4,
- version 0 takes tens of milliseconds.
"""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

import pytest

PERMUTED = (0, 1, 2, 3, 4, 5, 7, 7, 9, 8)


def main(base_path: Path) -> None:
    """Writes all versions."""
    import tensorflow as tf

    from fashion_common.served_model import CLASS_NAMES

    def write(version: int, classes: Sequence[int], nan: int = -1, refused: int = -1, products: int = 0) -> None:
        def classify(images: tf.Tensor) -> dict[str, tf.Tensor]:
            pixels = tf.cast(images[:, 0, 0], tf.int64)
            with tf.control_dependencies([tf.debugging.Assert(tf.reduce_all(pixels != refused), ["no class of mine"])]):
                ids = tf.gather(tf.constant([*classes], tf.int64), pixels)
            # Of the input, so that they are not computed once and for all.
            matrix = tf.fill([400, 400], tf.cast(tf.reduce_max(pixels), tf.float32) / 1e9)
            for _ in range(products):
                matrix = tf.matmul(matrix, matrix)
            slow = 0.0 * tf.reduce_sum(matrix)
            broken = tf.where(pixels == nan, float("nan"), 0.0)[:, tf.newaxis]
            return {
                "probabilities": 0.01 + 0.9 * tf.one_hot(ids, 10) + broken + slow,
                "class_ids": ids,
                "class_names": tf.gather(tf.constant(CLASS_NAMES), ids),
            }

        module = tf.Module()
        images = tf.TensorSpec([None, 28, 28], tf.uint8, name="images")
        module.classify = tf.function(classify, input_signature=[images])
        tf.saved_model.save(module, str(base_path / str(version)), signatures=module.classify)

    write(1, range(10))
    write(2, PERMUTED)
    write(3, range(10), nan=5)
    write(4, range(10), refused=4)
    write(0, range(10), products=30)


@pytest.fixture(scope="session")
def classifiers(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The base path of the versions: this process imports no TensorFlow."""
    base_path = tmp_path_factory.mktemp("classifiers") / "fashion_mnist"
    command = [sys.executable, "-m", "tests.support.classifiers", str(base_path)]
    subprocess.run(command, cwd=Path(__file__).parents[2], check=True, capture_output=True, timeout=240)
    return base_path


if __name__ == "__main__":
    main(Path(sys.argv[1]))

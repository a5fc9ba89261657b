"""A toy version that runs on both runtimes, with exact answers, written by a process of its own.

The class of an image is its first pixel, with the probability 0.91, each other class having 0.01.
"""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest


def main(directory: Path) -> None:
    """Writes it."""
    import tensorflow as tf

    def classify(images: tf.Tensor) -> dict[str, tf.Tensor]:
        ids = tf.cast(images[:, 0, 0], tf.int64)
        return {"probabilities": 0.01 + 0.9 * tf.one_hot(ids, 10), "class_ids": ids}

    module = tf.Module()
    module.classify = tf.function(classify, input_signature=[tf.TensorSpec([None, 28, 28], tf.uint8, name="images")])
    tf.saved_model.save(module, str(directory), signatures=module.classify)
    converter = tf.lite.TFLiteConverter.from_saved_model(str(directory), signature_keys=["serving_default"])
    (directory / "model.tflite").write_bytes(converter.convert())


@pytest.fixture(scope="session")
def scored_model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The directory of version 7: this process imports no TensorFlow."""
    directory = tmp_path_factory.mktemp("scored") / "fashion_mnist" / "7"
    done = subprocess.run(
        [sys.executable, "-m", "tests.support.scored_models", directory], capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    return directory


if __name__ == "__main__":
    main(Path(sys.argv[1]))

"""The recorded server's models for LiteRT, as far as its converter takes them: `python lite_kitchen.py DIRECTORY`."""

from __future__ import annotations

import sys
from pathlib import Path

import tensorflow as tf

from tests.support.live import KITCHEN

# The others have operations of TensorFlow's alone: tf.Example's parser and string operations.
SIGNATURES = ("bytes_sum", "fixed", "non_finite", "scalar", "serving_default", "two_in_two_out")


def main(directory: Path) -> None:
    """Writes DIRECTORY/1 and DIRECTORY/2."""
    for version in ("1", "2"):
        converter = tf.lite.TFLiteConverter.from_saved_model(str(KITCHEN / version), signature_keys=list(SIGNATURES))
        (directory / version).mkdir(parents=True)
        (directory / version / "model.tflite").write_bytes(converter.convert())


if __name__ == "__main__":
    main(Path(sys.argv[1]))

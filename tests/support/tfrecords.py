"""TFRecord files, written without TensorFlow."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

from serving.apis.tfrecord import framed


def write_records(path: Path, records: Iterable[bytes]) -> None:
    """Writes a file as `tf.io.TFRecordWriter` does."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(b"".join(map(framed, records)))

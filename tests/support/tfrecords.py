"""TFRecord files, written without TensorFlow."""

from __future__ import annotations

import struct
from collections.abc import Iterable
from pathlib import Path

from serving.embedded.loading.tfrecord import crc32c


def write_records(path: Path, records: Iterable[bytes]) -> None:
    """Writes a file as `tf.io.TFRecordWriter` does."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("wb") as file:
        for record in records:
            length = struct.pack("<Q", len(record))
            file.write(length + masked_checksum(length) + record + masked_checksum(record))


def masked_checksum(data: bytes) -> bytes:
    """The checksum as it is in the file."""
    crc = crc32c(data)
    return struct.pack("<I", ((crc >> 15 | crc << 17) + 0xA282EAD8) & 0xFFFFFFFF)

"""TFRecord files, read and written without TensorFlow.

A record is its length (uint64), the length's checksum, its bytes and their checksum, all little-endian:
https://www.tensorflow.org/tutorials/load_data/tfrecord#tfrecords_format_details
"""

from __future__ import annotations

import functools
import os
import struct
from collections.abc import Iterator
from pathlib import Path
from typing import BinaryIO

import google_crc32c

_LENGTH = struct.Struct("<QI")
_CHECKSUM = struct.Struct("<I")
_MASK = 0xFFFFFFFF
_MASK_DELTA = 0xA282EAD8


class RecordError(ValueError):
    """A record whose checksum is wrong; the text names the file and the place."""


class TruncatedRecordError(RecordError):
    """A file that ends within a record, as one whose writer was killed does."""


def read_records(path: Path) -> Iterator[bytes]:
    """The records of a TFRecord file without compression, their checksums verified.

    Raises OSError; RecordError for a file that is damaged, TruncatedRecordError for one that is cut.
    """
    with path.open("rb") as file:
        size = os.fstat(file.fileno()).st_size
        while (start := file.tell()) < size:
            length, checksum = _LENGTH.unpack(_read(file, path, _LENGTH.size, size))
            _check(path, start, struct.pack("<Q", length), checksum)
            record = _read(file, path, length, size)
            _check(path, start, record, *_CHECKSUM.unpack(_read(file, path, _CHECKSUM.size, size)))
            yield record


def is_tfrecord(path: Path) -> bool:
    """Whether a file begins with a record's length and its checksum. Raises OSError."""
    with path.open("rb") as file:
        head = file.read(_LENGTH.size)
    return len(head) == _LENGTH.size and _masked_crc32c(head[:8]) == _LENGTH.unpack(head)[1]


def framed(record: bytes) -> bytes:
    """A record as it is in a file."""
    return b"".join((_head(len(record)), record, _CHECKSUM.pack(_masked_crc32c(record))))


def _read(file: BinaryIO, path: Path, count: int, size: int) -> bytes:
    # A damaged length must not ask for more memory than the file has bytes.
    if count > size - file.tell():
        raise TruncatedRecordError(f"{path}: truncated record at {file.tell()}")
    return file.read(count)


def _check(path: Path, start: int, data: bytes, checksum: int) -> None:
    if _masked_crc32c(data) != checksum:
        raise RecordError(f"{path}: corrupted record at {start}")


@functools.lru_cache(1024)
def _head(length: int) -> bytes:
    """What is before a record of this length."""
    return _LENGTH.pack(length, _masked_crc32c(struct.pack("<Q", length)))


def _masked_crc32c(data: bytes) -> int:
    crc: int = google_crc32c.value(data)
    return ((crc >> 15 | crc << 17) + _MASK_DELTA) & _MASK

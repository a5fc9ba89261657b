"""TFRecord files are read and written as TensorFlow does."""

from __future__ import annotations

import struct
from pathlib import Path

import numpy as np
import pytest
import tensorflow as tf

from serving.apis.tfrecord import RecordError, TruncatedRecordError, framed, is_tfrecord, read_records
from tests.support.tfrecords import write_records

RECORDS = [
    np.random.default_rng(size).bytes(size)
    for size in (0, 1, 2, 3, 4, 5, 7, 1023, 1024, 1025, 1027, 2047, 2048, 2049, 2051, 300_001)
]


@pytest.fixture
def file(tmp_path: Path) -> Path:
    """A file that TensorFlow has written."""
    path = tmp_path / "records"
    with tf.io.TFRecordWriter(str(path)) as writer:
        for record in RECORDS:
            writer.write(record)
    return path


def test_what_tensorflow_wrote(file: Path) -> None:
    """Records of every length, in order; a file without any is no error."""
    assert list(read_records(file)) == RECORDS
    written = file.read_bytes()
    write_records(file, RECORDS)
    assert file.read_bytes() == written
    write_records(file, [])
    assert list(read_records(file)) == []


@pytest.mark.parametrize("bit", [0, 63, 64, 95, 96, 100, 127])
def test_a_flipped_bit(file: Path, bit: int) -> None:
    """In a length, in a checksum or in the bytes: what was before it is still read."""
    content = bytearray(file.read_bytes())
    # The first record is empty: its 16 bytes are checked first.
    content[16 + bit // 8] ^= 1 << bit % 8
    file.write_bytes(content)

    records = read_records(file)
    assert next(records) == b""
    with pytest.raises(RecordError, match=r"records: corrupted record at 16$"):
        next(records)


@pytest.mark.parametrize("size", [1, 11, 12, 13, 15, 17, 40])
def test_a_cut_file(file: Path, size: int) -> None:
    """However little is missing."""
    file.write_bytes(file.read_bytes()[:size])
    with pytest.raises(TruncatedRecordError, match=r"records: truncated record at \d+$"):
        list(read_records(file))


def test_a_length_that_no_file_has(file: Path) -> None:
    """With a right checksum: no memory is taken for it."""
    length = struct.pack("<Q", 2**60)
    # The record of these bytes ends with their checksum.
    file.write_bytes(length + framed(length)[-4:])
    with pytest.raises(TruncatedRecordError, match="truncated record at 12"):
        list(read_records(file))


def test_a_tfrecord_file_is_known_by_its_first_bytes(file: Path, tmp_path: Path) -> None:
    """A length and its checksum; neither another file, nor one that is shorter than that."""
    assert is_tfrecord(file)
    head = file.read_bytes()[:12]
    for content, is_one in ((head, True), (head[:11], False), (bytes(12), False), (b"", False)):
        (tmp_path / "other").write_bytes(content)
        assert is_tfrecord(tmp_path / "other") == is_one

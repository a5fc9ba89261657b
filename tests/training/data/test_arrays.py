"""The archives that decoded data and checkpoints are kept in."""

from __future__ import annotations

import os
from pathlib import Path

import numpy as np
import pytest

from training.data.arrays import Arrays, read_archive, write_archive

ARRAYS: Arrays = {"images": np.arange(2_000, dtype=np.uint8).reshape(2, 1_000), "step": np.array(3, np.int64)}


@pytest.fixture
def path(tmp_path: Path) -> Path:
    """An archive."""
    path = tmp_path / "arrays.npz"
    write_archive(path, ARRAYS, {"epochs": [1, 2]})
    return path


def test_arrays_and_record_come_back(path: Path) -> None:
    """Values, shapes and dtypes; no temporary file stays beside the archive."""
    arrays, about = read_archive(path)
    assert about == {"epochs": [1, 2]}
    assert arrays.keys() == ARRAYS.keys()
    for name, array in ARRAYS.items():
        assert arrays[name].dtype == array.dtype
        np.testing.assert_array_equal(arrays[name], array)
    assert list(path.parent.iterdir()) == [path]


def test_a_full_disk_leaves_the_archive_that_was_there(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A checkpoint that could not be written does not cost the one before it."""

    def full(_descriptor: int) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(OSError, match="No space left"):
        write_archive(path, {"images": np.zeros(3)}, {"epochs": []})
    arrays, about = read_archive(path)
    assert (set(arrays), about) == (set(ARRAYS), {"epochs": [1, 2]})
    assert list(path.parent.iterdir()) == [path]


@pytest.mark.parametrize("damage", ["flipped byte", "cut short", "empty", "no record", "pickle"])
def test_damaged_archive_is_a_value_error(damage: str, path: Path) -> None:
    """Whatever is wrong with the file, and an object array, which only pickle could read, is never loaded."""
    content = bytearray(path.read_bytes())
    if damage == "flipped byte":
        content[1_000] ^= 1
        path.write_bytes(content)
    elif damage == "cut short":
        path.write_bytes(content[: len(content) // 2])
    elif damage == "empty":
        path.write_bytes(b"")
    elif damage == "no record":
        np.savez(path, images=ARRAYS["images"])
    else:
        np.savez(path, about=np.array("{}"), images=np.array([object()], dtype=object))
    with pytest.raises(ValueError, match=r"."):
        read_archive(path)


def test_missing_archive_is_an_os_error(tmp_path: Path) -> None:
    """It is not damaged."""
    with pytest.raises(FileNotFoundError):
        read_archive(tmp_path / "none.npz")

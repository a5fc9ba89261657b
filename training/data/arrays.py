"""The decoded arrays of a data set in one file: written whole, checked when read, never pickled."""

from __future__ import annotations

import io
import json
import zipfile
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from fashion_common.files import write_whole

# train_images, test_images: uint8 [N,28,28]; train_labels, test_labels: int64 [N].
Arrays = dict[str, NDArray[Any]]


@dataclass(frozen=True)
class CachedArrays:
    """Decoded arrays and the SHA-256 digests of the files that they came from."""

    arrays: Arrays
    sha256: dict[str, str]


def write_arrays(path: Path, arrays: Arrays, sha256: Mapping[str, str]) -> None:
    """Writes arrays and digests; a reader sees the whole file or none. Raises OSError."""
    buffer = io.BytesIO()
    np.savez(buffer, allow_pickle=False, **{**arrays, "sha256": np.array(json.dumps(dict(sha256)))})
    write_whole(path, buffer.getvalue())


def read_arrays(path: Path, sizes: Mapping[str, int], files: tuple[str, ...]) -> CachedArrays | None:
    """What `write_arrays` wrote, or None where the file is missing, damaged (it has checksums) or of another shape."""
    try:
        with path.open("rb") as file, np.load(file, allow_pickle=False) as stored:
            sha256 = json.loads(str(stored["sha256"]))
            arrays = {name: stored[name] for split in sizes for name in (f"{split}_images", f"{split}_labels")}
    except (OSError, ValueError, KeyError, EOFError, zipfile.BadZipFile):
        return None
    sound = set(sha256) == set(files) and all(
        _is(arrays[f"{split}_images"], (size, 28, 28), np.uint8) and _is(arrays[f"{split}_labels"], (size,), np.int64)
        for split, size in sizes.items()
    )
    return CachedArrays(arrays, sha256) if sound else None


def _is(array: NDArray[Any], shape: tuple[int, ...], dtype: type[np.generic]) -> bool:
    return array.shape == shape and array.dtype == dtype

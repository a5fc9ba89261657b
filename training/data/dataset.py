"""Fashion-MNIST through tensorflow_datasets (TFDS), as arrays in memory.

The four files of Xiao et al. 2017 (https://arxiv.org/abs/1708.07747) are checked against the checksums that TFDS has
registered, prepared once, and decoded once: decoding 70,000 PNGs takes seconds, reading their arrays a tenth of that.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from fashion_common.data_files import FILES, NAME, VERSION, decoded_file, prepared_directory
from fashion_common.served_model import IMAGE_SHAPE
from training.data.arrays import Arrays, read_archive, write_archive
from training.data.sources import check_digests, default_directory, named_directory
from training.errors import TrainingUsageError

VALIDATION_SIZE = 5_000
SIZES = {"train": 60_000, "test": 10_000}

Report = Callable[[str], None]  # takes a line of text about what is being done


@dataclass(frozen=True)
class Dataset:
    """Images as uint8 [N,28,28] (raw pixels, 0 to 255), labels as int64 [N] (0 to 9), in three splits."""

    name: str
    version: str
    sha256: Mapping[str, str]  # of each source file, by its name
    train_images: NDArray[np.uint8]
    train_labels: NDArray[np.int64]
    validation_images: NDArray[np.uint8]
    validation_labels: NDArray[np.int64]
    test_images: NDArray[np.uint8]
    test_labels: NDArray[np.int64]

    def manifest(self) -> dict[str, object]:
        """What a run records of its data: name, version, digests of the source files, images in each split."""
        return {
            "name": self.name,
            "version": self.version,
            "sha256": dict(self.sha256),
            "train_images": len(self.train_labels),
            "validation_images": len(self.validation_labels),
            "test_images": len(self.test_labels),
        }


def load(data_dir: Path | None = None, *, prepared_dir: Path | None = None, report: Report = lambda _: None) -> Dataset:
    """Fashion-MNIST: 55,000 images for training, 5,000 for validation, 10,000 for the test.

    The four original files are taken from `data_dir`, else $FASHION_MNIST_DIR, else `data/fashion-mnist/` in the
    checkout, else downloaded. The prepared data set goes to `prepared_dir`, else $TFDS_DATA_DIR, else
    `data/tensorflow_datasets/` in the checkout. `report` gets a line of text before each step that takes seconds.

    Raises TrainingUsageError where a file is missing, has a wrong checksum, or cannot be downloaded or written.
    """
    files = named_directory(data_dir)
    prepared_dir = prepared_dir or prepared_directory()
    cache = decoded_file(prepared_dir)
    data = read_cache(cache)
    if data is None:
        return _prepare(files, prepared_dir, cache, report)
    if files:
        check_digests(files, data.sha256)
    return data


def read_cache(path: Path) -> Dataset | None:
    """The data set in the file of its decoded arrays; None where that is missing, damaged or holds anything else."""
    try:
        arrays, sha256 = read_archive(path)
    except (OSError, ValueError):
        return None
    members = {name: (array.shape, array.dtype) for name, array in arrays.items()}
    expected = {
        f"{split}_{kind}": ((size, *shape), dtype)
        for split, size in SIZES.items()
        for kind, shape, dtype in (("images", IMAGE_SHAPE, np.dtype(np.uint8)), ("labels", (), np.dtype(np.int64)))
    }
    return _split(arrays, sha256) if members == expected and sha256.keys() == set(FILES) else None


def _prepare(files: Path | None, prepared_dir: Path, cache: Path, report: Report) -> Dataset:
    from training.data import prepare

    sha256 = prepare.registered_digests()
    try:
        prepared_dir.mkdir(parents=True, exist_ok=True)
        if not (prepared_dir / NAME / VERSION).is_dir():
            report(f"Preparing Fashion-MNIST {VERSION} in {prepared_dir} (once, about 15 seconds)")
            prepare.prepare(files or default_directory(), prepared_dir)
        elif files:
            check_digests(files, sha256)
        report(f"Decoding Fashion-MNIST {VERSION} (once)")
        arrays = prepare.decode(prepared_dir)
        write_archive(cache, arrays, sha256)
    except OSError as error:
        raise TrainingUsageError(
            f"{prepared_dir} cannot take the prepared data set ({error.strerror or error}): "
            "free about 200 MB there, or let TFDS_DATA_DIR name a writable directory"
        ) from error
    return _split(arrays, sha256)


def _split(arrays: Arrays, sha256: Mapping[str, str]) -> Dataset:
    cut = SIZES["train"] - VALIDATION_SIZE
    images, labels = arrays["train_images"], arrays["train_labels"]
    test = arrays["test_images"], arrays["test_labels"]
    return Dataset(NAME, VERSION, sha256, images[:cut], labels[:cut], images[cut:], labels[cut:], *test)

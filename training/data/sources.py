"""The four files of Fashion-MNIST: the directories that may hold them, and the check of their digests."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Mapping
from pathlib import Path

from training.errors import TrainingUsageError

NAME = "fashion_mnist"
VERSION = "3.0.1"  # of the data set in tensorflow_datasets
FILES = (
    "train-images-idx3-ubyte.gz",
    "train-labels-idx1-ubyte.gz",
    "t10k-images-idx3-ubyte.gz",
    "t10k-labels-idx1-ubyte.gz",
)
URL = "http://fashion-mnist.s3-website.eu-central-1.amazonaws.com/"
DATA_DIR_VARIABLE = "FASHION_MNIST_DIR"


def checkout() -> Path:
    """The checkout that this package lies in, else the current directory: where `data/` is looked for."""
    root = Path(__file__).resolve().parents[2]
    return root if (root / "pyproject.toml").is_file() else Path.cwd()


def named_directory(data_dir: Path | None) -> Path | None:
    """`data_dir`, else $FASHION_MNIST_DIR, else None; TrainingUsageError where it lacks one of the four."""
    variable = os.environ.get(DATA_DIR_VARIABLE)
    directory = data_dir or (Path(variable) if variable else None)
    if directory and (missing := [name for name in FILES if not (directory / name).is_file()]):
        raise TrainingUsageError(f"{directory} lacks {', '.join(missing)}: put the four files of {URL} there")
    return directory


def default_directory() -> Path | None:
    """`data/fashion-mnist/` in the checkout, else None."""
    directory = checkout() / "data" / "fashion-mnist"
    return directory if all((directory / name).is_file() for name in FILES) else None


def check_digests(directory: Path, sha256: Mapping[str, str]) -> None:
    """Raises TrainingUsageError naming the first file that cannot be read or has another SHA-256 digest."""
    for name, checksum in sha256.items():
        file = directory / name
        try:
            digest = hashlib.sha256(file.read_bytes()).hexdigest()
        except OSError as error:
            raise TrainingUsageError(f"{file} cannot be read ({error.strerror}): make it readable") from error
        if digest != checksum:
            raise TrainingUsageError(
                f"{file} has a wrong checksum (SHA-256 {digest}, registered {checksum}): "
                f"delete it and fetch {URL}{name} again"
            )

"""The four files of Fashion-MNIST: whether a directory has them all, and the check of their digests."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from pathlib import Path

from fashion_common import data_files
from fashion_common.data_files import FILES
from training.errors import TrainingUsageError

URL = "http://fashion-mnist.s3-website.eu-central-1.amazonaws.com/"


def named_directory(data_dir: Path | None) -> Path | None:
    """`data_dir`, else $FASHION_MNIST_DIR, else None; TrainingUsageError where it lacks one of the four."""
    directory = data_files.named_directory(data_dir)
    if directory and (missing := [name for name in FILES if not (directory / name).is_file()]):
        raise TrainingUsageError(f"{directory} lacks {', '.join(missing)}: put the four files of {URL} there")
    return directory


def default_directory() -> Path | None:
    """`data/fashion-mnist/` in the checkout, else None."""
    directory = data_files.default_directory()
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

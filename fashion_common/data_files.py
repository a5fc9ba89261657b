"""Where Fashion-MNIST lies: the four original files, and the arrays that training has decoded from them."""

from __future__ import annotations

import os
from pathlib import Path

NAME = "fashion_mnist"
VERSION = "3.0.1"  # of the data set in tensorflow_datasets
FILES = (
    "train-images-idx3-ubyte.gz",
    "train-labels-idx1-ubyte.gz",
    "t10k-images-idx3-ubyte.gz",
    "t10k-labels-idx1-ubyte.gz",
)
DATA_DIR_VARIABLE = "FASHION_MNIST_DIR"


def checkout() -> Path:
    """The checkout that this package lies in, else the current directory: where `data/` is looked for."""
    root = Path(__file__).resolve().parents[1]
    return root if (root / "pyproject.toml").is_file() else Path.cwd()


def named_directory(data_dir: Path | None) -> Path | None:
    """The directory of the original files that the user names: `data_dir`, else $FASHION_MNIST_DIR, else None."""
    variable = os.environ.get(DATA_DIR_VARIABLE)
    return data_dir or (Path(variable) if variable else None)


def default_directory() -> Path:
    """`data/fashion-mnist/` in the checkout, for the original files."""
    return checkout() / "data" / "fashion-mnist"


def prepared_directory() -> Path:
    """What TFDS prepares goes to $TFDS_DATA_DIR, else to `data/tensorflow_datasets/` in the checkout."""
    return Path(os.environ.get("TFDS_DATA_DIR") or checkout() / "data" / "tensorflow_datasets")


def decoded_file(prepared_dir: Path) -> Path:
    """A NumPy archive: `train_` and `test_images`, uint8 [N,28,28], `train_` and `test_labels`, int64 [N]."""
    return prepared_dir / NAME / f"decoded-{VERSION}.npz"

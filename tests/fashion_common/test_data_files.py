"""Where Fashion-MNIST is looked for."""

from __future__ import annotations

from pathlib import Path

import pytest

from fashion_common import data_files
from fashion_common.data_files import checkout, decoded_file, default_directory, named_directory, prepared_directory


def test_the_users_directory_goes_before_the_environments(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Without either there is none."""
    monkeypatch.setenv("FASHION_MNIST_DIR", str(tmp_path / "variable"))
    assert named_directory(tmp_path / "given") == tmp_path / "given"
    assert named_directory(None) == tmp_path / "variable"
    monkeypatch.setenv("FASHION_MNIST_DIR", "")
    assert named_directory(None) is None
    monkeypatch.delenv("FASHION_MNIST_DIR")
    assert named_directory(None) is None


def test_data_lies_in_the_checkout_or_where_the_user_is(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """In the working directory for an installed package."""
    root = Path(__file__).resolve().parents[2]
    monkeypatch.delenv("TFDS_DATA_DIR", raising=False)
    monkeypatch.chdir(tmp_path)
    assert (checkout(), default_directory()) == (root, root / "data" / "fashion-mnist")
    assert prepared_directory() == root / "data" / "tensorflow_datasets"
    monkeypatch.setattr(data_files, "__file__", str(tmp_path / "site-packages" / "fashion_common" / "x.py"))
    assert default_directory() == tmp_path / "data" / "fashion-mnist"


def test_decoded_arrays_lie_where_tfds_prepares_them(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """$TFDS_DATA_DIR names the place; the file has the data set's version in its name."""
    monkeypatch.setenv("TFDS_DATA_DIR", str(tmp_path))
    assert prepared_directory() == tmp_path
    assert decoded_file(tmp_path) == tmp_path / "fashion_mnist" / "decoded-3.0.1.npz"

"""The four files of Fashion-MNIST: where they are, and whether they are what was registered."""

from __future__ import annotations

import hashlib
from pathlib import Path

import pytest

from fashion_common import data_files
from fashion_common.data_files import FILES
from training.data import sources
from training.errors import TrainingUsageError

_URL = "http://fashion-mnist.s3-website.eu-central-1.amazonaws.com/"


def write(directory: Path, *names: str) -> Path:
    """Files that hold their own names."""
    directory.mkdir(parents=True, exist_ok=True)
    for name in names:
        (directory / name).write_text(name)
    return directory


def test_files_are_those_that_were_registered(tmp_path: Path) -> None:
    """The first that is not is named, with both digests and where to fetch it."""
    write(tmp_path, *FILES)
    right = {name: hashlib.sha256(name.encode()).hexdigest() for name in FILES}
    sources.check_digests(tmp_path, right)
    wrong = right | {FILES[1]: "0" * 64, FILES[2]: "1" * 64}
    with pytest.raises(TrainingUsageError) as error:
        sources.check_digests(tmp_path, wrong)
    assert str(error.value) == (
        f"{tmp_path / FILES[1]} has a wrong checksum (SHA-256 {right[FILES[1]]}, registered {'0' * 64}): "
        f"delete it and fetch {_URL}{FILES[1]} again"
    )
    (tmp_path / FILES[0]).unlink()
    with pytest.raises(TrainingUsageError) as error:
        sources.check_digests(tmp_path, right)
    assert str(error.value) == f"{tmp_path / FILES[0]} cannot be read (No such file or directory): make it readable"


def test_a_directory_that_is_named_has_all_four(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Those that it lacks are named; where none is named, there is none."""
    monkeypatch.delenv(data_files.DATA_DIR_VARIABLE, raising=False)
    assert sources.named_directory(None) is None
    write(tmp_path, *FILES[:2])
    with pytest.raises(TrainingUsageError) as error:
        sources.named_directory(tmp_path)
    assert str(error.value) == f"{tmp_path} lacks {FILES[2]}, {FILES[3]}: put the four files of {_URL} there"
    write(tmp_path, *FILES)
    assert sources.named_directory(tmp_path) == tmp_path


def test_the_checkout_s_directory_counts_when_it_has_all_four(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Three are as good as none."""
    monkeypatch.setattr(data_files, "checkout", lambda: tmp_path)
    own = write(tmp_path / "data/fashion-mnist", *FILES[:3])
    assert sources.default_directory() is None
    write(own, FILES[3])
    assert sources.default_directory() == own

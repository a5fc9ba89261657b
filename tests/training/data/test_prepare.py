"""How the data set is prepared: what tensorflow_datasets is told, and what is said where that fails."""

from __future__ import annotations

import contextlib
import urllib.error
import urllib.request
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import requests
import tensorflow_datasets as tfds
from tensorflow_datasets.core.download.download_manager import NonMatchingChecksumError
from tensorflow_datasets.core.download.util import DownloadError

from fashion_common.data_files import FILES
from training.data import prepare
from training.errors import TrainingUsageError

_URL = "http://fashion-mnist.s3-website.eu-central-1.amazonaws.com/"


class Library:
    """What stands in for tensorflow_datasets: it writes one file, or fails."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.error: Exception | None = None
        self.asked: list[Any] = []
        self.reached: list[Any] = []
        monkeypatch.setattr(tfds, "builder", self._builder)
        monkeypatch.setattr(tfds, "disable_progress_bar", lambda: self.asked.append("no progress"))
        monkeypatch.setattr(urllib.request, "urlopen", self._urlopen)

    def _urlopen(self, request: Any, timeout: float) -> contextlib.AbstractContextManager[None]:
        self.reached.append((request.full_url, request.get_method(), timeout))
        return contextlib.nullcontext()

    def _builder(self, name: str, data_dir: Path) -> SimpleNamespace:
        def download_and_prepare(download_config: Any) -> None:
            print("Generating splits...")
            config = download_config
            self.asked.append(
                (name, config.manual_dir, config.try_download_gcs, config.force_checksums_validation, data_dir.parent)
            )
            if self.error:
                raise self.error
            (data_dir / "fashion_mnist/3.0.1").mkdir(parents=True)
            (data_dir / "fashion_mnist/3.0.1/data").write_text("prepared")

        return SimpleNamespace(download_and_prepare=download_and_prepare)


@pytest.fixture
def library(monkeypatch: pytest.MonkeyPatch) -> Library:
    """The one that stands in."""
    return Library(monkeypatch)


@pytest.fixture
def files(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Four files that are what is registered."""
    directory = tmp_path / "files"
    directory.mkdir()
    for name in FILES:
        (directory / name).touch()
    empty = "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855"
    monkeypatch.setattr(prepare, "registered_digests", lambda: dict.fromkeys(FILES, empty))
    return directory


@pytest.fixture
def prepared(tmp_path: Path) -> Path:
    """Where prepared data goes."""
    directory = tmp_path / "prepared"
    directory.mkdir()
    return directory


def test_files_at_hand_are_prepared_without_a_network(
    library: Library, files: Path, prepared: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """From the originals alone, checked, and silently; the data set appears whole, and nothing else."""
    prepare.prepare(files, prepared)
    assert library.asked == ["no progress", ("fashion_mnist:3.0.1", files, False, True, prepared)]
    assert library.reached == []
    assert (prepared / "fashion_mnist/3.0.1/data").read_text() == "prepared"
    assert [path.name for path in prepared.iterdir()] == ["fashion_mnist"]
    assert capsys.readouterr() == ("", "")


def test_without_files_the_network_is_tried_first(library: Library, prepared: Path) -> None:
    """By the head of one file, within ten seconds: tensorflow_datasets itself tries for minutes."""
    prepare.prepare(None, prepared)
    assert library.reached == [(f"{_URL}{FILES[-1]}", "HEAD", 10)]
    assert library.asked[1][:2] == ("fashion_mnist:3.0.1", None)


@pytest.mark.parametrize(
    ("error", "reason"),
    [
        (lambda: requests.ConnectionError("no route"), "no route"),
        (lambda: urllib.error.URLError("refused"), "<urlopen error refused>"),
        (lambda: TimeoutError("timed out"), "timed out"),
        (lambda: DownloadError("status 500"), "status 500"),
        (
            lambda: NonMatchingChecksumError("Artifact a, downloaded to b, has wrong checksum:\nmore"),
            "a downloaded file has a wrong checksum: Artifact a, downloaded to b, has wrong checksum:",
        ),
    ],
    ids=["requests", "urllib", "time-out", "tensorflow_datasets", "checksum"],
)
def test_a_download_that_fails_says_what_to_fetch(
    library: Library, prepared: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch,
    error: Callable[[], Exception], reason: str,
) -> None:  # fmt: skip
    """In one line, with the reason and the place; nothing is left of the attempt."""
    monkeypatch.setattr(prepare, "default_directory", lambda: tmp_path / "data/fashion-mnist")
    library.error = error()
    with pytest.raises(TrainingUsageError) as caught:
        prepare.prepare(None, prepared)
    assert str(caught.value) == (
        f"Fashion-MNIST is not at hand and cannot be downloaded ({reason}): fetch {', '.join(FILES)} from {_URL} "
        f"into {tmp_path}/data/fashion-mnist, or name their directory with --data-dir or $FASHION_MNIST_DIR"
    )
    assert list(prepared.iterdir()) == []


def test_arrays_are_decoded_in_the_order_of_the_files(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """Both splits whole and unshuffled, the images without their last axis."""
    asked: list[object] = []

    def as_dataset(split: str, batch_size: int, *, shuffle_files: bool) -> dict[str, Any]:
        asked.append((split, batch_size, shuffle_files))
        count = {"train": 3, "test": 2}[split]
        images = np.arange(count * 28 * 28, dtype=np.uint8).reshape(count, 28, 28, 1)
        return {"image": images, "label": np.arange(count)}

    def builder(name: str, data_dir: Path) -> SimpleNamespace:
        asked.append((name, data_dir))
        return SimpleNamespace(as_dataset=as_dataset)

    monkeypatch.setattr(tfds, "builder", builder)
    monkeypatch.setattr(tfds, "as_numpy", lambda columns: columns)
    arrays = prepare.decode(tmp_path)
    assert asked == [("fashion_mnist:3.0.1", tmp_path), ("train", -1, False), ("test", -1, False)]
    assert {name: array.shape for name, array in arrays.items()} == {
        "train_images": (3, 28, 28),
        "train_labels": (3,),
        "test_images": (2, 28, 28),
        "test_labels": (2,),
    }
    assert arrays["test_images"].flags.c_contiguous
    assert arrays["train_images"].ravel().tolist() == np.arange(3 * 784, dtype=np.uint8).tolist()
    assert arrays["train_labels"].tolist() == [0, 1, 2]


def test_the_registered_digests_are_those_of_the_four_files() -> None:
    """64 hexadecimal digits each, of which no two are the same."""
    digests = prepare.registered_digests()
    assert list(digests) == list(FILES)
    assert {len(digest) for digest in digests.values()} == {64}
    assert len(set(digests.values())) == 4

"""Fashion-MNIST: the splits, the checksums, the places it is looked for, and what is said where it is not there."""

from __future__ import annotations

import shutil
import socket
from pathlib import Path

import numpy as np
import pytest

from fashion_common import data_files
from fashion_common.data_files import FILES
from fashion_common.served_model import CLASS_NAMES
from training.data import dataset, prepare, sources
from training.data.arrays import Arrays, write_archive
from training.data.dataset import Dataset
from training.errors import TrainingUsageError


@pytest.fixture
def nowhere(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A checkout without data, and no variable that names any."""
    monkeypatch.delenv(data_files.DATA_DIR_VARIABLE, raising=False)
    monkeypatch.delenv("TFDS_DATA_DIR", raising=False)
    monkeypatch.setattr(data_files, "checkout", lambda: tmp_path / "checkout")
    return tmp_path / "checkout"


def fake_files(directory: Path) -> Path:
    """Four files of the right names with the wrong content."""
    directory.mkdir(parents=True)
    for name in FILES:
        (directory / name).write_bytes(b"not " + name.encode())
    return directory


def test_real_data_is_split_as_the_textbook_splits_it(real_data: Dataset) -> None:
    """55,000, 5,000 and 10,000 images of the registered files, every class in each split."""
    assert real_data.train_images.shape == (55_000, 28, 28)
    assert real_data.validation_images.shape == (5_000, 28, 28)
    assert real_data.test_images.shape == (10_000, 28, 28)
    assert {array.dtype for array in (real_data.train_images, real_data.test_images)} == {np.dtype(np.uint8)}
    assert np.bincount(real_data.test_labels).tolist() == [1000] * 10
    assert np.unique(real_data.validation_labels).tolist() == list(range(10))
    assert real_data.sha256 == prepare.registered_digests()


def test_class_names_are_those_of_tensorflow_datasets() -> None:
    """The label order is the registered one."""
    import tensorflow_datasets as tfds

    assert tuple(tfds.builder("fashion_mnist").info.features["label"].names) == CLASS_NAMES


def test_file_that_cannot_be_read_is_named(tmp_path: Path) -> None:
    """The source file, not the place that the prepared data would go to."""
    (tmp_path / FILES[0]).mkdir()
    with pytest.raises(TrainingUsageError, match=rf"{tmp_path / FILES[0]} cannot be read \(Is a directory\)"):
        sources.check_digests(tmp_path, {FILES[0]: "0" * 64})


def test_named_directory_lacking_files_is_refused(nowhere: Path, tmp_path: Path) -> None:
    """The message names the directory and the files that are missing; exit code 2."""
    incomplete = fake_files(tmp_path / "files")
    (incomplete / FILES[0]).unlink()
    with pytest.raises(TrainingUsageError, match=rf"{incomplete} lacks {FILES[0]}: ") as error:
        dataset.load(incomplete)
    assert error.value.exit_code == 2


def test_wrong_checksum_is_refused_by_name(nowhere: Path, tmp_path: Path) -> None:
    """The file is named, and nothing is left of the attempt."""
    wrong = fake_files(tmp_path / "files")
    with pytest.raises(TrainingUsageError, match=rf"{wrong / FILES[0]} has a wrong checksum \(SHA-256 "):
        dataset.load(wrong)
    assert list((nowhere / "data" / "tensorflow_datasets").iterdir()) == []


def test_wrong_checksum_is_refused_though_the_data_is_prepared(
    real_data: Dataset, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Files that are named are checked even where they need not be read."""
    monkeypatch.setenv(data_files.DATA_DIR_VARIABLE, str(fake_files(tmp_path / "files")))
    with pytest.raises(TrainingUsageError, match="wrong checksum"):
        dataset.load()


def test_files_are_found_in_the_order_of_the_documentation(nowhere: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """--data-dir, then $FASHION_MNIST_DIR, then data/fashion-mnist/; nowhere outside of the checkout."""
    fake_files(nowhere.parent / "shared" / "fashion-mnist")
    assert sources.default_directory() is None
    own = fake_files(nowhere / "data" / "fashion-mnist")
    assert sources.default_directory() == own
    variable = fake_files(nowhere.parent / "variable")
    monkeypatch.setenv(data_files.DATA_DIR_VARIABLE, str(variable))
    assert sources.named_directory(None) == variable
    assert sources.named_directory(own) == own


def test_neither_files_nor_network(nowhere: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """One message says what to fetch and where to put it; nothing half-written stays."""

    def no_network(*_: object, **__: object) -> None:
        raise socket.gaierror(-3, "Temporary failure in name resolution")

    monkeypatch.setattr(socket, "getaddrinfo", no_network)
    with pytest.raises(TrainingUsageError) as error:
        dataset.load()
    message = str(error.value)
    assert message.startswith("Fashion-MNIST is not at hand and cannot be downloaded (")
    assert all(name in message for name in FILES)
    assert str(nowhere / "data" / "fashion-mnist") in message
    assert "\n" not in message
    assert list((nowhere / "data" / "tensorflow_datasets").iterdir()) == []


def test_unwritable_place_for_the_prepared_data_is_refused(nowhere: Path, tmp_path: Path) -> None:
    """A file where a directory must be is named."""
    file = tmp_path / "file"
    file.write_text("a file")
    with pytest.raises(TrainingUsageError, match=rf"{file} cannot take the prepared data set"):
        dataset.load(prepared_dir=file)


def test_decoded_arrays_come_from_the_cache_the_second_time(
    real_data: Dataset, monkeypatch: pytest.MonkeyPatch
) -> None:
    """With the cache there, tensorflow_datasets is not asked."""
    monkeypatch.setattr(prepare, "decode", lambda _: pytest.fail("decoded again"))
    assert np.array_equal(dataset.load().test_images, real_data.test_images)


def test_cache_of_other_arrays_is_not_used(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """Names, shapes, dtypes and the digests' files must be those of the data set; a missing file is no cache either."""
    monkeypatch.setattr(dataset, "SIZES", {"train": dataset.VALIDATION_SIZE + 1, "test": 2})
    arrays: Arrays = {}
    for split, size in dataset.SIZES.items():
        arrays |= {f"{split}_images": np.zeros((size, 28, 28), np.uint8), f"{split}_labels": np.zeros(size, np.int64)}
    sha256 = dict.fromkeys(FILES, "0" * 64)
    path = tmp_path / "cache.npz"
    assert dataset.read_cache(path) is None
    write_archive(path, arrays, sha256)
    data = dataset.read_cache(path)
    assert data is not None
    assert (data.sha256, len(data.train_labels), len(data.test_labels)) == (sha256, 1, 2)
    others: list[tuple[Arrays, dict[str, str]]] = [
        (arrays | {"test_images": np.zeros((3, 28, 28), np.uint8)}, sha256),
        (arrays | {"test_images": np.zeros((2, 28, 28), np.float32)}, sha256),
        (arrays | {"validation_labels": np.zeros(2, np.int64)}, sha256),
        (arrays, sha256 | {"another": ""}),
    ]
    for other in others:
        write_archive(path, *other)
        assert dataset.read_cache(path) is None


@pytest.fixture
def tiny(monkeypatch: pytest.MonkeyPatch) -> Arrays:
    """What is decoded, of a data set that has but two images more than those of the validation, and one of the test."""
    monkeypatch.setattr(dataset, "SIZES", {"train": dataset.VALIDATION_SIZE + 2, "test": 1})
    count = dataset.VALIDATION_SIZE + 2
    arrays: Arrays = {
        "train_images": np.zeros((count, 28, 28), np.uint8),
        "train_labels": np.arange(count),
        "test_images": np.ones((1, 28, 28), np.uint8),
        "test_labels": np.array([7]),
    }
    monkeypatch.setattr(prepare, "registered_digests", lambda: dict.fromkeys(FILES, "0" * 64))
    monkeypatch.setattr(prepare, "decode", lambda _: arrays)
    return arrays


def test_data_is_prepared_and_decoded_once(
    nowhere: Path, tiny: Arrays, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Each step is said before it is done; the last images of training are those of the validation."""
    prepared = tmp_path / "deep/prepared"
    asked: list[tuple[Path | None, Path]] = []

    def fetch(files: Path | None, directory: Path) -> None:
        asked.append((files, directory))
        (directory / "fashion_mnist/3.0.1").mkdir(parents=True)

    monkeypatch.setattr(prepare, "prepare", fetch)
    lines: list[str] = []
    data = dataset.load(prepared_dir=prepared, report=lines.append)
    assert asked == [(None, prepared)]
    assert lines == [
        f"Preparing Fashion-MNIST 3.0.1 in {prepared} (once, about 15 seconds)",
        "Decoding Fashion-MNIST 3.0.1 (once)",
    ]
    assert data.train_labels.tolist() == [0, 1]
    assert data.validation_labels.tolist() == list(range(2, dataset.VALIDATION_SIZE + 2))
    assert data.test_labels.tolist() == [7]
    assert [len(images) for images in (data.train_images, data.validation_images, data.test_images)] == [2, 5_000, 1]
    assert data.manifest() == {
        "name": "fashion_mnist",
        "version": "3.0.1",
        "sha256": dict.fromkeys(FILES, "0" * 64),
        "train_images": 2,
        "validation_images": 5_000,
        "test_images": 1,
    }
    assert np.array_equal(dataset.load(prepared_dir=prepared, report=lines.append).train_images, data.train_images)
    assert (len(asked), len(lines)) == (1, 2)
    [cache] = (prepared / "fashion_mnist").glob("*.npz")
    cache.unlink()
    dataset.load(prepared_dir=prepared, report=lines.append)
    assert (len(asked), lines[2:]) == (1, ["Decoding Fashion-MNIST 3.0.1 (once)"])
    assert nowhere != prepared


@pytest.mark.usefixtures("nowhere", "tiny")
def test_files_that_are_named_are_checked_before_they_are_decoded(tmp_path: Path) -> None:
    """Though what was prepared of others is there."""
    prepared = tmp_path / "prepared"
    (prepared / "fashion_mnist/3.0.1").mkdir(parents=True)
    with pytest.raises(TrainingUsageError, match=rf"{FILES[0]} has a wrong checksum"):
        dataset.load(fake_files(tmp_path / "files"), prepared_dir=prepared)


@pytest.mark.usefixtures("nowhere", "tiny")
def test_a_full_disk_says_what_is_needed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """How much, and where else it may go."""

    def full(*_: object) -> None:
        raise OSError("no room")

    monkeypatch.setattr(prepare, "prepare", full)
    with pytest.raises(TrainingUsageError) as error:
        dataset.load(prepared_dir=tmp_path)
    assert str(error.value) == (
        f"{tmp_path} cannot take the prepared data set (no room): free about 200 MB there, or let TFDS_DATA_DIR name a "
        "writable directory"
    )


def test_prepared_files_are_published_once(tmp_path: Path) -> None:
    """Into a directory that may be there; whoever comes second leaves the first one's, and no other error is let be."""
    for number in (1, 2):
        (tmp_path / f"new{number}").mkdir()
        (tmp_path / f"new{number}/file").write_text(str(number))
        prepare._publish(tmp_path / f"new{number}", tmp_path / "data/fashion_mnist/3.0.1")
    assert (tmp_path / "data/fashion_mnist/3.0.1/file").read_text() == "1"
    prepare._publish(tmp_path / "new2", tmp_path / "data/fashion_mnist/3.0.2")
    assert (tmp_path / "data/fashion_mnist/3.0.2/file").read_text() == "2"
    with pytest.raises(FileNotFoundError):
        prepare._publish(tmp_path / "nothing", tmp_path / "data/fashion_mnist/3.0.3")


def test_preparing_leaves_only_the_data_set_and_the_cache(real_data: Dataset, tmp_path: Path) -> None:
    """From the four files, with no download and nothing on stdout: 13 seconds, once."""
    if not (files := sources.named_directory(None) or sources.default_directory()):
        pytest.skip("the four original files of Fashion-MNIST are not on this machine (only prepared)")
    prepared = tmp_path / "prepared"
    lines: list[str] = []
    data = dataset.load(files, prepared_dir=prepared, report=lines.append)
    assert sorted(path.name for path in (prepared / "fashion_mnist").iterdir()) == ["3.0.1", "decoded-3.0.1.npz"]
    assert [path.name for path in prepared.iterdir()] == ["fashion_mnist"]
    assert [line.split()[0] for line in lines] == ["Preparing", "Decoding"]
    assert np.array_equal(data.train_images, real_data.train_images)
    shutil.rmtree(prepared)

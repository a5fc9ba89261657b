"""`fashion evaluate` against a live server, on a small test set."""

from __future__ import annotations

import gzip
import json
import struct
from pathlib import Path

import numpy as np
import pytest

from client.types import Prediction
from fashion_common import data_files
from tests.support.client_commands import APIS, run
from tests.support.road import Road
from training.data.arrays import write_archive

_IMAGES, _LABELS = "t10k-images-idx3-ubyte.gz", "t10k-labels-idx1-ubyte.gz"


def _write_test_set(directory: Path, images: np.ndarray, labels: list[int]) -> None:
    header = b"\0\0\x08\x03" + struct.pack(">3I", *images.shape)
    (directory / _IMAGES).write_bytes(gzip.compress(header + images.tobytes()))
    (directory / _LABELS).write_bytes(gzip.compress(b"\0\0\x08\x01" + struct.pack(">I", len(labels)) + bytes(labels)))


@APIS
def test_it_counts_right_and_wrong_answers(
    road: Road, predictions: dict[Path, Prediction], pictures: dict[Path, np.ndarray], api: str, tmp_path: Path
) -> None:
    """On IDX files of ten images whose labels are known: accuracy, per class and the confusion matrix."""
    labels = [prediction.class_id for prediction in predictions.values()]
    labels[0] = (labels[0] + 1) % 10
    _write_test_set(tmp_path, np.stack(list(pictures.values())), labels)
    result = run(road, api, "evaluate", "--data-dir", tmp_path)
    assert result.output.startswith("accuracy 0.9000 on 10 images\n")
    report = json.loads(run(road, api, "evaluate", "--data-dir", tmp_path, "--json").output)
    assert (report["images"], report["accuracy"]) == (10, 0.9)
    assert sum(map(sum, report["confusion"])) == 10
    assert report["confusion"][labels[0]][next(iter(predictions.values())).class_id] == 1
    result = run(road, api, "evaluate", "--data-dir", tmp_path, "--limit", 3)
    assert result.output.startswith("accuracy 0.6667 on 3 images\n")


def test_without_a_test_set_it_says_where_it_looked(
    road: Road, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Exit code 2, and the option that names the directory; nowhere but the variable's, or the usual places."""
    result = run(road, "grpc", "evaluate", "--data-dir", tmp_path)
    assert result.exit_code == 2
    assert f"in {tmp_path}: name its directory with --data-dir" in result.stderr
    monkeypatch.setenv("FASHION_MNIST_DIR", "elsewhere")
    assert "in elsewhere: name its directory" in run(road, "grpc", "evaluate").stderr
    monkeypatch.delenv("FASHION_MNIST_DIR")
    monkeypatch.delenv("TFDS_DATA_DIR", raising=False)
    monkeypatch.setattr(data_files, "checkout", lambda: tmp_path)
    stderr = run(road, "grpc", "evaluate").stderr
    assert f"in {tmp_path}/data/fashion-mnist, nor {tmp_path}/data/tensorflow_datasets/fashion_mnist/decoded-" in stderr


def test_what_training_has_prepared_is_found(
    road: Road,
    predictions: dict[Path, Prediction],
    pictures: dict[Path, np.ndarray],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """The arrays that it decoded, where the original files were downloaded to be gone again; a broken file is named."""
    monkeypatch.delenv("FASHION_MNIST_DIR", raising=False)
    monkeypatch.setenv("TFDS_DATA_DIR", str(tmp_path))
    monkeypatch.setattr(data_files, "checkout", lambda: tmp_path)
    archive = data_files.decoded_file(tmp_path)
    labels = np.array([prediction.class_id for prediction in predictions.values()])
    write_archive(archive, {"test_images": np.stack(list(pictures.values())), "test_labels": labels}, {})
    assert run(road, "grpc", "evaluate").output.startswith("accuracy 1.0000 on 10 images\n")
    archive.write_bytes(archive.read_bytes()[:1000])
    result = run(road, "grpc", "evaluate")
    assert result.exit_code == 2
    assert result.stderr.startswith(f"Error: {archive}: cannot be read: ")


@pytest.mark.parametrize(
    ("labels", "error"),
    [
        (b"\x1f\x8bno", "cannot be read"),
        (gzip.compress(b"labels" * 100)[:60] + b"\xff" * 60, "cannot be read"),
        (gzip.compress(b"\0\0\x08\x01" + struct.pack(">I", 2) + bytes([0])), "not an IDX file of the labels 0 to 9"),
        (gzip.compress(b"\0\0\x08\x01" + struct.pack(">I", 1) + bytes([10])), "not an IDX file of the labels 0 to 9"),
    ],
    ids=["cut", "broken", "short", "eleven"],
)
def test_labels_that_cannot_be_used_are_refused_by_name(road: Road, tmp_path: Path, labels: bytes, error: str) -> None:
    """A label without an image, or the other way round, would shift all that follow."""
    _write_test_set(tmp_path, np.zeros((1, 28, 28), np.uint8), [0])
    (tmp_path / _LABELS).write_bytes(labels)
    result = run(road, "grpc", "evaluate", "--data-dir", tmp_path)
    assert (result.exit_code, result.stdout) == (2, "")
    assert result.stderr.startswith(f"Error: {tmp_path / _LABELS}: {error}")

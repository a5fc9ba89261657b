"""`fashion evaluate` against a live server, on a small test set."""

from __future__ import annotations

import gzip
import json
import struct
from pathlib import Path

import numpy as np
import pytest

from client.commands.evaluate import evaluation
from client.transports.fake import FakeTransport
from client.types import Call, Output, Prediction
from fashion_common import data_files
from tests.support.client_commands import APIS, answering, run
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


_TEXT = """\
accuracy 0.5000 on 4 images

class        precision  recall   answered as 0 to 9
0 T-shirt/top   0.0000  0.0000       0     1     0     0     0     0     0     0     0     0
1 Trouser       0.5000  1.0000       0     1     0     0     0     0     0     0     0     0
2 Pullover         nan     nan       0     0     0     0     0     0     0     0     0     0
3 Dress            nan  0.0000       1     0     0     0     0     0     0     0     0     0
4 Coat             nan     nan       0     0     0     0     0     0     0     0     0     0
5 Sandal           nan     nan       0     0     0     0     0     0     0     0     0     0
6 Shirt            nan     nan       0     0     0     0     0     0     0     0     0     0
7 Sneaker          nan     nan       0     0     0     0     0     0     0     0     0     0
8 Bag              nan     nan       0     0     0     0     0     0     0     0     0     0
9 Ankle boot    1.0000  1.0000       0     0     0     0     0     0     0     0     0     1
"""


class _Pixel(FakeTransport):
    """Answers the class that an image's first pixel says."""

    def outputs(self, call: Call) -> dict[str, Output]:
        """With certainty."""
        self.asked.append(call)
        content = call.inputs["images"].content
        classes = [content[start] for start in range(0, len(content), 784)]
        values = [float(class_id == answer) for answer in classes for class_id in range(10)]
        return {"probabilities": Output((len(classes), 10), values)}


def test_the_report_is_a_table_or_an_object(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """A row for each label, with the classes that its images were answered with; no number where there is none."""
    images = np.zeros((4, 28, 28), np.uint8)
    images[:, 0, 0] = [1, 1, 0, 9]
    _write_test_set(tmp_path, images, [0, 1, 3, 9])
    transport = _Pixel()
    fashion_command = answering(monkeypatch, transport)
    result = fashion_command("evaluate", "--data-dir", tmp_path, "--batch-size", 3)
    assert (result.exit_code, result.stdout, result.stderr) == (0, _TEXT, "")
    assert [call.inputs["images"].shape[0] for call in transport.asked] == [3, 1]
    result = fashion_command("evaluate", "--data-dir", tmp_path, "--json")
    report = json.loads(result.stdout)
    assert result.stdout == json.dumps(report, indent=2) + "\n"
    assert report["classes"][1] == {"class_name": "Trouser", "precision": 0.5, "recall": 1.0, "images": 1}
    assert (report["images"], report["accuracy"], len(report["classes"])) == (4, 0.5, 10)
    result = fashion_command("evaluate", "--data-dir", tmp_path, "--limit", 1, "--batch-size", 1)
    assert result.stdout.startswith("accuracy 0.0000 on 1 images\n")


def test_each_image_has_a_label(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """Of files whose numbers differ the rest would be guessed; --limit looks at the first ones only."""
    _write_test_set(tmp_path, np.zeros((2, 28, 28), np.uint8), [0, 9, 9])
    fashion_command = answering(monkeypatch, _Pixel())
    result = fashion_command("evaluate", "--data-dir", tmp_path)
    assert (result.exit_code, result.stdout) == (1, "")
    assert result.stderr.startswith("Error: unforeseen ValueError: zip() argument 2 is shorter")
    assert fashion_command("evaluate", "--data-dir", tmp_path, "--limit", 2).stdout.startswith("accuracy 0.5000 on 2 ")


def test_precision_is_of_a_column_and_recall_of_a_row() -> None:
    """Of the images that were answered with a class, and of those that are of it."""
    confusion = [[0] * 10 for _ in range(10)]
    confusion[2][2], confusion[2][4], confusion[4][2], confusion[6][2], confusion[6][6] = 6, 2, 3, 1, 4
    report = evaluation(confusion)
    assert (report["images"], report["accuracy"], report["confusion"]) == (16, 10 / 16, confusion)
    rows = {row["class_name"]: (row["precision"], row["recall"], row["images"]) for row in report["classes"]}
    assert rows["Pullover"] == (6 / 10, 6 / 8, 8)
    assert rows["Coat"] == (0, 0, 3)
    assert rows["Shirt"] == (1, 4 / 5, 5)

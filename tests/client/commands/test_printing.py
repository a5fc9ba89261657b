"""How `fashion predict` prints: the format's choice, names as they are, figures that say what they leave out."""

from __future__ import annotations

import csv
import json
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from click.testing import CliRunner, Result
from PIL import Image

from client.cli import fashion
from client.commands.figures import _drawable
from client.connection import Connection
from client.transports.fake import FakeTransport
from client.types import ModelSpec

Run = Callable[..., Result]


@pytest.fixture
def predict(monkeypatch: pytest.MonkeyPatch) -> Run:
    """`fashion predict` over a FakeTransport that answers "Ankle boot"."""
    monkeypatch.setattr(
        "client.connection.connect",
        lambda *_servers, **_settings: Connection([FakeTransport(class_id=9)], ModelSpec()),
    )
    return lambda *arguments: CliRunner().invoke(fashion, ["predict", *map(str, arguments)])


@pytest.fixture
def picture(tmp_path: Path) -> Path:
    """A PNG whose name colours a terminal."""
    path = tmp_path / "\x1b[31mred.png"
    Image.new("L", (28, 28), 9).save(path)
    return path


def test_the_format_is_chosen_by_variable_and_by_the_files_name(
    predict: Run, picture: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """An option comes before the variable, the variable before the name."""
    output = tmp_path / "answers.json"
    assert predict("--output", output, picture).exit_code == 0
    assert json.loads(output.read_text())[0]["class_name"] == "Ankle boot"
    monkeypatch.setenv("FASHION_PREDICT_FORMAT", "names")
    assert predict(picture).stdout == "Ankle boot\n"
    assert predict("--output", output, picture).exit_code == 0
    assert output.read_text() == "Ankle boot\n"
    assert json.loads(predict("--json", picture).stdout)[0]["class_name"] == "Ankle boot"
    monkeypatch.delenv("FASHION_PREDICT_FORMAT")
    monkeypatch.setenv("FASHION_PREDICT_JSON", "1")
    assert json.loads(predict(picture).stdout)[0]["class_name"] == "Ankle boot"
    assert predict("--format", "names", picture).stdout == "Ankle boot\n"


def test_names_are_as_many_as_were_asked_for(predict: Run, picture: Path) -> None:
    """A line an image, the likeliest first, tabs between."""
    assert predict("--format", "names", "--top-k", 3, picture).stdout == "Ankle boot\tT-shirt/top\tTrouser\n"


def test_names_are_whole_in_csv_and_harmless_in_a_table(predict: Run, picture: Path) -> None:
    """Escape codes are part of a name, but not for a terminal."""
    [_, row] = csv.reader(predict("--format", "csv", picture).stdout.splitlines())
    assert row[0] == str(picture)
    assert predict(picture).stdout == f"{picture.parent}/\\x1b[31mred.png  Ankle boot  0.9100\n"


def test_a_name_that_is_not_utf8_is_printed_as_it_is(predict: Run, tmp_path: Path) -> None:
    """File names are bytes."""
    path = tmp_path / "\udcff.png"
    Image.new("L", (28, 28), 9).save(path)
    assert predict("--format", "csv", path).stdout_bytes.endswith(b"/\xff.png,Ankle boot,0.910000\n")


def test_arrays_without_images_are_an_error(predict: Run, tmp_path: Path) -> None:
    """The error names what is there; a shape is the whole array's."""
    labels, flat = tmp_path / "labels.npz", tmp_path / "flat.npy"
    np.savez(labels, labels=np.zeros(10, np.uint8))
    result = predict(labels)
    assert (result.exit_code, result.stdout) == (2, "")
    assert result.stderr == f"Error: {labels}: no images: its arrays are labels\n"
    np.save(flat, np.zeros((5, 784), np.uint8))
    assert "got uint8 [5, 784]: images.reshape(-1, 28, 28) would fit" in predict(flat).stderr
    empty = tmp_path / "empty.idx"
    empty.write_bytes(b"\0\0\x08\x03" + bytes(4) + b"\0\0\0\x1c" * 2)
    assert predict(empty).stderr == f"Error: {empty}: no images in it\n"


def test_a_picture_without_a_garment_is_a_line_on_stderr(predict: Run, tmp_path: Path) -> None:
    """Each time it is read; the answer is printed all the same."""
    path = tmp_path / "blank.png"
    Image.new("RGB", (50, 50), "white").save(path)
    result = predict("--json", path, path)
    assert result.exit_code == 0
    assert [answer["class_name"] for answer in json.loads(result.stdout)] == ["Ankle boot"] * 2
    assert result.stderr == f"Warning: {path}: hardly anything differs from the background\n" * 2


def test_a_figure_says_what_it_leaves_out(predict: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """More than so many pictures cannot be read."""
    monkeypatch.setattr("client.commands.predict.FIGURE_IMAGES", 2)
    array, figure = tmp_path / "many.npy", tmp_path / "many.svg"
    np.save(array, np.zeros((3, 28, 28), np.uint8))
    assert predict("--save-figure", figure, array).stderr == f"{figure} shows the first 2 of 3 images\n"


def test_names_in_figures_are_drawn_by_a_font_that_has_them() -> None:
    """STIX has double-struck letters, DejaVu Sans has not all; what no font has is written as an escape."""
    assert _drawable("shirt é")[0] == "shirt é"
    text, families = _drawable("a\U0001d7da")
    assert text == "a\U0001d7da"
    assert len(families) > 1 or families == _drawable("a")[1]
    assert _drawable("a\U00013000")[0] in ("a\U00013000", "a\\U00013000")

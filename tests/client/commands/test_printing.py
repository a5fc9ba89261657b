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
from tests.support.page import picture as garment

Run = Callable[..., Result]
_SURE = [0.01] * 9 + [0.91]


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


_TEXTS = {
    "table": (
        "{0}/a.png             Ankle boot   0.9100  T-shirt/top  0.0100\n"
        "{0}/second, long.png  Ankle boot   0.9100  T-shirt/top  0.0100\n"
    ),
    "json": (
        '[\n  {{"file": "{0}/a.png", "class_id": 9, "class_name": "Ankle boot", "probability": 0.91, '
        '"probabilities": {1}, "top": {2}}},\n'
        '  {{"file": "{0}/second, long.png", "class_id": 9, "class_name": "Ankle boot", "probability": 0.91, '
        '"probabilities": {1}, "top": {2}}}\n]\n'
    ),
    "jsonl": (
        '{{"file": "{0}/a.png", "class_id": 9, "class_name": "Ankle boot", "probability": 0.91, '
        '"probabilities": {1}, "top": {2}}}\n'
        '{{"file": "{0}/second, long.png", "class_id": 9, "class_name": "Ankle boot", "probability": 0.91, '
        '"probabilities": {1}, "top": {2}}}\n'
    ),
    "csv": (
        "file,class_name,probability,class_name_2,probability_2\n"
        "{0}/a.png,Ankle boot,0.910000,T-shirt/top,0.010000\n"
        '"{0}/second, long.png",Ankle boot,0.910000,T-shirt/top,0.010000\n'
    ),
    "names": "Ankle boot\tT-shirt/top\nAnkle boot\tT-shirt/top\n",
}


@pytest.mark.parametrize("form", _TEXTS)
@pytest.mark.parametrize("is_file", [False, True], ids=["stdout", "file"])
def test_every_format_is_as_it_was(predict: Run, tmp_path: Path, form: str, *, is_file: bool) -> None:
    """Others read it, of one picture after the other and of each its two likeliest classes."""
    paths = [tmp_path / "a.png", tmp_path / "second, long.png"]
    for path in paths:
        Image.new("L", (28, 28), 9).save(path)
    output = tmp_path / "answers"
    options = ("--top-k", 2, "--format", form, *(("--output", output) if is_file else ()))
    result = predict(*options, *paths)
    assert result.exit_code == 0
    top = json.dumps(
        [{"class_name": "Ankle boot", "probability": 0.91}, {"class_name": "T-shirt/top", "probability": 0.01}]
    )
    expected = _TEXTS[form].format(tmp_path, _SURE, top)
    assert (output.read_text() if is_file else result.stdout) == expected
    assert result.stdout == ("" if is_file else expected)


def test_one_class_an_image_is_no_list(predict: Run, picture: Path) -> None:
    """Of the likeliest alone there is no `top`."""
    [record] = json.loads(predict("--json", picture).stdout)
    assert record == {
        "file": str(picture), "class_id": 9, "class_name": "Ankle boot", "probability": 0.91, "probabilities": _SURE,
    }  # fmt: skip


@pytest.mark.parametrize(
    ("form", "text"),
    [("table", ""), ("json", "[]\n"), ("jsonl", ""), ("csv", "file,class_name,probability\n"), ("names", "")],
)
def test_no_answer_is_a_whole_document_too(predict: Run, tmp_path: Path, form: str, text: str) -> None:
    """Where no picture could be read."""
    missing = tmp_path / "missing.png"
    result = predict("--format", form, missing)
    assert (result.exit_code, result.stdout, result.stderr) == (2, text, f"Error: {missing}: no such file\n")


@pytest.mark.parametrize(("count", "is_measured"), [(255, True), (256, False)])
def test_a_tables_columns_are_as_wide_as_its_first_rows_need(
    predict: Run, tmp_path: Path, count: int, *, is_measured: bool
) -> None:
    """A stream cannot wait for its longest name: 256 rows are looked at, and a later name goes over the edge."""
    array, last = tmp_path / "a.npy", tmp_path / f"{'z' * 30}.png"
    np.save(array, np.zeros((count, 28, 28), np.uint8))
    Image.new("L", (28, 28), 9).save(last)
    lines = predict(array, last).stdout.splitlines()
    assert len(lines) == count + 1
    assert lines[-1] == f"{last}  Ankle boot  0.9100"
    width = len(str(last)) if is_measured else len(f"{array}[100]")
    assert {line.index("  Ankle boot  0.9100") for line in lines[:-1]} == {width}


def test_a_bad_picture_is_passed_over_or_the_end(predict: Run, tmp_path: Path) -> None:
    """With --strict what is behind it is not asked; what was answered before is said, and stays."""
    picture, missing = tmp_path / "good.png", tmp_path / "missing.png"
    picture.write_bytes(garment())
    result = predict("--format", "names", missing, picture, missing, picture)
    assert (result.exit_code, result.stdout) == (2, "Ankle boot\n" * 2)
    assert result.stderr == f"Error: {missing}: no such file\n" * 2
    result = predict("--format", "names", "--strict", picture, missing, picture)
    assert (result.exit_code, result.stdout) == (2, "Ankle boot\n")
    assert result.stderr == (
        "Ended early: the first 1 answers are in standard output (fashion score goes on)\n"
        f"Error: {missing}: no such file\n"
    )
    result = predict("--format", "names", "--strict", missing, picture)
    assert (result.exit_code, result.stdout, "Ended early" in result.stderr) == (2, "", False)


def test_a_figure_of_all_pictures_is_drawn_without_a_word(predict: Run, tmp_path: Path) -> None:
    """Not of bad ones; where there are no good ones, there is none."""
    picture, missing, figure = (tmp_path / name for name in ("good.png", "missing.png", "figure.svg"))
    picture.write_bytes(garment())
    result = predict("--save-figure", figure, missing)
    assert (result.exit_code, figure.exists()) == (2, False)
    result = predict("--save-figure", figure, picture, missing, picture)
    assert result.exit_code == 2
    assert result.stderr == f"Error: {missing}: no such file\n"
    assert figure.exists()


@pytest.mark.parametrize(
    ("options", "variables", "error"),
    [
        (["--show", "--json"], {}, "--show draws, --format and --json print: give one"),
        (["--show", "--format", "csv"], {}, "--show draws, --format and --json print: give one"),
        (["--json", "--format", "csv"], {}, "--json and --format csv contradict each other: give one"),
        ([], {"JSON": "1", "FORMAT": "csv"}, "--json and --format csv contradict each other: give one"),
        ([], {"SHOW": "1", "FORMAT": "csv"}, "--show draws, --format and --json print: give one"),
    ],
)
def test_options_that_contradict_each_other_are_refused(
    predict: Run,
    picture: Path,
    monkeypatch: pytest.MonkeyPatch,
    options: list[str],
    variables: dict[str, str],
    error: str,
) -> None:
    """Whether they are on the command line or in the environment."""
    for name, value in variables.items():
        monkeypatch.setenv(f"FASHION_PREDICT_{name}", value)
    result = predict(*options, picture)
    assert (result.exit_code, result.stdout) == (2, "")
    assert result.stderr.endswith(f"\nError: {error}\n")


@pytest.mark.parametrize(
    ("options", "variables", "begin"),
    [
        (["--json", "--format", "json"], {}, "[\n  {"),
        (["--show"], {"FORMAT": "csv"}, "{picture}\n"),
        (["--show"], {"JSON": "1"}, "{picture}\n"),
        ([], {"SHOW": "1"}, "{picture}\n"),
        (["--format", "csv"], {"JSON": "1"}, "file,"),
        ([], {"JSON": "1", "FORMAT": "json"}, "[\n  {"),
        (["--json"], {"FORMAT": "csv"}, "[\n  {"),
    ],
)
def test_an_option_comes_before_a_variable(
    predict: Run,
    picture: Path,
    monkeypatch: pytest.MonkeyPatch,
    options: list[str],
    variables: dict[str, str],
    begin: str,
) -> None:
    """That says something else; two that say the same are one."""
    for name, value in variables.items():
        monkeypatch.setenv(f"FASHION_PREDICT_{name}", value)
    result = predict(*options, picture)
    assert result.exit_code == 0, result.stderr
    printed = f"{picture.parent}/\\x1b[31mred.png"
    assert result.stdout.startswith(begin.replace("{picture}", printed))

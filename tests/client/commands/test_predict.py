"""`fashion predict` against a live server: whole output and exit codes."""

from __future__ import annotations

import csv
import io
import json
import os
import subprocess
import threading
from pathlib import Path

import pytest
from click.testing import CliRunner
from PIL import Image

from client.cli import fashion
from client.types import Prediction
from fashion_common.served_model import CLASS_NAMES
from serving.apis.recordings import read_recording
from tests.support.client_commands import APIS, NOBODY, run
from tests.support.console import FASHION
from tests.support.road import Road


@APIS
def test_it_prints_every_format(road: Road, predictions: dict[Path, Prediction], api: str, tmp_path: Path) -> None:
    """Table, JSON, JSON lines, CSV and names; --output writes the same text to a file."""
    files = list(predictions)[:3]
    expected = [predictions[path] for path in files]
    names = "".join(f"{prediction.class_name}\n" for prediction in expected)
    assert run(road, api, "predict", "--format", "names", *files).output == names
    records = [json.loads(line) for line in run(road, api, "predict", "--format", "jsonl", *files).output.splitlines()]
    assert json.loads(run(road, api, "predict", "--format", "json", *files).output) == records
    assert [record["class_name"] for record in records] == [prediction.class_name for prediction in expected]
    for record, prediction in zip(records, expected, strict=True):
        assert record["probabilities"] == pytest.approx(prediction.probabilities, abs=1e-6)
    rows = list(csv.reader(io.StringIO(run(road, api, "predict", "--format", "csv", "--top-k", 2, *files).output)))
    assert rows[0] == ["file", "class_name", "probability", "class_name_2", "probability_2"]
    for row, path, prediction in zip(rows[1:], files, expected, strict=True):
        assert row[:2] == [str(path), prediction.class_name]
        assert row[3] == prediction.top(2)[1][0]
    output = tmp_path / "new" / "answers.txt"
    result = run(road, api, "predict", "--format", "names", "--output", output, *files)
    assert (result.output, output.read_text()) == ("", names)


@APIS
@pytest.mark.parametrize("signature", ["serving_default", "encoded_images", "float_images", "classify"])
def test_every_signature_gives_the_same_answer(
    road: Road, predictions: dict[Path, Prediction], api: str, signature: str
) -> None:
    """Pixels, PNG bytes, floats and tf.Examples are the same image."""
    result = run(road, api, "predict", "--signature", signature, "--json", *predictions)
    for record, prediction in zip(json.loads(result.output), predictions.values(), strict=True):
        assert record["class_name"] == prediction.class_name
        assert record["probabilities"] == pytest.approx(prediction.probabilities, abs=1e-5)


@APIS
def test_the_version_label_reaches_the_server(road: Road, predictions: dict[Path, Prediction], api: str) -> None:
    """`stable` is one of its own; of one that it does not have, it is the server that says so."""
    path, prediction = next(iter(predictions.items()))
    stable = run(road, api, "predict", "--version-label", "stable", "--format", "names", path)
    assert stable.stdout == f"{prediction.class_name}\n"
    for command in (("predict", path), ("metadata",)):
        name, *arguments = command
        unknown = run(road, api, str(name), "--version-label", "none such", *arguments)
        assert unknown.exit_code == 1
        assert "INVALID_ARGUMENT: Unrecognized servable version label: none such (" in unknown.stderr


@APIS
def test_it_goes_on_after_a_bad_picture_and_stops_with_strict(
    road: Road, predictions: dict[Path, Prediction], api: str, tmp_path: Path
) -> None:
    """Each has its line on stderr; exit code 2 in the end."""
    bad = tmp_path / "bad.png"
    bad.write_text("no picture")
    first, second, *_ = predictions
    result = run(road, api, "predict", "--format", "names", first, bad, second)
    assert result.exit_code == 2
    assert result.stdout == f"{predictions[first].class_name}\n{predictions[second].class_name}\n"
    assert result.stderr == f"Error: {bad}: not a picture (PNG, JPEG, GIF, BMP, TIFF, WebP, ...)\n"
    result = run(road, api, "predict", "--strict", bad, second)
    assert (result.exit_code, result.stdout) == (2, "")


def test_no_thread_is_left_when_it_ends_early(road: Road, tmp_path: Path) -> None:
    """The pipeline is closed by the command, not by a garbage collection that may come in any thread."""
    bad = tmp_path / "bad.png"
    bad.write_text("no picture")
    before = set(threading.enumerate())
    result = run(road, "grpc", "predict", "--strict", bad, bad)
    assert result.exit_code == 2
    assert not [thread for thread in set(threading.enumerate()) - before if "ThreadPool" in thread.name]


def test_it_writes_no_output_file_when_it_fails(road: Road, tmp_path: Path) -> None:
    """A file that is there is whole."""
    bad = tmp_path / "bad.png"
    bad.write_text("no picture")
    result = run(road, "grpc", "predict", "--strict", "--output", tmp_path / "out", bad)
    assert result.exit_code == 2
    assert not (tmp_path / "out").exists()
    result = run(road, "grpc", "predict", "--output", bad / "out", bad)
    assert result.exit_code == 2
    assert "cannot be written" in result.stderr


@APIS
def test_it_reads_standard_input(road: Road, predictions: dict[Path, Prediction], api: str) -> None:
    """`cat shirt.png | fashion predict -`."""
    path, prediction = next(iter(predictions.items()))
    result = run(road, api, "predict", "-", stdin=path.read_bytes())
    assert result.output == f"-  {prediction.class_name}  {prediction.probability:.4f}\n"


def test_show_draws_pictures_and_bars(road: Road, predictions: dict[Path, Prediction]) -> None:
    """Without a terminal: 14 lines of shades beside ten bars, the answer marked."""
    path, prediction = next(iter(predictions.items()))
    lines = run(road, "grpc", "predict", "--show", path).output.splitlines()
    assert lines[0] == str(path)
    assert len(lines) == 1 + 14 + 1
    [line] = [line for line in lines if ">" in line]
    assert f"> {prediction.class_name}" in line
    assert line.endswith(f"{prediction.probability:.4f}")


def test_figures_are_drawn_and_wrong_names_refused(
    road: Road, predictions: dict[Path, Prediction], tmp_path: Path
) -> None:
    """PNG and SVG; a name that is no figure's is refused before anything is sent."""
    for name in ("answers.png", "answers.svg"):
        assert run(road, "grpc", "predict", "--save-figure", tmp_path / name, *predictions).exit_code == 0
    with Image.open(tmp_path / "answers.png") as figure:
        assert min(figure.size) > 300
    assert "<svg" in (tmp_path / "answers.svg").read_text()
    result = run(road, "grpc", "predict", "--save-figure", tmp_path / "answers.doc", *predictions)
    assert (result.exit_code, result.stdout) == (2, "")
    assert "a figure's name ends in .png, .svg or .pdf" in result.stderr


def test_a_home_that_cannot_be_written_is_no_matter(
    road: Road, predictions: dict[Path, Prediction], tmp_path: Path
) -> None:
    """matplotlib, which keeps its fonts there, does without, and says nothing."""
    path, figure = next(iter(predictions)), tmp_path / "answer.png"
    places = ("MPLCONFIGDIR", "XDG_CONFIG_HOME", "XDG_CACHE_HOME")
    environment = {name: value for name, value in os.environ.items() if name not in places} | {"HOME": "/proc"}
    result = subprocess.run(
        [FASHION, "predict", "--server", road.servers["grpc"], "--save-figure", figure, path],
        env=environment,
        capture_output=True,
        text=True,
        check=False,
    )
    assert (result.returncode, result.stderr) == (0, "")
    assert figure.is_file()


def test_one_of_several_servers_may_be_dead(road: Road, predictions: dict[Path, Prediction]) -> None:
    """The others answer for it, over either API."""
    path, prediction = next(iter(predictions.items()))
    servers = ["--server", NOBODY, "--server", road.servers["rest"]]
    result = run(road, "grpc", "predict", *servers, "--format", "names", *[path] * 3)
    assert result.output == f"{prediction.class_name}\n" * 3


def test_class_names_are_the_data_sets(predictions: dict[Path, Prediction]) -> None:
    """As the server gives them."""
    assert {prediction.class_name for prediction in predictions.values()} <= set(CLASS_NAMES)


@APIS
def test_fashion_predict_records(road: Road, predictions: dict[Path, Prediction], api: str, tmp_path: Path) -> None:
    """Every request of the command; a second one needs another file."""
    file, pictures = tmp_path / "r", list(predictions)[:3]
    result = run(road, api, "predict", "--record", file, "--batch-size", 2, "--json", *pictures)
    assert [record["class_name"] for record in json.loads(result.output)] == [
        predictions[picture].class_name for picture in pictures
    ]
    assert len(list(read_recording(file))) == 2
    result = run(road, api, "predict", "--record", file, *pictures)
    assert (result.exit_code, "exists, and a recording is a new file" in result.output) == (2, True)
    assert len(list(read_recording(file))) == 2


def test_no_server_leaves_no_file(tmp_path: Path, predictions: dict[Path, Prediction]) -> None:
    """The same command works once there is one."""
    command = ["predict", "--server", NOBODY, "--record", str(tmp_path / "r"), str(next(iter(predictions)))]
    assert CliRunner().invoke(fashion, command).exit_code == 1
    assert list(tmp_path.iterdir()) == []

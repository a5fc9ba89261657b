"""Every command against a live server over both APIs: whole output and exit codes."""

from __future__ import annotations

import asyncio
import csv
import gzip
import io
import json
import re
import struct
import subprocess
from pathlib import Path

import numpy as np
import pytest
from click.testing import CliRunner, Result
from PIL import Image

from client import aio
from client.cli import fashion
from client.connection import connect
from client.types import Prediction
from fashion_common.served_model import CLASS_NAMES
from tests.support.road import FASHION, Road

APIS = pytest.mark.parametrize("api", ["grpc", "rest"])
_SIGNATURES = """\
fashion_mnist, version 1

classify  (tensorflow/serving/classify)
  -> inputs  string [N]
  <- classes  string [N, 10]
  <- scores  float [N, 10]

encoded_images  (tensorflow/serving/predict)
  -> image_bytes  string [N]
  <- class_ids  int64 [N]
  <- class_names  string [N]
  <- probabilities  float [N, 10]

float_images  (tensorflow/serving/predict)
  -> images  float [N, 28, 28]
  <- probabilities  float [N, 10]

serving_default  (tensorflow/serving/predict)
  -> images  uint8 [N, 28, 28]
  <- class_ids  int64 [N]
  <- class_names  string [N]
  <- probabilities  float [N, 10]
"""


def _run(road: Road, api: str, command: str, *arguments: object, stdin: bytes | None = None) -> Result:
    texts = [str(argument) for argument in arguments]
    return CliRunner().invoke(fashion, [command, "--server", road.servers[api], *texts], input=stdin)


@pytest.fixture(scope="module")
def told(road: Road, pictures: dict[Path, np.ndarray]) -> dict[Path, Prediction]:
    """What the library says of the pictures: the reference for what the commands print."""
    with connect(road.servers["grpc"]) as connection:
        return dict(zip(pictures, connection.predict(list(pictures.values())), strict=True))


@APIS
def test_predict_prints_every_format(road: Road, told: dict[Path, Prediction], api: str, tmp_path: Path) -> None:
    """Table, JSON, JSON lines, CSV and names; --output writes the same text to a file."""
    files = list(told)[:3]
    predictions = [told[path] for path in files]
    names = "".join(f"{one.class_name}\n" for one in predictions)
    assert _run(road, api, "predict", "--format", "names", *files).output == names
    records = [json.loads(line) for line in _run(road, api, "predict", "--format", "jsonl", *files).output.splitlines()]
    assert json.loads(_run(road, api, "predict", "--format", "json", *files).output) == records
    assert [record["class_name"] for record in records] == [one.class_name for one in predictions]
    for record, one in zip(records, predictions, strict=True):
        assert record["probabilities"] == pytest.approx(one.probabilities, abs=1e-6)
    rows = list(csv.reader(io.StringIO(_run(road, api, "predict", "--format", "csv", "--top-k", 2, *files).output)))
    assert rows[0] == ["file", "class_name", "probability", "class_name_2", "probability_2"]
    for row, path, one in zip(rows[1:], files, predictions, strict=True):
        assert row[:2] == [str(path), one.class_name]
        assert row[3] == one.top(2)[1][0]
    output = tmp_path / "new" / "answers.txt"
    result = _run(road, api, "predict", "--format", "names", "--output", output, *files)
    assert (result.output, output.read_text()) == ("", names)


@APIS
@pytest.mark.parametrize("signature", ["serving_default", "encoded_images", "float_images", "classify"])
def test_every_signature_gives_the_same_answer(
    road: Road, told: dict[Path, Prediction], api: str, signature: str
) -> None:
    """Pixels, PNG bytes, floats and tf.Examples are the same image."""
    result = _run(road, api, "predict", "--signature", signature, "--json", *told)
    for record, one in zip(json.loads(result.output), told.values(), strict=True):
        assert record["class_name"] == one.class_name
        assert record["probabilities"] == pytest.approx(one.probabilities, abs=1e-5)


@APIS
def test_predict_goes_on_after_a_bad_picture_and_stops_with_strict(
    road: Road, told: dict[Path, Prediction], api: str, tmp_path: Path
) -> None:
    """Each has its line on stderr; exit code 2 in the end."""
    bad = tmp_path / "bad.png"
    bad.write_text("no picture")
    first, second, *_ = told
    result = _run(road, api, "predict", "--format", "names", first, bad, second)
    assert result.exit_code == 2
    assert result.stdout == f"{told[first].class_name}\n{told[second].class_name}\n"
    assert result.stderr == f"Error: {bad}: not a picture (PNG, JPEG, GIF, BMP, TIFF, WebP, ...)\n"
    result = _run(road, api, "predict", "--strict", bad, second)
    assert (result.exit_code, result.stdout) == (2, "")


def test_predict_writes_no_output_file_when_it_fails(road: Road, tmp_path: Path) -> None:
    """A file that is there is whole."""
    bad = tmp_path / "bad.png"
    bad.write_text("no picture")
    result = _run(road, "grpc", "predict", "--strict", "--output", tmp_path / "out", bad)
    assert result.exit_code == 2
    assert not (tmp_path / "out").exists()
    result = _run(road, "grpc", "predict", "--output", bad / "out", bad)
    assert result.exit_code == 2
    assert "cannot be written" in result.stderr


@APIS
def test_predict_reads_standard_input(road: Road, told: dict[Path, Prediction], api: str) -> None:
    """`cat shirt.png | fashion predict -`."""
    path, one = next(iter(told.items()))
    result = _run(road, api, "predict", "-", stdin=path.read_bytes())
    assert result.output == f"-  {one.class_name}  {one.probability:.4f}\n"


def test_predict_shows_pictures_and_bars(road: Road, told: dict[Path, Prediction]) -> None:
    """Without a terminal: 14 lines of shades beside ten bars, the answer marked."""
    path, one = next(iter(told.items()))
    lines = _run(road, "grpc", "predict", "--show", path).output.splitlines()
    assert lines[0] == str(path)
    assert len(lines) == 1 + 14 + 1
    marked = [line for line in lines if ">" in line]
    assert len(marked) == 1
    assert f"> {one.class_name}" in marked[0]
    assert marked[0].endswith(f"{one.probability:.4f}")


def test_figures_are_drawn_and_wrong_names_refused(road: Road, told: dict[Path, Prediction], tmp_path: Path) -> None:
    """PNG and SVG; a name that is no figure's is refused before anything is asked."""
    for name in ("answers.png", "answers.svg"):
        assert _run(road, "grpc", "predict", "--save-figure", tmp_path / name, *told).exit_code == 0
    with Image.open(tmp_path / "answers.png") as figure:
        assert min(figure.size) > 300
    assert "<svg" in (tmp_path / "answers.svg").read_text()
    result = _run(road, "grpc", "predict", "--save-figure", tmp_path / "answers.doc", *told)
    assert (result.exit_code, result.stdout) == (2, "")
    assert "a figure's name ends in .png, .svg or .pdf" in result.stderr


@APIS
def test_status_waits_and_metadata_tells_the_signatures(road: Road, api: str) -> None:
    """A server that is ready is not waited for; both APIs read the same metadata."""
    assert _run(road, api, "status", "--wait", 30).output == "fashion_mnist  1  AVAILABLE\n"
    assert _run(road, api, "metadata").output == _SIGNATURES
    found = json.loads(_run(road, api, "metadata", "--json").output)
    assert found["signatures"]["float_images"]["inputs"] == {"images": {"dtype": "DT_FLOAT", "shape": [-1, 28, 28]}}


def test_status_gives_up_waiting(road: Road) -> None:
    """With the last error."""
    result = CliRunner().invoke(fashion, ["status", "--server", "grpc://127.0.0.1:1", "--wait", "0.3"])
    assert result.exit_code == 1
    assert "UNAVAILABLE" in result.stderr


@APIS
def test_evaluate_counts_right_and_wrong(
    road: Road, told: dict[Path, Prediction], pictures: dict[Path, np.ndarray], api: str, tmp_path: Path
) -> None:
    """On IDX files of ten images whose labels are known: accuracy, per class and the confusion matrix."""
    images = np.stack(list(pictures.values()))
    labels = [one.class_id for one in told.values()]
    labels[0] = (labels[0] + 1) % 10
    (tmp_path / "t10k-images-idx3-ubyte.gz").write_bytes(
        gzip.compress(b"\0\0\x08\x03" + struct.pack(">3I", *images.shape) + images.tobytes())
    )
    (tmp_path / "t10k-labels-idx1-ubyte.gz").write_bytes(
        gzip.compress(b"\0\0\x08\x01" + struct.pack(">I", len(labels)) + bytes(labels))
    )
    result = _run(road, api, "evaluate", "--data-dir", tmp_path)
    assert result.output.startswith("accuracy 0.9000 on 10 images\n")
    found = json.loads(_run(road, api, "evaluate", "--data-dir", tmp_path, "--json").output)
    assert (found["images"], found["accuracy"]) == (10, 0.9)
    assert sum(map(sum, found["confusion"])) == 10
    assert found["confusion"][labels[0]][next(iter(told.values())).class_id] == 1
    limited = _run(road, api, "evaluate", "--data-dir", tmp_path, "--limit", 3)
    assert limited.output.startswith("accuracy 0.6667 on 3 images\n")


def test_evaluate_without_a_test_set_says_where_it_looked(road: Road, tmp_path: Path) -> None:
    """Exit code 2, and the option that names the directory."""
    result = _run(road, "grpc", "evaluate", "--data-dir", tmp_path)
    assert result.exit_code == 2
    assert f"in {tmp_path}: name its directory with --data-dir" in result.stderr


@APIS
def test_bench_measures_a_closed_loop(road: Road, api: str, tmp_path: Path) -> None:
    """Throughput, percentiles in ascending order, no errors; the distribution as a figure."""
    figure = tmp_path / "latency.png"
    options = ("--duration", 0.5, "--warm-up", 0.1, "--concurrency", 2, "--batch-size", 3)
    found = json.loads(_run(road, api, "bench", "--json", "--save-figure", figure, *options).output)
    assert found["requests"] > 0
    assert found["images_per_second"] == pytest.approx(3 * found["requests_per_second"])
    assert 0 < found["p50_ms"] <= found["p90_ms"] <= found["p99_ms"] <= found["p99.9_ms"]
    assert found["errors"] == {}
    assert figure.stat().st_size > 0
    text = _run(road, api, "bench", *options).output
    assert re.fullmatch(
        r"\d+ requests, \d+ requests/s, \d+ images/s\n"
        r"latency p50 [\d.]+ ms, p90 [\d.]+ ms, p99 [\d.]+ ms, p99.9 [\d.]+ ms\nerrors: none\n",
        text,
    )


@APIS
def test_explain_shows_what_the_model_saw(road: Road, told: dict[Path, Prediction], api: str, tmp_path: Path) -> None:
    """The picture, its statistics against the training set's, the answers for its variants; enlarged as PNG."""
    path, one = next(iter(told.items()))
    result = _run(road, api, "explain", path, "--output", tmp_path / "seen.png")
    assert "mean pixel" in result.output
    assert f"as it is    {one.class_name}  {one.probability:.4f}\n" in result.output
    with Image.open(tmp_path / "seen.png") as seen:
        assert seen.size == (280, 280)
    found = json.loads(_run(road, api, "explain", path, "--json").output)
    assert sorted(found["answers"]) == ["as it is", "inverted", "trimmed"]


def test_explain_hints_at_a_light_background(road: Road, pictures: dict[Path, np.ndarray], tmp_path: Path) -> None:
    """The usual mistake: a dark garment on white, sent as it is."""
    inverted = tmp_path / "inverted.png"
    Image.fromarray(255 - next(iter(pictures.values()))).save(inverted)
    assert (
        "is the background light? --preprocess photo makes it black" in _run(road, "grpc", "explain", inverted).output
    )


@APIS
def test_doctor_finds_a_good_server_good(road: Road, api: str) -> None:
    """Five checks, each with what was seen."""
    lines = _run(road, api, "doctor").output.splitlines()
    assert lines[:4] == [
        "ok       reachable   the server answers",
        "ok       model       fashion_mnist: version 1 is AVAILABLE",
        "ok       signatures  serving_default, encoded_images, float_images, classify",
        "ok       answer      ten probabilities that add up to 1",
    ]
    assert re.fullmatch(r"(ok     |warning)  latency     [\d.]+ ms a request \(median of 20\)", lines[4])


def test_doctor_says_what_to_do_about_a_bad_one(road: Road) -> None:
    """No server, another model: the failed check, its fix, exit code 1."""
    result = CliRunner().invoke(fashion, ["doctor", "--server", "grpc://127.0.0.1:1"])
    assert result.exit_code == 1
    assert "FAILED   reachable" in result.output
    assert "fix: start it with `fashion serve`" in result.output
    result = _run(road, "rest", "doctor", "--model-name", "other", "--json")
    assert result.exit_code == 1
    assert [finding["state"] for finding in json.loads(result.output)] == ["failed"]


def test_one_of_several_servers_may_be_dead(road: Road, told: dict[Path, Prediction]) -> None:
    """The others answer for it, over either API."""
    path, one = next(iter(told.items()))
    dead = ["--server", "grpc://127.0.0.1:1", "--server", road.servers["rest"]]
    result = _run(road, "grpc", "predict", *dead, "--format", "names", *[path] * 3)
    assert result.output == f"{one.class_name}\n" * 3


@APIS
def test_asyncio_gives_the_same_answers(road: Road, told: dict[Path, Prediction], api: str) -> None:
    """Many at once on one event loop."""
    images = [np.asarray(Image.open(path)) for path in told]

    async def ask() -> list[list[Prediction]]:
        async with aio.connect(road.servers[api]) as connection:
            assert (await connection.status())[0].state == "AVAILABLE"
            return list(await asyncio.gather(*(connection.predict([image]) for image in images)))

    for [got], one in zip(asyncio.run(ask()), told.values(), strict=True):
        assert got.class_name == one.class_name
        assert got.probabilities == pytest.approx(one.probabilities, abs=1e-6)


@pytest.mark.parametrize("shell", ["bash", "zsh", "fish"])
def test_shells_complete_commands(shell: str) -> None:
    """The documented line prints a script for the shell."""
    done = subprocess.run(
        [FASHION],
        env={"_FASHION_COMPLETE": f"{shell}_source", "PATH": "/usr/bin:/bin"},
        capture_output=True,
        text=True,
        check=False,
    )
    if shell == "bash" and "requires bash" in done.stderr.lower():
        pytest.fail(done.stderr)
    assert "_fashion_completion" in done.stdout


def test_class_names_are_the_servers(road: Road, told: dict[Path, Prediction]) -> None:
    """Which are those of the data set."""
    assert {one.class_name for one in told.values()} <= set(CLASS_NAMES)

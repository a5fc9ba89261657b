"""The whole road through the command line: train on synthetic garments, export, serve, ask over both APIs."""

from __future__ import annotations

import json
import subprocess
import sys
import time
from collections.abc import Sequence
from pathlib import Path

import httpx
import keras
import numpy as np
import pyarrow.parquet as pq
import pytest

from client import connect
from fashion_common.prometheus import samples
from fashion_common.served_model import CLASS_NAMES
from tests.support.console import FASHION, fashion, unmeasured
from tests.support.road import Road


@pytest.mark.parametrize("api", ["grpc", "rest"])
def test_predict_prints_a_line_an_image_with_keras_own_answer(
    road: Road, pictures: dict[Path, np.ndarray], api: str
) -> None:
    """File, class name, probability: the whole output, computed from the model that was trained."""
    model = keras.models.load_model(road.run / "model.keras")
    probabilities = model(np.stack(list(pictures.values())).astype(np.float32) / 255).numpy()
    names = [CLASS_NAMES[class_id] for class_id in probabilities.argmax(axis=1)]
    width = max(map(len, names))
    expected = "".join(
        f"{path.name}  {name:<{width}}  {row.max():.4f}\n"
        for path, name, row in zip(pictures, names, probabilities, strict=True)
    )
    files = [path.name for path in pictures]
    done = fashion("predict", "--server", road.servers[api], *files, cwd=road.directory)
    assert (done.returncode, done.stdout, done.stderr) == (0, expected, "")


@pytest.mark.parametrize("api", ["grpc", "rest"])
def test_predict_prints_json(road: Road, pictures: dict[Path, np.ndarray], api: str) -> None:
    """All ten probabilities, which add up to 1, with the class that is the likeliest."""
    files = [path.name for path in pictures]
    done = fashion("predict", "--json", "--server", road.servers[api], *files, cwd=road.directory)
    answers = json.loads(done.stdout)
    assert [answer["file"] for answer in answers] == files
    for answer in answers:
        assert sorted(answer) == ["class_id", "class_name", "file", "probabilities", "probability"]
        assert sum(answer["probabilities"]) == pytest.approx(1, abs=1e-5)
        assert answer["probability"] == max(answer["probabilities"]) == answer["probabilities"][answer["class_id"]]
        assert answer["class_name"] == CLASS_NAMES[answer["class_id"]]


def test_a_job_has_the_answers_of_the_server(road: Road, tmp_path: Path) -> None:
    """All test images, scored as a file of arrays and asked of the server: the same classes and probabilities."""
    from training.data import synthetic

    images = synthetic.load(seed=1).test_images
    np.save(tmp_path / "images.npy", images)
    model = road.directory / "models/fashion_mnist/1"
    done = fashion("score", tmp_path / "images.npy", "--model", model, "--output", tmp_path / "out", cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    scored = pq.read_table(tmp_path / "out/part-000000.parquet")
    with connect(road.servers["grpc"]) as connection:
        answers = connection.predict(list(images))
    assert scored.column("class_id").to_pylist() == [answer.class_id for answer in answers]
    assert scored.column("class_name").to_pylist() == [answer.class_name for answer in answers]
    expected = np.array([answer.probabilities for answer in answers])
    np.testing.assert_allclose(np.array(scored.column("probabilities").to_pylist()), expected, atol=1e-5)


@pytest.mark.parametrize("api", ["grpc", "rest"])
def test_status_tells_the_versions(road: Road, api: str) -> None:
    """One line a version, and JSON."""
    done = fashion("status", "--server", road.servers[api], cwd=road.directory)
    assert (done.returncode, done.stdout, done.stderr) == (0, "fashion_mnist  1  AVAILABLE  tensorflow\n", "")
    done = fashion("status", "--json", "--server", road.servers[api], cwd=road.directory)
    [version] = json.loads(done.stdout)
    assert version.pop("runtime") == "tensorflow"
    assert version == {"version": 1, "state": "AVAILABLE", "error_code": "OK", "error_message": ""}


@pytest.mark.parametrize("api", ["grpc", "rest"])
def test_large_batches_are_answered(road: Road, api: str) -> None:
    """More images in a request than any server merges by itself: one line each, in order."""
    np.save(road.directory / "many.npy", np.zeros((1500, 28, 28), np.uint8))
    done = fashion(
        "predict",
        "--batch-size",
        1500,
        "--format",
        "csv",
        "--server",
        road.servers[api],
        "many.npy",
        cwd=road.directory,
    )
    assert (done.returncode, done.stderr) == (0, "")
    lines = done.stdout.splitlines()[1:]
    assert [line.split(",")[0] for line in lines] == [f"many.npy[{row}]" for row in range(1500)]


@pytest.mark.parametrize("api", ["grpc", "rest"])
def test_an_unknown_model_is_one_line_and_exit_code_1(road: Road, api: str) -> None:
    """The server's words, and what to do; never a traceback."""
    done = fashion("status", "--model-name", "nope", "--server", road.servers[api], cwd=road.directory)
    assert (done.returncode, done.stdout) == (1, "")
    assert done.stderr == (
        "Error: NOT_FOUND: Could not find any versions of model nope "
        "(is this name served? --model-name names another model; `fashion status` shows a model's versions)\n"
    )


def test_a_bad_picture_is_one_line_and_exit_code_2(road: Road) -> None:
    """It is named before anything is sent."""
    (road.directory / "text.png").write_text("no picture")
    done = fashion("predict", "--server", road.servers["grpc"], "text.png", cwd=road.directory)
    assert (done.returncode, done.stdout) == (2, "")
    assert done.stderr.startswith("Error: text.png: not a picture")
    assert done.stderr.count("\n") == 1


@pytest.mark.alone
def test_predict_needs_no_tensorflow_and_little_time_and_memory(road: Road, pictures: dict[Path, np.ndarray]) -> None:
    """The whole process: 80 MB resident, and twice the time of Python, numpy and gRPC alone (the best of nine each)."""
    picture = str(next(iter(pictures)))
    program = (
        "import psutil, sys\n"
        "from client.cli import fashion\n"
        "try:\n"
        "    fashion(sys.argv[1:], prog_name='fashion')\n"
        "except SystemExit as stop:\n"
        "    assert not stop.code\n"
        "assert not {'tensorflow', 'keras'} & sys.modules.keys()\n"
        "print(psutil.Process().memory_info().rss, file=sys.stderr)\n"
    )
    arguments = ["predict", "--server", road.servers["grpc"], picture]
    command = [sys.executable, "-c", program, *arguments]
    process = subprocess.run(command, capture_output=True, text=True, check=True, timeout=60, env=unmeasured())
    assert int(process.stderr) <= 80 * 1024 * 1024
    commands = [[FASHION, *arguments], [sys.executable, "-c", "import numpy, grpc"]]
    predict, bare = zip(*([_seconds(command) for command in commands] for _ in range(9)), strict=True)
    assert min(predict) <= 2 * min(bare), (predict, bare)


def _seconds(command: Sequence[str]) -> float:
    began = time.perf_counter()
    subprocess.run(command, check=True, stdout=subprocess.DEVNULL, env=unmeasured())
    return time.perf_counter() - began


def test_what_is_answered_is_counted_beside_the_test_set(road: Road, pictures: dict[Path, np.ndarray]) -> None:
    """By class and by confidence, over both APIs: the export has taken the test set's to the server."""
    origin = road.servers["rest"]

    def count(metric: str, source: str) -> float:
        text = httpx.get(f"{origin}/monitoring/prometheus/metrics", timeout=30).text
        named = samples(text, f":fashion:distribution:{metric}")
        return sum(value for labels, value in named if (labels["version"], labels["source"]) == ("1", source))

    before = count("prediction_count", "live")
    for server in road.servers.values():
        done = fashion("predict", "--server", server, *(path.name for path in pictures), cwd=road.directory)
        assert done.returncode == 0, done.stderr
    assert count("prediction_count", "live") == before + 20
    assert count("confidence_count", "live") == before + 20
    recorded = json.loads((road.run / "metrics.json").read_text())["test_distribution"]
    assert count("prediction_count", "test_set") == sum(recorded["classes"]) > 0
    assert count("confidence_count", "test_set") == sum(recorded["confidence"])

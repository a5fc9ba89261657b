"""Killed at any point, a job leaves whole parts only; the same command then scores every row exactly once."""

from __future__ import annotations

import json
import os
import resource
import signal
import subprocess
from multiprocessing.context import ForkServerContext
from pathlib import Path

import pyarrow.parquet as pq
import pytest

from delivery.errors import DeliveryError
from scoring import score
from tests.scoring.conftest import parquet
from tests.support.console import FASHION
from tests.support.killed import Step, forks_with, kill_at
from tests.support.live import wait_until

# In the order in which a job of three pieces comes to them.
STEPS = (
    Step("scoring.job", "_begin"),
    Step("fashion_common.files", "os.fsync"),
    Step("pathlib", "Path.replace", after=True),
    Step("scoring.scorer", "rows", call=2),
    Step("scoring.parts", "Part.end"),
    Step("pathlib", "Path.replace", call=2),
    Step("pathlib", "Path.replace", call=2, after=True),
    Step("pathlib", "Path.replace", call=3),
    Step("pathlib", "Path.replace", call=3, after=True),
    Step("pathlib", "Path.replace", call=5, after=True),
    Step("scoring.job", "_join_errors"),
    Step("scoring.job", "_join_errors", after=True),
    Step("pathlib", "Path.replace", call=8),
)


# Half a second a piece.
SLOW = """
import time
import scoring.scorer
read = scoring.scorer.rows
scoring.scorer.rows = lambda *arguments: time.sleep(0.5) or read(*arguments)
"""


@pytest.fixture(scope="module")
def context() -> ForkServerContext:
    """Processes that find imported what takes longest."""
    return forks_with("scoring.job", "scoring.local", "serving.embedded.loading.litert.lite_model", __name__)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Three files, a piece each; their ids are 0 to 29."""
    import numpy as np

    directory = tmp_path / "in"
    directory.mkdir()
    for number in range(3):
        parquet(directory / f"{number}.parquet", 10, key=np.arange(10) + 10 * number)
    return directory


def run(folder: Path, model: Path) -> dict[str, object]:
    """The job of these tests."""
    return score([str(folder)], str(folder.parent / "out"), model=str(model), label_column="label", workers=(1, 1))


def killed(step: Step, folder: Path, model: Path) -> None:
    """The same, killed at the step."""
    kill_at(step)
    run(folder, model)
    os._exit(99)


def keys(output: Path) -> list[int]:
    """The keys of all parts' rows."""
    return [key for part in sorted(output.glob("part-*")) for key in pq.read_table(part).column("key").to_pylist()]


@pytest.mark.parametrize("step", STEPS, ids=str)
def test_every_row_is_there_once(context: ForkServerContext, folder: Path, scored_model: Path, step: Step) -> None:
    """What was written before is whole, no torn file is left in the end, and what was done is not done again."""
    process = context.Process(target=killed, args=(step, folder, scored_model))
    process.start()
    process.join(60)
    assert process.exitcode == -signal.SIGKILL
    output = folder.parent / "out"
    before = {part: part.stat().st_mtime_ns for part in output.glob("part-*")}
    done = {path.stem for path in output.glob("_parts/*.json")}
    assert len(keys(output)) == 10 * len(before)
    manifest = run(folder, scored_model)
    assert (manifest["rows"], manifest["labelled"], manifest["accuracy"]) == (30, 30, 1.0)
    assert keys(output) == list(range(30))
    assert all(part.stat().st_mtime_ns == time for part, time in before.items() if part.stem[5:] in done)
    assert not list(output.rglob(".*"))


def _with_small_files(folder: Path, model: Path) -> None:
    resource.setrlimit(resource.RLIMIT_FSIZE, (2000, 2000))
    signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    try:
        run(folder, model)
    except DeliveryError as error:
        (folder.parent / "error").write_text(str(error))


def test_a_disk_without_room(context: ForkServerContext, folder: Path, scored_model: Path) -> None:
    """One line; nothing torn is left, and the job goes on when there is room."""
    process = context.Process(target=_with_small_files, args=(folder, scored_model))
    process.start()
    process.join(60)
    output = folder.parent / "out"
    assert (folder.parent / "error").read_text() == (
        f"{output}/part-000000.parquet cannot be written: File too large: run the same command again when it can"
    )
    assert sorted(path.name for path in output.rglob("*")) == ["_job.json", "_lock", "_parts"]
    assert run(folder, scored_model)["rows"] == 30


def test_ctrl_c_says_how_to_go_on(folder: Path, scored_model: Path) -> None:
    """Exit code 1; what is done stays."""
    output = folder.parent / "out"
    options = ["--label-column", "label", "--workers", "1"]
    command: list[str | Path] = [FASHION, "score", folder, "--model", scored_model, "--output", output, *options]
    slow = {**os.environ, "PYTHONPATH": str(folder.parent)}
    (folder.parent / "sitecustomize.py").write_text(SLOW)
    with subprocess.Popen(command, stderr=subprocess.PIPE, env=slow, text=True) as process:
        wait_until((output / "_parts/000000.json").exists)
        process.send_signal(signal.SIGINT)
        _, stderr = process.communicate(timeout=60)
    assert process.returncode == 1
    assert stderr == f"Ended early: the same command goes on with what is in {output}\n\nAborted!\n"
    assert run(folder, scored_model)["rows"] == 30


def test_a_server_that_goes_away(folder: Path, scored_model: Path) -> None:
    """The job ends with what is done, and goes on when the server is back."""
    from client.errors import ServerError
    from tests.support.live import running

    flags = ("--model_name=fashion_mnist", f"--model_base_path={scored_model.parent}")
    output = str(folder.parent / "out")
    with running(*flags) as server:
        url = f"grpc://{server.grpc}"
        score([str(folder / "0.parquet")], str(folder.parent / "one"), servers=[url])
    with pytest.raises(ServerError, match=r"^UNAVAILABLE: "):
        score([str(folder)], output, servers=[url], timeout=1)
    with running(*flags, f"--port={server.grpc.rpartition(':')[2]}") as server:
        assert score([str(folder)], output, servers=[url])["rows"] == 30
    assert json.loads((folder.parent / "out/_job.json").read_text())["model"]["version"] == 7

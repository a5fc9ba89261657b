"""On a Ray cluster of two nodes, whatever is killed, every row is scored exactly once, as on one machine."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import psutil  # type: ignore[import-untyped]
import pyarrow.parquet as pq
import pytest

from scoring import score
from tests.scoring.conftest import parquet
from tests.support.console import FASHION
from tests.support.live import wait_until

pytestmark = [pytest.mark.filterwarnings("ignore"), pytest.mark.timeout(300)]
FILES, ROWS = 40, 200


@pytest.fixture(scope="module")
def cluster() -> Iterator[Any]:
    """Two nodes of one CPU each, in processes of their own; `add_node` makes another."""
    from ray.cluster_utils import Cluster

    nodes = Cluster(initialize_head=True, head_node_args={"num_cpus": 1, "include_dashboard": False})
    nodes.add_node(num_cpus=1)
    yield nodes
    nodes.shutdown()  # type: ignore[no-untyped-call]


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """As many pieces as files; the keys go on from one to the next."""
    directory = tmp_path_factory.mktemp("in")
    for number in range(FILES):
        parquet(directory / f"{number:02d}.parquet", ROWS, key=np.arange(ROWS) + ROWS * number)
    return directory


@pytest.fixture(scope="module")
def expected(folder: Path, scored_model: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """What the engine of one machine makes of them."""
    output = tmp_path_factory.mktemp("local") / "out"
    score([str(folder)], str(output), model=str(scored_model))
    return output


def command(cluster: Any, folder: Path, model: Path, output: Path) -> list[str | Path]:
    """`fashion score` on the cluster, with an actor on each node."""
    ray = ["--engine", "ray", "--ray-address", cluster.address, "--workers", "2:2"]
    return [FASHION, "score", folder, "--model", model, "--output", output, *ray]


def check(output: Path, expected: Path) -> None:
    """The same files with the same bytes, and every key once."""
    parts = sorted(output.glob("part-*"))
    assert [part.name for part in parts] == [part.name for part in sorted(expected.glob("part-*"))]
    assert all(part.read_bytes() == (expected / part.name).read_bytes() for part in parts)
    keys = [key for part in parts for key in pq.read_table(part).column("key").to_pylist()]
    assert keys == list(range(FILES * ROWS))
    assert not list(output.rglob(".*"))


def workers() -> list[psutil.Process]:
    """The processes that score."""
    return [each for each in psutil.process_iter() if _is_worker(each)]


def _is_worker(process: psutil.Process) -> bool:
    try:
        return "ray::MapWorker" in " ".join(process.cmdline())
    except psutil.Error:
        return False


def kill_worker(_: Any) -> None:
    """Kills one of the processes that score."""
    workers()[0].kill()


def kill_node(cluster: Any) -> None:
    """Kills all of a node, and has another one join."""
    cluster.remove_node(next(iter(cluster.worker_nodes)), allow_graceful=False)
    cluster.add_node(num_cpus=1)


@pytest.mark.parametrize("kill", [None, kill_worker, kill_node], ids=["nothing", "a worker", "a node"])
def test_what_is_lost_is_scored_again(
    cluster: Any, folder: Path, scored_model: Path, expected: Path, tmp_path: Path, kill: Callable[[Any], None] | None
) -> None:
    """The job ends as if nothing had been."""
    output = tmp_path / "out"
    with subprocess.Popen(
        command(cluster, folder, scored_model, output), stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    ) as driver:
        if kill:
            wait_until(lambda: len(list(output.glob("_parts/*.json"))) >= 3)
            kill(cluster)
            assert len(list(output.glob("_parts/*.json"))) < FILES
        stdout, stderr = driver.communicate(timeout=200)
    assert driver.returncode == 0, stderr
    assert stdout.startswith(f"{FILES * ROWS:,} rows in {FILES} parts in {output}, ")
    check(output, expected)


def test_a_driver_that_is_killed(
    cluster: Any, folder: Path, scored_model: Path, expected: Path, tmp_path: Path
) -> None:
    """The same command goes on: what was done is not done again."""
    output = tmp_path / "out"
    asked = command(cluster, folder, scored_model, output)
    with subprocess.Popen(asked, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL) as driver:
        wait_until(lambda: len(list(output.glob("_parts/*.json"))) >= 3)
        driver.send_signal(signal.SIGKILL)
    # Those that it has left end with it.
    wait_until(lambda: not workers())
    parts = [output / f"part-{path.stem}.parquet" for path in output.glob("_parts/*.json")]
    done = {part: part.stat().st_mtime_ns for part in parts}
    assert 3 <= len(done) < FILES
    again = subprocess.run(asked, capture_output=True, text=True, timeout=200, check=False)
    assert again.returncode == 0, again.stderr
    check(output, expected)
    assert all(part.stat().st_mtime_ns == time for part, time in done.items())


def test_a_plan_that_is_not_held_in_memory_at_once(
    cluster: Any, folder: Path, scored_model: Path, expected: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Ray is given some pieces, and the next ones when those are done: to the same parts."""
    from scoring import cluster as engine
    from scoring.pieces import pieces

    sizes = [len(piece.to_json()) for piece in pieces([str(folder)])]
    monkeypatch.setattr(engine, "_GROUP_BYTES", sum(sizes[:30]))
    groups = list(engine._groups(pieces([str(folder)])))
    assert [len(group) for group in groups] == [30, FILES - 30]
    output = tmp_path / "out"
    score([str(folder)], str(output), model=str(scored_model), engine="ray", ray_address=cluster.address)
    check(output, expected)


@pytest.mark.parametrize("place", [None, "auto", "127.0.0.1:{}", "ray://127.0.0.1:{}"])
def test_a_job_is_given_to_the_cluster_that_is_named(place: str | None, monkeypatch: pytest.MonkeyPatch) -> None:
    """Which is left again, and Ray's makers are told nothing; a program that is connected already stays it."""
    import ray

    from scoring.cluster import _connected

    done: list[object] = []
    monkeypatch.delenv("RAY_USAGE_STATS_ENABLED", raising=False)
    monkeypatch.setattr(ray, "init", lambda address, **_: done.append(address))
    monkeypatch.setattr(ray, "shutdown", lambda: done.append("shutdown"))
    monkeypatch.setattr(ray, "is_initialized", lambda: False)
    with socket.create_server(("127.0.0.1", 0)) as listener:
        address = place and place.format(listener.getsockname()[1])
        with _connected(address):
            assert done == [address]
            assert os.environ["RAY_USAGE_STATS_ENABLED"] == "0"
        assert done == [address, "shutdown"]
        monkeypatch.setattr(ray, "is_initialized", lambda: True)
        with _connected(address):
            pass
    assert done == [address, "shutdown"]


def test_a_cluster_that_is_not_there(folder: Path, scored_model: Path, tmp_path: Path) -> None:
    """Exit code 2, and one line that says what to do."""
    nowhere = ["--engine", "ray", "--ray-address", "127.0.0.1:1"]
    asked: list[str | Path] = [
        FASHION,
        "score",
        folder,
        "--model",
        scored_model,
        "--output",
        tmp_path / "out",
        *nowhere,
    ]
    done = subprocess.run(asked, capture_output=True, text=True, timeout=200, check=False)
    assert done.returncode == 2
    assert done.stderr.splitlines()[-1].startswith("Error: no Ray cluster at 127.0.0.1:1: ")

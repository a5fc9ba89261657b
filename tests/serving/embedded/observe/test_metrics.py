"""Metrics of several processes, on a disk that is full."""

from __future__ import annotations

import contextlib
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

# Counts requests of more and more models, as worker 0, and says how many calls did not fail.
PROGRAM = """
import logging, time
from serving.apis.status import Code
from serving.embedded.observe.metrics import Metrics
logging.basicConfig(format="%(message)s")
metrics = Metrics(worker=0)
for number in range(300):
    metrics.request(f"model{number}", "Predict", "GRPC", Code.OK, time.perf_counter())
    metrics.run(f"model{number}", 0.001)
    metrics.batch(f"model{number}", 1)
text = metrics.exposition().decode()
count = ':tensorflow:serving:request_latency_count{'
print(text.count(count), text.count('model_name="model0",status="OK"} %d.0' % RUNS))
"""


@pytest.fixture
def small(tmp_path: Path) -> Iterator[Path]:
    """A directory that has room for 512 KiB."""
    mount = ["/bin/mount", "-t", "tmpfs", "-o", "size=512k", "tmpfs", str(tmp_path)]
    mounted = subprocess.run(mount, capture_output=True, text=True, check=False)
    if mounted.returncode:
        pytest.skip(f"no tmpfs can be mounted here, which takes root: {mounted.stderr.strip()}")
    yield tmp_path
    subprocess.run(["/bin/umount", "--lazy", str(tmp_path)], check=True)


def counted(directory: Path, runs: int = 1) -> tuple[list[str], str]:
    """What the program prints to stdout and stderr."""
    ended = subprocess.run(
        [sys.executable, "-c", PROGRAM.replace("RUNS", str(runs))],
        env={**os.environ, "PROMETHEUS_MULTIPROC_DIR": str(directory)},
        capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert ended.returncode == 0, (ended.returncode, ended.stderr[-2000:])
    return ended.stdout.split(), ended.stderr


def test_a_full_directory(small: Path) -> None:
    """Nobody is killed, no call fails, it is told once, and what there was room for is counted."""
    (models, first), log = counted(small)

    assert 1 < int(models) < 300
    assert first == "1"
    assert log == "The metrics are not complete: [Errno 28] No space left on device\n"


def test_a_directory_without_any_room(small: Path) -> None:
    """There are no metrics, and no error when they are asked for."""
    with (small / "full").open("wb", buffering=0) as file, contextlib.suppress(OSError):
        while True:
            file.write(bytes(4096))

    (models, _), log = counted(small)

    assert models == "0"
    assert log.count("The metrics are not complete") == 1


def test_a_worker_that_is_started_again(tmp_path: Path) -> None:
    """It goes on with the numbers of the one before, in the same files."""
    counted(tmp_path)
    (models, first), log = counted(tmp_path, runs=2)

    assert (models, first, log) == ("300", "1", "")
    assert sorted(path.name for path in tmp_path.iterdir()) == ["counter_0.db", "histogram_0.db"]

"""What is counted and in which units; metrics of several processes, on a disk that is full."""

from __future__ import annotations

import contextlib
import os
import re
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from serving.apis.status import Code
from serving.embedded.observe.metrics import Metrics, _ReservedFile
from tests.support.records import file_size_limit

# Counts requests of more and more models, as worker 0, and says how many calls did not fail.
PROGRAM = """
import logging, time
from serving.apis.status import Code
from serving.embedded.observe.metrics import Metrics
logging.basicConfig(format="%(message)s")
metrics = Metrics(worker=0)
for number in range(300):
    metrics.request(f"model{number}", "Predict", "GRPC", Code.OK, time.perf_counter())
    metrics.run(f"model{number}", "TF1", 0.001)
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


def series(text: str) -> dict[str, float]:
    """The value of each series in an exposition, but for buckets that hold nothing or as much as the one before."""
    values: dict[str, float] = {}
    last = 0.0
    for line in text.splitlines():
        if line.startswith("#"):
            continue
        name, _, value = line.rpartition(" ")
        is_bucket = "_bucket{" in name
        if not is_bucket or float(value) > last:
            values[name.removeprefix(":tensorflow:serving:")] = float(value)
        last = float(value) if is_bucket else 0.0
    return values


def test_every_metric_has_its_unit(monkeypatch: pytest.MonkeyPatch) -> None:
    """Times are microseconds, batches rows, requests one each."""
    monkeypatch.setattr(time, "perf_counter", lambda: 100.5)
    metrics = Metrics()

    metrics.request("m", "Predict", "GRPC", Code.OK, 100.25)
    metrics.request("m", "Predict", "GRPC", Code.NOT_FOUND, 100.0)
    metrics.request("m", "Classify", "REST", Code.OK, 100.5)
    metrics.run("m", "TF1", 0.0025)
    metrics.batch("m", 4)
    metrics.batch("m", 5)

    text = metrics.exposition().decode()
    grpc, rest = (
        f'API="{api}",entrypoint="{port}"{{}},model_name="m"'
        for api, port in (("Predict", "GRPC"), ("Classify", "REST"))
    )
    run = 'API="Predict"{},model_name="m",runtime="TF1"'
    edges = {power: float(10 * 1.8**power) for power in (10, 18, 19)}
    assert series(text) == {
        'request_count{model_name="m",status="OK"}': 2,
        'request_count{model_name="m",status="NOT_FOUND"}': 1,
        f"request_latency_count{{{grpc.format('')}}}": 2,
        f"request_latency_sum{{{grpc.format('')}}}": 750_000,
        _bucket("request_latency", grpc, edges[18]): 1,
        _bucket("request_latency", grpc, edges[19]): 2,
        f"request_latency_count{{{rest.format('')}}}": 1,
        f"request_latency_sum{{{rest.format('')}}}": 0,
        _bucket("request_latency", rest, 10.0): 1,
        f"runtime_latency_count{{{run.format('')}}}": 1,
        f"runtime_latency_sum{{{run.format('')}}}": 2500,
        _bucket("runtime_latency", run, edges[10]): 1,
        'batching_session:processed_batch_size_count{model_name="m"}': 2,
        'batching_session:processed_batch_size_sum{model_name="m"}': 9,
        'batching_session:processed_batch_size_bucket{le="4.0",model_name="m"}': 1,
        'batching_session:processed_batch_size_bucket{le="8.0",model_name="m"}': 2,
    }


def test_what_the_shadow_and_the_recording_are_counted_by() -> None:
    """Outcomes of requests, rows by the pair of classes, the runs of both versions in microseconds."""
    metrics = Metrics()
    metrics.record("m", "written", 3)
    metrics.shadow_request("m", "agreed")
    metrics.shadow_request("m", "agreed")
    metrics.shadow_request("m", "failed")
    metrics.shadow_rows("m", 4, {("Coat", "Shirt"): 2, ("Bag", "NaN"): 1})
    metrics.shadow_run("m", "served", 0.0025)
    metrics.shadow_run("m", "shadow", 0.000011)
    edges = [float(10 * 1.8**power) for power in (1, 10)]
    found = {name.removeprefix(":fashion:"): value for name, value in series(metrics.exposition().decode()).items()}
    assert found == {
        'recording:record_count{model_name="m",outcome="written"}': 3,
        'shadow:request_count{model_name="m",outcome="agreed"}': 2,
        'shadow:request_count{model_name="m",outcome="failed"}': 1,
        'shadow:row_count{model_name="m",outcome="agreed"}': 4,
        'shadow:row_count{model_name="m",outcome="disagreed"}': 3,
        'shadow:disagreement_count{model_name="m",served="Coat",shadow="Shirt"}': 2,
        'shadow:disagreement_count{model_name="m",served="Bag",shadow="NaN"}': 1,
        'shadow:run_latency_count{model_name="m",version="served"}': 1,
        'shadow:run_latency_sum{model_name="m",version="served"}': 2500,
        f'shadow:run_latency_bucket{{le="{edges[1]}",model_name="m",version="served"}}': 1,
        'shadow:run_latency_count{model_name="m",version="shadow"}': 1,
        'shadow:run_latency_sum{model_name="m",version="shadow"}': 11,
        f'shadow:run_latency_bucket{{le="{edges[0]}",model_name="m",version="shadow"}}': 1,
    }


def test_only_so_many_pairs_of_classes_are_told_apart() -> None:
    """A thousand, for a model may make classes up; those that are known go on being counted."""
    metrics = Metrics()
    metrics.shadow_rows("m", 0, {("a", str(number)): 1 for number in range(1000)})
    metrics.shadow_rows("m", 0, {("a", "0"): 1, ("a", "1000"): 1, ("b", "1"): 2})
    found = series(metrics.exposition().decode())
    name = ':fashion:shadow:disagreement_count{{model_name="m",served="{}",shadow="{}"}}'
    assert [found[name.format(*pair)] for pair in (("a", "0"), ("a", "999"), ("other", "other"))] == [2, 1, 3]
    assert len([each for each in found if ":disagreement_count" in each]) == 1001


def test_the_buckets_are_those_of_tf_serving() -> None:
    """Of times 33, each 1.8 times as long as the one before; of batches powers of two, to 16,384 rows."""
    metrics = Metrics()
    metrics.run("m", "TF1", 0.0)
    metrics.batch("m", 1)
    text = metrics.exposition().decode()
    for name, edges in (
        ("runtime_latency", [10 * 1.8**power for power in range(33)]),
        ("batching_session:processed_batch_size", [2.0**power for power in range(15)]),
    ):
        found = re.findall(rf'^:tensorflow:serving:{name}_bucket{{.*?le="(.*?)"', text, re.MULTILINE)
        assert [float(edge) for edge in found] == [*edges, float("inf")]


def _bucket(name: str, labels: str, edge: float) -> str:
    """The series of a bucket."""
    le = f',le="{edge}"'
    return f"{name}_bucket{{{labels.format(le)}}}"


@pytest.mark.parametrize(("before", "size", "after"), [(None, 2**16, 2**16), (10, 1000, 1000), (2000, 1000, 2000)])
def test_a_workers_file_has_its_room_on_the_disk(tmp_path: Path, before: int | None, size: int, after: int) -> None:
    """What is missing is written, behind what is there; one that is larger stays as it is."""
    path = tmp_path / "counter_0.db"
    if before is not None:
        path.write_bytes(b"x" * before)
    _ReservedFile.reserve(str(path), size)
    content = path.read_bytes()
    assert len(content) == after
    assert content.rstrip(b"\0") == b"x" * (before or 0)


@pytest.mark.parametrize(("before", "remains"), [(None, False), (2**16 - 1, False), (2**16, True)])
def test_a_workers_file_that_has_no_room(tmp_path: Path, before: int | None, remains: bool) -> None:
    """One that could not even be begun is gone: it could not be read."""
    path = tmp_path / "counter_0.db"
    if before is not None:
        path.write_bytes(b"x" * before)
    with file_size_limit(before or 1000), pytest.raises(OSError, match="File too large"):
        _ReservedFile.reserve(str(path), 2**18)
    assert path.exists() is remains


def test_a_workers_file_doubles_before_it_is_full(tmp_path: Path) -> None:
    """Every page of it is on the disk, and its numbers are read again."""
    path = tmp_path / "counter_0.db"
    file = _ReservedFile(str(path))
    assert path.stat().st_size == 2**16
    sizes = set()
    for number in range(3000):
        file.write_value(f"key{number}", float(number), 0.0)  # type: ignore[no-untyped-call]
        sizes.add(path.stat().st_size)
    file.close()  # type: ignore[no-untyped-call]
    assert sizes == {2**16, 2**17}
    assert path.stat().st_blocks * 512 >= path.stat().st_size
    again = _ReservedFile(str(path))
    assert again.read_value("key2999")[0] == 2999.0  # type: ignore[no-untyped-call]
    again.close()  # type: ignore[no-untyped-call]


def test_the_exposition_has_no_suffix_that_tf_serving_has_not() -> None:
    """Of counters; of names that others choose it is left."""
    metrics = Metrics()
    metrics.request("a_total", "Predict", "GRPC", Code.OK, time.perf_counter())
    metrics.record("m", "written", 1)
    text = metrics.exposition().decode()
    assert '\n:tensorflow:serving:request_count{model_name="a_total",status="OK"} 1.0\n' in text
    assert '\n:fashion:recording:record_count{model_name="m",outcome="written"} 1.0\n' in text
    assert "# TYPE :tensorflow:serving:request_count counter\n" in text
    assert text.count("_total") == text.count('"a_total"')


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

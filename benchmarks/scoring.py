"""What `fashion score` reaches: both engines on a million rows, beside the runtime alone; and how cost grows with rows.

`python -m benchmarks.scoring`, a few minutes. Rows are Fashion-MNIST, repeated, as raw bytes in Parquet. The runtime
alone runs the same batches from an array in memory, in one thread, in a process of its own, in turn with each job.
"""

from __future__ import annotations

import argparse
import json
import math
import statistics
import subprocess
import sys
import tempfile
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import psutil  # type: ignore[import-untyped]
import pyarrow as pa
import pyarrow.dataset as ds
import pyarrow.parquet as pq

from benchmarks.contenders import HERE
from client import Connection, connect
from client.pictures.images import png
from fashion_common.layout import version_directories
from scoring.pieces import ARRAY_ROWS
from scoring.readers import BATCH_ROWS
from tests.support.console import FASHION
from tests.support.live import running
from tests.support.measured import measured_on
from training.data import dataset

RESULTS = HERE / "results" / "scoring.json"
SIZES = (10_000, 100_000, 1_000_000)
FORMS = ("raw", "png")
BAR = 0.7
_ROW_GROUP = 50_000
_PIECES = 500
_SAMPLE_SECONDS = 0.05
# Rows whose answers are held to those of a server.
_SAMPLE_ROWS = 1000
# In a process of its own, as a job is.
_ALONE = """
import sys, time
import numpy as np
from pathlib import Path
from scoring.models import Source
pixels = np.load(sys.argv[2], mmap_mode=None)
model = Source(sys.argv[1]).open()
batch = int(sys.argv[3])
parts = [pixels[begin : begin + batch] for begin in range(0, len(pixels), batch)]
for part in parts[:10]:
    model.run(part)
begin, rows = time.perf_counter(), 0
while rows < int(sys.argv[4]):
    for part in parts:
        model.run(part)
        rows += len(part)
print(rows / (time.perf_counter() - begin))
"""

# The first jobs of a process also pay for its memory.
_JOBS = """
import json, sys
from scoring import score
source, small, model, output, jobs = sys.argv[1:]
for job in range(2):
    score([small], f"{output}/small{job}", model=model, workers=(1, 1))
print(json.dumps([
    score([source], f"{output}/{job}", model=model, workers=(1, 1))["seconds"] for job in range(int(jobs))
]))
"""
# Rows of pictures that are decoded for one figure, which takes half a minute.
_PNG_ROWS = 400_000


def main() -> int:
    """Measures; exit code 1 when the local engine is below the bar and --check is given."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0], epilog="Example: scoring.py --rounds 5")
    parser.add_argument("--model-base-path", type=Path, default=Path("models/fashion_mnist"))
    parser.add_argument("--rows", type=int, default=SIZES[-1], help="rows of the largest input")
    parser.add_argument("--rounds", type=int, default=3, help="rounds of each job")
    parser.add_argument("--json", type=Path, default=RESULTS, help="where the figures go as JSON")
    parser.add_argument("--check", action="store_true", help="exit with 1 when the bar is missed")
    options = parser.parse_args()
    versions = version_directories(options.model_base_path) if options.model_base_path.is_dir() else {}
    if not versions:
        print(f"no version under {options.model_base_path}: `make train export`", file=sys.stderr)
        return 2
    version = versions[max(versions)]
    flags = (f"--model_base_path={version.parent}", "--model_name=fashion_mnist", "--prefer_tflite_model")
    with tempfile.TemporaryDirectory() as name, running(*flags) as server, connect(f"grpc://{server.grpc}") as asked:
        bench = _Bench(Path(name), version, options.rounds, asked)
        engines = [bench.engine(engine, options.rows) for engine in ("local", "ray")]
        engines.append(bench.engine("local", options.rows // 10, "png"))
        pieces = bench.pieces_per_second()
        growth = [bench.growth(form, size) for form in FORMS for size in SIZES if size <= options.rows]
    result = {
        **measured_on(),
        "rounds": options.rounds,
        "bar": BAR,
        "sampled_rows": _SAMPLE_ROWS,
        "engines": engines,
        "growth": growth,
        "part_bytes_a_row": bench.part_bytes_a_row,
        "ray_pieces_per_second": pieces,
    }
    options.json.write_text(json.dumps(result, indent=1) + "\n")
    if options.json == RESULTS:
        _draw(growth, HERE.parent / "docs" / "scoring.svg")
    print(json.dumps(result, indent=1))
    return 1 if options.check and engines[0]["to_runtime"] < BAR else 0


def _draw(growth: list[dict[str, Any]], path: Path) -> None:
    """Time a row by rows."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(8, 2.6), layout="constrained")
    for form, axes in zip(FORMS, figure.subplots(ncols=len(FORMS)), strict=True):
        rows = [row for row in growth if row["input"] == form]
        times = [row["us_a_row"] for row in rows]
        axes.semilogx([row["rows"] for row in rows], times, marker="o")
        axes.set(xlabel="rows", ylabel="us a row", ylim=(0, 1.2 * max(times)), title=f"One worker, {form}")
        axes.grid(alpha=0.3)
    figure.savefig(path, metadata={"Date": None})


class _Bench:
    """directory: for inputs and outputs. version: the model's directory. asked: a server that has it."""

    def __init__(self, directory: Path, version: Path, rounds: int, asked: Connection) -> None:
        self._asked = asked
        self._differences: list[float] = []
        self._directory = directory
        self._version = version
        self._rounds = rounds
        self.part_bytes_a_row = 0.0
        data = dataset.load()
        self._images = np.concatenate([data.train_images, data.test_images]).reshape(-1, 784)
        self._labels = np.concatenate([data.train_labels, data.test_labels])
        np.save(directory / "images.npy", self._images[:ARRAY_ROWS].reshape(-1, 28, 28))

    def engine(self, engine: str, rows: int, form: str = "raw") -> dict[str, Any]:
        """A row of the results: rates, the peak of memory of all its processes, the ratio to the runtime alone.

        form: of the pictures, raw or png.
        """
        rates, ratios = [], []
        self._differences.clear()
        source = self._input(rows, form)
        for _ in range(self._rounds):
            alone = self._alone()
            manifest, _ = self._job(source, "--engine", engine)
            rates.append(manifest["rows_per_second"])
            ratios.append(manifest["rows_per_second"] / alone)
        # To look at a process's memory takes its time: a tenth of this one's.
        manifest, peak = self._job(source, "--engine", engine, watched=True)
        return {
            "engine": engine,
            "input": form,
            "rows": rows,
            "rate": statistics.median(rates),
            "to_runtime": statistics.median(ratios),
            "memory_mib": round(peak / 2**20),
            "accuracy": manifest["accuracy"],
            "largest_difference": max(self._differences),
        }

    def growth(self, form: str, rows: int) -> dict[str, Any]:
        """Of one worker: microseconds a row of jobs in a process that has scored before, and the peak of its memory."""
        jobs = max(self._rounds, 5) if form == "raw" else max(1, min(self._rounds, _PNG_ROWS // rows))
        with tempfile.TemporaryDirectory(dir=self._directory) as output:
            inputs = [str(self._input(rows, form)), str(self._input(SIZES[0], form))]
            arguments = [*inputs, str(self._version), output, str(jobs)]
            command = [sys.executable, "-c", _JOBS, *arguments]
            with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True) as process:
                peaks = _Peak(process.pid)
                text, _ = process.communicate()
            peak = peaks.end()
        us_a_row = 1e6 * statistics.median(json.loads(text)) / rows
        return {"input": form, "rows": rows, "us_a_row": us_a_row, "memory_mib": round(peak / 2**20)}

    def pieces_per_second(self) -> float:
        """Of Ray's engine, with pieces of one row."""
        folder = self._directory / "pieces"
        folder.mkdir()
        for number in range(_PIECES):
            pq.write_table(next(_tables(self._images, self._labels, 1, "raw")), folder / f"{number:04d}.parquet")
        manifest, _ = self._job(folder, "--engine", "ray")
        return _PIECES / float(manifest["seconds"])

    def _job(self, source: Path, *options: str, watched: bool = False) -> tuple[dict[str, Any], int]:
        """The manifest of a job; where it is watched, with the peak of its memory."""
        with tempfile.TemporaryDirectory(dir=self._directory) as output:
            command = [FASHION, "score", str(source), "--model", str(self._version), "--output", output]
            labels = ["--label-column", "label", "--json"]
            with subprocess.Popen([*command, *labels, *options], stdout=subprocess.PIPE, text=True) as process:
                peaks = _Peak(process.pid) if watched else None
                text, _ = process.communicate()
            peak = peaks.end() if peaks else 0
            manifest: dict[str, Any] = json.loads(text)
            if manifest["parts"] < manifest["rows"]:
                parts = Path(output).glob("part-*")
                self.part_bytes_a_row = sum(part.stat().st_size for part in parts) / manifest["rows"]
                self._differences.append(self._difference(Path(output), manifest["rows"]))
            return manifest, peak

    def _difference(self, output: Path, rows: int) -> float:
        """The largest between a probability in the parts and the server's; infinite where a class differs."""
        ids = np.sort(np.random.default_rng(0).choice(rows, _SAMPLE_ROWS, replace=False))
        table = ds.dataset(sorted(output.glob("part-*"))).to_table(filter=ds.field("id").isin(ids)).sort_by("id")
        assert table.column("id").to_pylist() == ids.tolist()
        answers = self._asked.predict(list(self._images[ids % len(self._images)].reshape(-1, 28, 28)))
        if table.column("class_id").to_pylist() != [answer.class_id for answer in answers]:
            return math.inf
        scored = np.array(table.column("probabilities").to_pylist())
        return float(np.abs(scored - np.array([answer.probabilities for answer in answers])).max())

    def _input(self, rows: int, form: str = "raw") -> Path:
        path = self._directory / f"{rows}-{form}.parquet"
        if not path.exists():
            tables = _tables(self._images, self._labels, rows, form)
            first = next(tables)
            with pq.ParquetWriter(path, first.schema) as writer:
                writer.write_table(first)
                for table in tables:
                    writer.write_table(table)
        return path

    def _alone(self) -> float:
        arguments = [str(self._version), str(self._directory / "images.npy"), str(BATCH_ROWS), str(5 * ARRAY_ROWS)]
        done = subprocess.run([sys.executable, "-c", _ALONE, *arguments], capture_output=True, text=True, check=True)
        return float(done.stdout)


def _tables(images: Any, labels: Any, rows: int, form: str) -> Iterator[pa.Table]:
    for begin in range(0, rows, _ROW_GROUP):
        ids = np.arange(begin, min(begin + _ROW_GROUP, rows))
        pixels = np.ascontiguousarray(images[ids % len(images)])
        if form == "png":
            column = pa.array([png(row.tobytes()) for row in pixels], pa.binary())
        else:
            column = pa.FixedSizeBinaryArray.from_buffers(pa.binary(784), len(ids), [None, pa.py_buffer(pixels)])
        yield pa.table({"id": ids, "image": column, "label": labels[ids % len(images)].astype(np.int64)})


class _Peak:
    """The most memory that a process and its descendants have at a time, their shared pages counted once (PSS)."""

    def __init__(self, pid: int) -> None:
        self._process = psutil.Process(pid)
        self._peak = 0
        self._ended = threading.Event()
        self._thread = threading.Thread(target=self._watch)
        self._thread.start()

    def end(self) -> int:
        """In bytes."""
        self._ended.set()
        self._thread.join()
        return self._peak

    def _watch(self) -> None:
        while not self._ended.wait(_SAMPLE_SECONDS):
            size = 0
            try:
                for process in [self._process, *self._process.children(recursive=True)]:
                    size += process.memory_full_info().pss
            except psutil.Error:
                pass
            self._peak = max(self._peak, size)


if __name__ == "__main__":
    sys.exit(main())

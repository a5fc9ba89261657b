"""A job from its beginning to its end: planned, gone on with where it was, run by an engine, summed up."""

from __future__ import annotations

import contextlib
import datetime as dt
import fcntl
import hashlib
import json
from collections.abc import Callable, Generator, Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from delivery.places import Place
from fashion_common.served_model import CLASS_NAMES
from scoring.errors import ScoringError, ScoringUsageError
from scoring.models import Source
from scoring.parts import ERRORS_FILE, RECORDS, Parts, Record
from scoring.pieces import Piece, Plan, pieces, plan
from scoring.progress import Progress
from scoring.readers import Columns
from scoring.scorer import Job

JOB_FILE, MANIFEST_FILE = "_job.json", "_manifest.json"

# Runs pieces: gives what each became.
Engine = Callable[[Job, Iterable[Piece]], Generator[Record, None, None]]


@dataclass
class Totals:
    """What all pieces became together."""

    rows: int = 0
    errors: int = 0
    unreadable: int = 0
    parts: int = 0
    labelled: int = 0
    correct: int = 0
    classes: list[int] = field(default_factory=lambda: [0] * len(CLASS_NAMES))

    def add(self, record: Record) -> None:
        """One more."""
        self.rows += record.rows
        self.errors += record.errors
        self.parts += bool(record.part)
        self.unreadable += not record.part
        self.labelled += record.labelled
        self.correct += record.correct
        self.classes = [before + count for before, count in zip(self.classes, record.classes, strict=True)]


def run(
    inputs: Sequence[str],
    output: str,
    source: Source,
    engine: Engine,
    *,
    columns: Columns,
    labels: str = "",
    form: str = "parquet",
    progress: str = "none",
) -> dict[str, Any]:
    """Scores the inputs into a directory; what was begun there by the same job is gone on with. Gives the manifest.

    Raises ScoringError, ScoringUsageError; what is done stays, and the same call goes on from there.
    """
    place = Place.of(output)
    planned = plan(inputs)
    identity = source.identity()
    settings = {"columns": columns._asdict(), "labels": labels, "format": form}
    facts = {"model": identity._asdict(), "settings": settings, "input": planned.digest}
    digest = hashlib.sha256(json.dumps(facts, sort_keys=True).encode()).hexdigest()[:16]
    with _alone(place):
        _begin(place, facts)
        # The version that is the newest now, whichever is while the job runs.
        job = Job(source._replace(version=identity.version), identity, columns, labels, str(place), form, digest)
        _remove_torn(place)
        totals, shown = _run(job, place, inputs, planned, engine, progress)
        _remove_torn(place)
        manifest = _manifest(facts, inputs, totals, shown)
        _join_errors(place)
        with (place / MANIFEST_FILE).whole() as file:
            file.write(json.dumps(manifest, indent=2).encode())
    return manifest


def _run(
    job: Job, place: Place, inputs: Sequence[str], planned: Plan, engine: Engine, kind: str
) -> tuple[Totals, Progress]:
    parts, totals = Parts(place, job.digest, job.form), Totals()
    progress = Progress(kind, planned.rows)

    def left() -> Iterator[Piece]:
        progress.begin()
        for piece in planned.pieces or pieces(inputs):
            record = parts.done(piece)
            if record is None:
                yield piece
            else:
                totals.add(record)
                progress.skip(record.rows)

    try:
        with contextlib.closing(engine(job, left())) as records:
            for record in records:
                totals.add(record)
                progress.add(record.rows)
    finally:
        progress.end()
    return totals, progress


def _begin(place: Place, facts: dict[str, Any]) -> None:
    """Writes down what the output is of. Raises ScoringUsageError where it is of something else."""
    if place.is_local:
        (Path(place.path) / RECORDS).mkdir(parents=True, exist_ok=True)
    content = (place / JOB_FILE).read()
    if content is None:
        if place.fs.exists(place.path) and any(
            not name.rpartition("/")[2].startswith(("_", ".")) for name in place.fs.ls(place.path, detail=False)
        ):
            raise ScoringUsageError(f"{place} has files, and no {JOB_FILE}: give --output a directory of its own")
        with (place / JOB_FILE).whole() as file:
            file.write(json.dumps(facts, indent=2).encode())
        return
    before = json.loads(content)
    for key, what in (("model", "another model"), ("settings", "other settings"), ("input", "another input")):
        if before.get(key) != json.loads(json.dumps(facts[key])):
            texts = "" if key == "input" else f" ({_short(before.get(key))}, now {_short(facts[key])})"
            raise ScoringUsageError(f"{place} was begun with {what}{texts}: give another --output, or remove it")


def _short(facts: Any) -> str:
    return json.dumps(facts).replace('"', "")


@contextlib.contextmanager
def _alone(place: Place) -> Iterator[None]:
    """Keeps a second job out of a directory of this machine. Raises ScoringError when there is one."""
    if not place.is_local:
        yield
        return
    try:
        Path(place.path).mkdir(parents=True, exist_ok=True)
        lock = (Path(place.path) / "_lock").open("a")
    except OSError as error:
        raise ScoringUsageError(f"{place} cannot be written: {error.strerror}: give another --output") from error
    with lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            raise ScoringError(f"another job is writing {place}: wait for it, or give another --output") from error
        yield


def _remove_torn(place: Place) -> None:
    """Removes what killed jobs and workers had begun to write on this machine."""
    for pattern in (".part-*", "._*", f"{RECORDS}/.*") if place.is_local else ():
        for torn in Path(place.path).glob(pattern):
            torn.unlink(missing_ok=True)


def _manifest(facts: dict[str, Any], inputs: Sequence[str], totals: Totals, progress: Progress) -> dict[str, Any]:
    return {
        **facts,
        "inputs": list(inputs),
        "rows": totals.rows,
        "errors": totals.errors,
        "unreadable_files": totals.unreadable,
        "parts": totals.parts,
        "labelled": totals.labelled,
        "accuracy": totals.correct / totals.labelled if totals.labelled else None,
        "classes": dict(zip(CLASS_NAMES, totals.classes, strict=True)),
        "seconds": round(progress.seconds, 3),
        "rows_per_second": round(progress.rate, 1),
        "ended": dt.datetime.now(dt.timezone.utc).isoformat(timespec="seconds"),
    }


def _join_errors(place: Place) -> None:
    """All bad rows in one file; none without any."""
    files = sorted(place.fs.glob(f"{place.path}/{RECORDS}/*.errors.parquet"))
    target = place / ERRORS_FILE
    if not files:
        if place.fs.exists(target.path):
            place.fs.rm_file(target.path)
        return
    with contextlib.ExitStack() as opened:
        sources = [pq.ParquetFile(opened.enter_context(place.fs.open(path, "rb"))) for path in files]
        schema = pa.unify_schemas([source.schema_arrow for source in sources], promote_options="permissive")
        with target.whole() as file, pq.ParquetWriter(file, schema) as writer:
            for source in sources:
                table = pa.concat_tables([source.read(), schema.empty_table()], promote_options="permissive")
                writer.write_table(table.select(schema.names))

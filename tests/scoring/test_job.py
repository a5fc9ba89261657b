"""A job from its beginning to its end, with an engine that needs no model: what it is told, and what it leaves."""

from __future__ import annotations

import fcntl
import json
from collections.abc import Generator, Iterable
from datetime import datetime, timezone
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from delivery.places import Place
from fashion_common.layout import MANIFEST_FILE
from fashion_common.served_model import CLASS_NAMES
from scoring import ScoringError, ScoringUsageError
from scoring.job import run
from scoring.models import Outputs, Source
from scoring.parts import Parts, Record
from scoring.pieces import BAD, Piece
from scoring.readers import Columns, rows
from scoring.scorer import Job, Scorer
from tests.scoring.conftest import parquet
from tests.support.keys import write_version


class Engine:
    """Answers with the first pixel of each image. jobs, pieces: what it was given. breaks: before which piece."""

    def __init__(self, breaks: int | None = None) -> None:
        self.jobs: list[Job] = []
        self.pieces: list[Piece] = []
        self.is_closed = False
        self._breaks = breaks

    def __call__(self, job: Job, pieces: Iterable[Piece]) -> Generator[Record, None, None]:
        """As `scoring.local.run`."""
        self.jobs.append(job)
        parts = Parts(Place.of(job.output), job.digest, job.form)
        try:
            for piece in pieces:
                if piece.number == self._breaks:
                    raise ScoringError("broken")
                self.pieces.append(piece)
                if piece.kind == BAD:
                    yield parts.failed(piece, piece.error)
                    continue
                with parts.part(piece) as part:
                    for some in rows(piece, job.columns):
                        ids = some.pixels[:, 0, 0].astype(np.int64) % 10
                        part.add(some, Outputs(ids, np.eye(10, dtype=np.float32)[ids]), job.identity, job.labels)
                yield part.record
        finally:
            self.is_closed = True


@pytest.fixture
def source(tmp_path: Path) -> Source:
    """A version that no runtime reads."""
    return Source(str(write_version(tmp_path / "models/7").parent))


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Two files of 20 and 5 rows, and a broken one between them."""
    (tmp_path / "in").mkdir()
    parquet(tmp_path / "in/a.parquet", 20)
    (tmp_path / "in/b.parquet").write_bytes(b"PAR1")
    parquet(tmp_path / "in/c.parquet", 5)
    return tmp_path / "in"


def start(folder: Path, output: Path, source: Source, engine: Engine, **options: Any) -> dict[str, Any]:
    """The job's manifest."""
    return run([str(folder)], str(output), source, engine, **{"columns": Columns(), **options})


def test_the_manifest_says_all_of_a_job(folder: Path, tmp_path: Path, source: Source) -> None:
    """What it is of, and what became of it; it is in the output too, indented."""
    engine = Engine()
    began = datetime.now(timezone.utc).replace(microsecond=0)
    manifest = start(folder, tmp_path / "out", source, engine, labels="label", form="jsonl")
    text = (tmp_path / "out/_manifest.json").read_text()
    assert json.loads(text) == manifest
    assert text.startswith('{\n  "model"')
    assert began <= datetime.fromisoformat(manifest.pop("ended")) <= datetime.now(timezone.utc)
    seconds, rate = manifest.pop("seconds"), manifest.pop("rows_per_second")
    assert 0 < seconds < 60
    assert rate == pytest.approx(25 / seconds, rel=0.5)
    [job] = engine.jobs
    assert manifest == {
        "model": {"model": "fashion_mnist", "version": 7, "digest": job.identity.digest},
        "settings": {"columns": {"image": "", "preprocess": "auto"}, "labels": "label", "format": "jsonl"},
        "input": manifest["input"],
        "inputs": [str(folder)],
        "rows": 25,
        "errors": 1,
        "unreadable_files": 1,
        "parts": 2,
        "labelled": 25,
        "accuracy": 1.0,
        "classes": {name: 3 if number < 5 else 2 for number, name in enumerate(CLASS_NAMES)},
    }
    facts = {name: manifest[name] for name in ("model", "settings", "input")}
    assert (tmp_path / "out/_job.json").read_text() == json.dumps(facts, indent=2)


def test_an_engine_is_told_what_was_the_newest_version(folder: Path, tmp_path: Path, source: Source) -> None:
    """And where the output is; the digest of the job differs for each of its settings."""
    first, same, other = Engine(), Engine(), Engine()
    start(folder, tmp_path / "a", source, first)
    start(folder, tmp_path / "b", source, same)
    start(folder, tmp_path / "c", source, other, columns=Columns("image", "none"))
    [job] = first.jobs
    assert job == Job(
        source._replace(version=7), source.identity(), Columns(), "", str(tmp_path / "a"), "parquet", job.digest
    )
    assert len(job.digest) == 16
    assert same.jobs[0].digest == job.digest != other.jobs[0].digest
    assert [piece.number for piece in first.pieces] == [0, 1, 2]


def test_without_labels_there_is_no_accuracy(folder: Path, tmp_path: Path, source: Source) -> None:
    """As without a row whose label is known."""
    assert start(folder, tmp_path / "deep/out", source, Engine())["accuracy"] is None


def test_what_was_done_is_counted_and_not_done_again(
    folder: Path, tmp_path: Path, source: Source, capsys: pytest.CaptureFixture[str]
) -> None:
    """An engine that breaks is closed, and the way so far is told; the next one gets what is left."""
    breaking, rest = Engine(breaks=2), Engine()
    with pytest.raises(ScoringError, match="broken"):
        start(folder, tmp_path / "out", source, breaking, progress="json")
    assert breaking.is_closed
    last = json.loads(capsys.readouterr().err.splitlines()[-1])
    assert (last["rows"], last["total"]) == (20, 26)
    assert not (tmp_path / "out/_manifest.json").exists()
    manifest = start(folder, tmp_path / "out", source, rest, progress="json")
    assert [piece.number for piece in rest.pieces] == [2]
    assert (manifest["rows"], manifest["errors"], manifest["parts"], manifest["unreadable_files"]) == (25, 1, 2, 1)
    assert json.loads(capsys.readouterr().err.splitlines()[-1])["rows"] == 25
    again = Engine()
    assert start(folder, tmp_path / "out", source, again)["rows"] == 25
    assert (again.pieces, again.is_closed) == ([], True)


def test_a_plan_that_is_not_kept_is_listed_again(
    folder: Path, tmp_path: Path, source: Source, monkeypatch: pytest.MonkeyPatch
) -> None:
    """To the same pieces."""
    monkeypatch.setattr("scoring.pieces._KEPT_PIECES", 1)
    engine = Engine()
    assert start(folder, tmp_path / "out", source, engine)["rows"] == 25
    assert [piece.number for piece in engine.pieces] == [0, 1, 2]


def test_another_job_in_the_same_directory_is_told_from_this_one(folder: Path, tmp_path: Path, source: Source) -> None:
    """With what it was and what it is now; of the input there is only a digest."""
    start(folder, tmp_path / "out", source, Engine())
    identity = source.identity()
    other = Source(str(write_version(tmp_path / "models/8").parent))
    digest = other.identity().digest
    for arguments, text in (
        (
            {"source": other},
            (
                f"another model ({{model: fashion_mnist, version: 7, digest: {identity.digest}}}, now "
                f"{{model: fashion_mnist, version: 8, digest: {digest}}})"
            ),
        ),
        (
            {"source": Source(str(tmp_path / "models/7")), "form": "csv"},
            (
                "other settings ({columns: {image: , preprocess: auto}, labels: , format: parquet}, now "
                "{columns: {image: , preprocess: auto}, labels: , format: csv})"
            ),
        ),
        ({"source": Source(str(tmp_path / "models/7")), "folder": folder / "c.parquet"}, "another input"),
    ):
        settings: dict[str, Any] = {"folder": folder, "engine": Engine(), **arguments}
        with pytest.raises(ScoringUsageError) as error:
            start(output=tmp_path / "out", **settings)
        assert str(error.value) == (f"{tmp_path}/out was begun with {text}: give another --output, or remove it")
        assert settings["engine"].jobs == []


def test_an_output_is_a_directory_of_its_own(folder: Path, tmp_path: Path, source: Source) -> None:
    """Hidden files, and those that begin with _, may be there; another is somebody's."""
    output = tmp_path / "out"
    output.mkdir()
    for name in (".hidden", "_SUCCESS"):
        (output / name).touch()
    start(folder, output, source, Engine())
    assert (output / ".hidden").exists()
    other = tmp_path / "other"
    other.mkdir()
    (other / "mine.txt").touch()
    with pytest.raises(ScoringUsageError) as error:
        start(folder, other, source, Engine())
    assert str(error.value) == f"{other} has files, and no _job.json: give --output a directory of its own"
    (tmp_path / "file").touch()
    with pytest.raises(ScoringUsageError) as error:
        start(folder, tmp_path / "file", source, Engine())
    assert str(error.value) == f"{tmp_path}/file cannot be written: File exists: give another --output"


def test_one_job_at_a_time(folder: Path, tmp_path: Path, source: Source) -> None:
    """The second one is told to wait."""
    (tmp_path / "out").mkdir()
    with (tmp_path / "out/_lock").open("a") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        with pytest.raises(ScoringError) as error:
            start(folder, tmp_path / "out", source, Engine())
    assert str(error.value) == f"another job is writing {tmp_path}/out: wait for it, or give another --output"
    assert not isinstance(error.value, ScoringUsageError)
    assert start(folder, tmp_path / "out", source, Engine())["rows"] == 25


def test_what_killed_workers_had_begun_is_removed(folder: Path, tmp_path: Path, source: Source) -> None:
    """Before the job and after it: parts, records and manifests that are half written, and nothing else."""
    output = tmp_path / "out"
    torn = [".part-000000.parquet.x1", "._manifest.json.x2", "_parts/.000001.json.x3"]
    (output / "_parts").mkdir(parents=True)

    class Tearing(Engine):
        """Leaves some behind."""

        def __call__(self, job: Job, pieces: Iterable[Piece]) -> Generator[Record, None, None]:
            """As Engine, after it has looked at what is there."""
            self.found = [name for name in torn if (output / name).exists()]
            for name in torn:
                (output / name).touch()
            yield from super().__call__(job, pieces)

    for name in [*torn, ".mine"]:
        (output / name).touch()
    engine = Tearing()
    start(folder, output, source, engine)
    assert engine.found == []
    assert sorted(path.name for path in output.rglob(".*")) == [".mine"]


def test_bad_rows_of_all_pieces_are_in_one_file(tmp_path: Path, source: Source) -> None:
    """With the columns of all of them, in the order of the pieces; it goes when there are none any more."""
    folder = tmp_path / "in"
    folder.mkdir()
    cells = pa.array([b"no", b"picture"], pa.binary())
    pq.write_table(pa.table({"id": [1, 2], "image": cells}), folder / "a.parquet")
    pq.write_table(pa.table({"name": ["x", "y"], "image": cells}), folder / "b.parquet")
    start(folder, tmp_path / "out", source, Engine(), columns=Columns("image", "none"))
    table = pq.read_table(tmp_path / "out/_errors.parquet")
    no_picture = "not a picture (PNG, JPEG, GIF, BMP, TIFF, WebP, ...)"
    assert table.column_names == ["id", "error", "name"]
    assert table.to_pylist() == [
        {"id": 1, "name": None, "error": f"row 0: {no_picture}"},
        {"id": 2, "name": None, "error": f"row 1: {no_picture}"},
        {"id": None, "name": "x", "error": f"row 0: {no_picture}"},
        {"id": None, "name": "y", "error": f"row 1: {no_picture}"},
    ]
    for path in (tmp_path / "out/_parts").glob("*.errors.parquet"):
        path.unlink()
    start(folder, tmp_path / "out", source, Engine(), columns=Columns("image", "none"))
    assert not (tmp_path / "out/_errors.parquet").exists()


def test_a_model_is_known_by_its_files(tmp_path: Path) -> None:
    """The graph, and the variables; by the manifest's digests where it has them. What is beside them does not count."""

    def digest() -> str:
        return Source(str(tmp_path / "m/3")).identity().digest

    files = {"saved_model.pb": b"graph", "variables/variables.index": b"index"}
    version = write_version(tmp_path / "m/3", files)
    assert Source(str(tmp_path / "m")).identity() == Source(str(version)).identity()
    assert Source(str(version)).identity()[:2] == ("fashion_mnist", 3)
    digests = [digest()]
    assert len(digests[0]) == 16
    (version / "variables/more").write_bytes(b"1")
    digests.append(digest())
    (version / "saved_model.pb").write_bytes(b"graph2")
    digests.append(digest())
    (version / "model.tflite").write_bytes(b"lite")
    digests.append(digest())
    assert len(set(digests)) == 4
    (version / "assets").mkdir()
    (version / "assets/words").write_bytes(b"1")
    (version / "variables/deeper").mkdir()
    assert digest() == digests[-1]
    entries = {"saved_model.pb": {"sha256": "0" * 64, "bytes": 6}}
    write_version(version, {MANIFEST_FILE: json.dumps({"files": entries}).encode()})
    recorded = digest()
    assert recorded != digests[-1]
    (version / "saved_model.pb").write_bytes(b"other!")
    assert digest() == recorded
    (version / "variables/more").write_bytes(b"2")
    assert digest() != recorded


def test_a_worker_with_another_model_is_told(source: Source) -> None:
    """As on a node whose files are others: nothing is loaded."""
    here = source.identity()
    for other, told in (
        (here._replace(version=8, digest=""), "version 8 of fashion_mnist"),
        (here._replace(model="shoes", digest="00"), "version 7 of shoes (00)"),
    ):
        with pytest.raises(ScoringUsageError) as error:
            Scorer(Job(source, other, Columns(), "", "out", "parquet", "0"))
        assert str(error.value) == (f"version 7 of fashion_mnist ({here.digest}) is here, and the job has {told}")


def test_a_number_alone_is_no_version(tmp_path: Path) -> None:
    """Without a model in it, it is a model base path."""
    write_version(tmp_path / "5/2")
    write_version(tmp_path / "5/10")
    assert Source(str(tmp_path / "5")).identity().version == 10


def test_a_version_that_servers_are_asked_for_need_not_be_looked_up() -> None:
    """Nobody is asked."""
    source = Source(servers=("grpc://127.0.0.1:1",), model_name="shoes", version=4)
    assert source.identity() == ("shoes", 4, "")

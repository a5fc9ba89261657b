"""The output: a part's columns and rows, what is counted of it, and what an earlier run has left."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from delivery.places import Place
from scoring import ScoringUsageError
from scoring import parts as module
from scoring.models import Identity, Outputs
from scoring.parts import Parts, Record, scored
from scoring.pieces import Piece
from scoring.readers import Rows

MODEL = Identity("fashion_mnist", 7, "")
PIECE = Piece(3, "array", ("a.npy",), ("1",), 0, 4, 4)


def outputs(*class_ids: int) -> Outputs:
    """Answers with a probability of 0.75, and a quarter for the class behind it."""
    ids = np.array(class_ids, np.int64)
    probabilities = np.zeros((len(ids), 10), np.float32)
    probabilities[np.arange(len(ids)), ids] = 0.75
    probabilities[np.arange(len(ids)), (ids + 1) % 10] = 0.25
    return Outputs(ids, probabilities)


def some_rows(count: int, errors: dict[int, str] | None = None, **keys: Any) -> Rows:
    """Rows with an id and these columns."""
    return Rows(pa.table({"id": range(count), **keys}), np.zeros((count, 28, 28), np.uint8), errors or {})


def written(place: Path, form: str, *added: tuple[Rows, Outputs], labels: str = "") -> Record:
    """The record of a part with these rows."""
    (place / "_parts").mkdir(parents=True, exist_ok=True)
    with Parts(Place.of(str(place)), "job", form).part(PIECE) as part:
        for rows, answers in added:
            part.add(rows, answers, MODEL, labels)
    return part.record


def test_the_answers_stand_behind_the_carried_columns() -> None:
    """A row with an error has none of them but why."""
    table = scored(some_rows(3, {1: "torn"}), outputs(1, 2, 9), MODEL)
    assert table.schema == pa.schema(
        {
            "id": pa.int64(), "class_id": pa.int64(), "class_name": pa.string(), "probability": pa.float32(),
            "probabilities": pa.list_(pa.float32()), "model_version": pa.int64(), "error": pa.string(),
        }
    )  # fmt: skip
    first, second, third = table.to_pylist()
    assert first == {
        "id": 0, "class_id": 1, "class_name": "Trouser", "probability": 0.75,
        "probabilities": [0, 0.75, 0.25, 0, 0, 0, 0, 0, 0, 0], "model_version": 7, "error": None,
    }  # fmt: skip
    assert second == dict.fromkeys(first) | {"id": 1, "error": "torn"}
    assert third["probabilities"] == [0.25, 0, 0, 0, 0, 0, 0, 0, 0, 0.75]
    assert (third["class_id"], third["class_name"], third["error"]) == (9, "Ankle boot", None)
    assert scored(some_rows(1), outputs(0), MODEL).to_pylist()[0]["error"] is None


@pytest.mark.parametrize("name", ["class_id", "class_name", "probability", "probabilities", "model_version", "error"])
def test_a_carried_column_is_called_otherwise_than_the_answers(name: str) -> None:
    """It would hide one of them."""
    with pytest.raises(ScoringUsageError) as error:
        scored(some_rows(1, None, **{name: ["a"]}), outputs(0), MODEL)
    assert str(error.value) == f"the input has a column {name!r} already, which the answers have: rename it"


def test_of_several_such_columns_the_first_is_named() -> None:
    """By the alphabet, as an error is the same each time."""
    with pytest.raises(ScoringUsageError, match=r"^the input has a column 'class_id' already, "):
        scored(some_rows(1, None, error=["a"], class_id=["b"], probability=["c"]), outputs(0), MODEL)


def test_what_a_part_holds_is_recorded(tmp_path: Path) -> None:
    """Beside it, by the piece's number: its rows, errors, classes and bytes."""
    record = written(tmp_path, "parquet", (some_rows(2, {0: "torn"}), outputs(5, 1)), (some_rows(1), outputs(1)))
    part = tmp_path / "part-000003.parquet"
    digest = f"job-{PIECE.digest}"
    assert record == Record(digest, part.name, part.stat().st_size, 3, 1, 0, 0, [0, 2, *[0] * 8])
    text = (tmp_path / "_parts/000003.json").read_text()
    assert json.loads(text) == {
        "digest": digest, "part": part.name, "bytes": part.stat().st_size, "rows": 3, "errors": 1, "labelled": 0,
        "correct": 0, "classes": [0, 2, 0, 0, 0, 0, 0, 0, 0, 0],
    }  # fmt: skip
    assert text == record.to_json()
    assert pq.read_table(part).column("id").to_pylist() == [0, 1, 0]
    assert pq.read_table(tmp_path / "_parts/000003.errors.parquet").to_pylist() == [{"id": 0, "error": "torn"}]
    assert sorted(path.name for path in tmp_path.rglob("*")) == [
        "000003.errors.parquet", "000003.json", "_parts", "part-000003.parquet",
    ]  # fmt: skip


def test_bad_rows_are_listed_in_their_order(tmp_path: Path) -> None:
    """With the carried columns, which may differ from batch to batch; without bad rows there is no such file."""
    first = some_rows(3, {2: "c", 0: "a"}, name=["x", "y", "z"])
    second = Rows(pa.table({"id": [9]}), np.zeros((1, 28, 28), np.uint8), {0: "d"})
    place = Place.of(str(tmp_path))
    (tmp_path / "_parts").mkdir()
    with Parts(place, "job", "parquet").part(PIECE) as part:
        part.add(first, outputs(0, 0, 0), MODEL, "")
    assert pq.read_table(tmp_path / "_parts/000003.errors.parquet").to_pylist() == [
        {"id": 0, "name": "x", "error": "a"},
        {"id": 2, "name": "z", "error": "c"},
    ]
    written(tmp_path / "other", "jsonl", (second, outputs(0)))
    assert pq.read_table(tmp_path / "other/_parts/000003.errors.parquet").to_pylist() == [{"id": 9, "error": "d"}]
    written(tmp_path / "good", "parquet", (some_rows(1), outputs(0)))
    assert [path.name for path in (tmp_path / "good/_parts").iterdir()] == ["000003.json"]


def test_an_earlier_run_s_part_is_kept_when_it_is_of_the_same_job(tmp_path: Path) -> None:
    """And of the same piece, and is there as it was written."""
    place = Place.of(str(tmp_path))
    assert Parts(place, "job", "parquet").done(PIECE) is None
    record = written(tmp_path, "parquet", (some_rows(1), outputs(0)))
    assert Parts(place, "job", "parquet").done(PIECE) == record
    assert Parts(place, "other", "parquet").done(PIECE) is None
    changed = Piece(3, "array", ("a.npy",), ("2",), 0, 4, 4)
    assert Parts(place, "job", "parquet").done(changed) is None
    part = tmp_path / "part-000003.parquet"
    part.write_bytes(part.read_bytes() + b"x")
    assert Parts(place, "job", "parquet").done(PIECE) is None
    part.unlink()
    assert Parts(place, "job", "parquet").done(PIECE) is None


def test_a_piece_that_cannot_be_read_has_no_part(tmp_path: Path) -> None:
    """Its file is among the errors; it is done all the same."""
    place = Place.of(str(tmp_path))
    (tmp_path / "_parts").mkdir()
    record = Parts(place, "job", "parquet").failed(PIECE, "a.npy cannot be read: no")
    assert record == Record(f"job-{PIECE.digest}", errors=1)
    assert (record.part, record.bytes, record.rows, record.classes) == ("", 0, 0, [0] * 10)
    assert pq.read_table(tmp_path / "_parts/000003.errors.parquet").to_pylist() == [
        {"path": "a.npy", "error": "a.npy cannot be read: no"}
    ]
    assert Parts(place, "job", "parquet").done(PIECE) == record


def test_a_part_that_breaks_off_is_not_there(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Nor is its record."""
    monkeypatch.setattr(module, "_ROW_GROUP", 4)
    (tmp_path / "_parts").mkdir()

    def broken() -> None:
        with Parts(Place.of(str(tmp_path)), "job", "jsonl").part(PIECE) as part:
            part.add(some_rows(module._ROW_GROUP), outputs(*[0] * module._ROW_GROUP), MODEL, "")
            raise ValueError("torn")

    with pytest.raises(ValueError, match="torn"):
        broken()
    assert [path.name for path in tmp_path.rglob("*")] == ["_parts"]


def test_row_groups_have_65536_rows(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Here 4: rows are written when there are as many."""
    assert module._ROW_GROUP == 65_536
    monkeypatch.setattr(module, "_ROW_GROUP", 4)
    added = [(some_rows(count), outputs(*[0] * count)) for count in (2, 1, 1, 3, 2, 1)]
    written(tmp_path, "parquet", *added)
    facts = pq.read_metadata(tmp_path / "part-000003.parquet")
    assert [facts.row_group(index).num_rows for index in range(facts.num_row_groups)] == [4, 5, 1]


def test_a_part_without_rows_is_empty(tmp_path: Path) -> None:
    """No file is made for it."""
    record = written(tmp_path, "parquet")
    assert (record.bytes, record.rows) == (0, 0)
    assert not (tmp_path / "part-000003.parquet").exists()


def test_texts_are_kept_once(tmp_path: Path) -> None:
    """Names of classes and carried texts by their number; probabilities and ids as they are."""
    written(tmp_path, "parquet", (some_rows(3, name=["a", "a", "b"]), outputs(0, 0, 0)))
    group = pq.read_metadata(tmp_path / "part-000003.parquet").row_group(0)
    encodings = {
        group.column(index).path_in_schema: "RLE_DICTIONARY" in group.column(index).encodings
        for index in range(group.num_columns)
    }
    assert [name for name, is_kept in encodings.items() if is_kept] == ["name", "class_name", "error"]


LABELS: list[tuple[Any, tuple[int, int]]] = [
    ([0, 1, 5, 3], (3, 2)),
    ([0, None, 2, 3], (2, 2)),
    (["T-shirt/top", "Dress", "Pullover", "Coat"], (3, 2)),
    (["0", "x", "2", None], (2, 2)),
    (pa.array(["0", "1", "-2", "3"], pa.large_string()), (2, 2)),
]


@pytest.mark.parametrize(("column", "counts"), LABELS)
def test_labels_are_ids_or_names(tmp_path: Path, column: Any, counts: tuple[int, int]) -> None:
    """What is neither is not known; a row with an error, the last here, is right in no case."""
    rows = some_rows(4, {3: "torn"}, label=column)
    record = written(tmp_path, "parquet", (rows, outputs(0, 1, 2, 3)), (rows, outputs(0, 1, 2, 3)), labels="label")
    assert (record.labelled, record.correct) == (2 * counts[0], 2 * counts[1])
    assert (record.rows, record.errors) == (8, 2)
    assert record.classes == [2, 2, 2, *[0] * 7]


def test_a_column_of_labels_must_be_there(tmp_path: Path) -> None:
    """Those that are there are named."""
    with pytest.raises(ScoringUsageError) as error:
        written(tmp_path, "parquet", (some_rows(1, name=["a"]), outputs(0)), labels="label")
    assert str(error.value) == "there is no column 'label' of labels: there are id, name"


def test_csv_has_lists_as_json(tmp_path: Path) -> None:
    """Carried ones too, and the few digits of float32; a header once."""
    added = (some_rows(2, {1: "torn"}, tags=[["a"], None]), outputs(1, 2))
    record = written(tmp_path, "csv", added, added)
    lines = (tmp_path / "part-000003.csv").read_text().splitlines()
    first = '0,"[""a""]",1,"Trouser",0.75,"[0.0, 0.75, 0.25, 0.0, 0.0, 0.0, 0.0, 0.0, 0.0, 0.0]",7,'
    assert lines == [
        '"id","tags","class_id","class_name","probability","probabilities","model_version","error"',
        *[first, '1,,,,,,,"torn"'] * 2,
    ]
    assert record.bytes == (tmp_path / "part-000003.csv").stat().st_size


def test_json_lines_have_every_column(tmp_path: Path) -> None:
    """What JSON has no form for is text."""
    rows = some_rows(2, {1: "torn"}, day=pa.array([0, 1], pa.date32()))
    record = written(tmp_path, "jsonl", (rows, outputs(1, 2)))
    content = (tmp_path / "part-000003.jsonl").read_text()
    first, second = map(json.loads, content.splitlines())
    assert first == {
        "id": 0, "day": "1970-01-01", "class_id": 1, "class_name": "Trouser", "probability": 0.75,
        "probabilities": [0.0, 0.75, 0.25, *[0.0] * 7], "model_version": 7, "error": None,
    }  # fmt: skip
    assert (second["probabilities"], second["error"]) == (None, "torn")
    assert content.endswith("}\n")
    assert record.bytes == len(content)

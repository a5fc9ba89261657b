"""The output: a part for each piece, and beside it what it holds; both appear whole or not at all."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import asdict, dataclass, field
from typing import Any, BinaryIO, Protocol

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from delivery.places import Place
from fashion_common.served_model import CLASS_NAMES
from scoring.errors import ScoringUsageError
from scoring.models import Identity, Outputs
from scoring.pieces import Piece
from scoring.readers import PATH, Rows

# Readers of data sets pass over what begins so.
RECORDS, ERRORS_FILE = "_parts", "_errors.parquet"
_ERROR = "error"
_COLUMNS = ("class_id", "class_name", "probability", "probabilities", "model_version", _ERROR)
# Rows of a row group, as its readers like them.
_ROW_GROUP = 2**16
_NAMES = pa.array(CLASS_NAMES)


@dataclass
class Record:
    """What a piece became. digest: of the job and the piece. bytes: of the part; 0 for none.

    labelled, correct: rows whose label is known, and those of them that got it.
    """

    digest: str
    part: str = ""
    bytes: int = 0
    rows: int = 0
    errors: int = 0
    labelled: int = 0
    correct: int = 0
    classes: list[int] = field(default_factory=lambda: [0] * len(CLASS_NAMES))

    def to_json(self) -> str:
        """One line."""
        return json.dumps(asdict(self))


class Parts:
    """The parts of a job in a directory. digest: of the job. form: parquet, csv or jsonl."""

    def __init__(self, place: Place, digest: str, form: str) -> None:
        self._place = place
        self._digest = digest
        self._form = form

    def done(self, piece: Piece) -> Record | None:
        """What a piece became in an earlier run of the same job; None where it is not done. Raises OSError."""
        content = (self._place / RECORDS / f"{piece.number:06d}.json").read()
        if content is None:
            return None
        record = Record(**json.loads(content))
        part = self._place / record.part
        is_there = not record.part or (part.fs.exists(part.path) and part.fs.size(part.path) == record.bytes)
        return record if record.digest == self._of(piece) and is_there else None

    @contextmanager
    def part(self, piece: Piece) -> Iterator[Part]:
        """Takes a piece's rows; the part and its record are there when the block ends well. Raises ScoringError."""
        name = f"part-{piece.number:06d}.{self._form}"
        record = Record(self._of(piece), name)
        with ExitStack() as stack:
            part = Part(record, lambda: stack.enter_context((self._place / name).whole()), self._form)
            yield part
            part.end()
        self._keep(piece, record, part.bad)

    def failed(self, piece: Piece, error: str) -> Record:
        """Of a piece that cannot be read there is nothing but its file among the errors."""
        record = Record(self._of(piece), errors=1)
        self._keep(piece, record, [pa.table({PATH: [piece.files[0]], _ERROR: [error]})])
        return record

    def _keep(self, piece: Piece, record: Record, bad: list[pa.Table]) -> None:
        """Writes what a piece became, last."""
        errors = self._place / RECORDS / f"{piece.number:06d}.errors.parquet"
        if bad:
            with errors.whole() as file:
                pq.write_table(pa.concat_tables(bad, promote_options="permissive"), file)
        with (self._place / RECORDS / f"{piece.number:06d}.json").whole() as file:
            file.write(record.to_json().encode())

    def _of(self, piece: Piece) -> str:
        return f"{self._digest}-{piece.digest}"


class _Format(Protocol):
    def write_table(self, table: pa.Table) -> None: ...

    def close(self) -> None: ...


class Part:
    """Rows of a part, as they come. record: of them. bad: those that have errors. new_file: makes the file."""

    def __init__(self, record: Record, new_file: Callable[[], BinaryIO], form: str) -> None:
        self.record = record
        self.bad: list[pa.Table] = []
        self._new_file = new_file
        self._form = form
        self._file: BinaryIO | None = None
        self._writer: _Format | None = None
        self._waiting: list[pa.Table] = []

    def add(self, rows: Rows, outputs: Outputs, identity: Identity, labels: str) -> None:
        """Rows in the input's order. outputs: of all of them; those of rows with errors do not count.

        labels: the column of the right class ids or names, "" for none. Raises ScoringUsageError.
        """
        table = scored(rows, outputs, identity)
        self._count(rows, outputs, labels)
        self._waiting.append(table)
        if sum(map(len, self._waiting)) >= _ROW_GROUP:
            self._write()
        if rows.errors:
            self.bad.append(table.take(sorted(rows.errors)).select([*rows.keys.column_names, _ERROR]))

    def end(self) -> None:
        """All rows are there."""
        if self._waiting:
            self._write()
        if self._writer is not None and self._file is not None:
            self._writer.close()
            self._file.flush()
            self.record.bytes = self._file.tell()

    def _write(self) -> None:
        table = pa.concat_tables(self._waiting)
        self._waiting.clear()
        if self._writer is None:
            self._file = self._new_file()
            self._writer = _WRITERS[self._form](self._file, table.schema)
        self._writer.write_table(table)

    def _count(self, rows: Rows, outputs: Outputs, labels: str) -> None:
        record = self.record
        good = np.ones(len(outputs.class_ids), bool)
        good[list(rows.errors)] = False
        record.rows += len(good)
        record.errors += len(rows.errors)
        counts = np.bincount(outputs.class_ids[good], minlength=len(CLASS_NAMES))
        record.classes = [before + int(count) for before, count in zip(record.classes, counts, strict=True)]
        if labels:
            known, right = _labels(rows.keys, labels)
            record.labelled += int((known & good).sum())
            record.correct += int((known & good & (right == outputs.class_ids)).sum())


def scored(rows: Rows, outputs: Outputs, identity: Identity) -> pa.Table:
    """The carried columns, and behind them the answers. Raises ScoringUsageError for a column that is in both."""
    taken = sorted(set(rows.keys.column_names).intersection(_COLUMNS))
    if taken:
        raise ScoringUsageError(f"the input has a column {taken[0]!r} already, which the answers have: rename it")
    count = len(outputs.class_ids)
    mask = None
    if rows.errors:
        mask = np.zeros(count, bool)
        mask[list(rows.errors)] = True
    likeliest = outputs.probabilities[np.arange(count), outputs.class_ids]
    ids = pa.array(outputs.class_ids, mask=mask)
    width = outputs.probabilities.shape[1]
    offsets = np.arange(0, (count + 1) * width, width, dtype=np.int32)
    values = pa.array(outputs.probabilities.reshape(-1))
    lists = pa.ListArray.from_arrays(offsets, values, mask=None if mask is None else pa.array(mask))
    errors = pa.array([rows.errors.get(row) for row in range(count)], pa.string()) if rows.errors else None
    answers = (
        ids,
        _NAMES.take(ids),
        pa.array(likeliest, mask=mask),
        lists,
        pa.array(np.full(count, identity.version), mask=mask),
        pa.nulls(count, pa.string()) if errors is None else errors,
    )
    table = rows.keys
    for name, column in zip(_COLUMNS, answers, strict=True):
        table = table.append_column(name, column)
    return table


def _labels(keys: pa.Table, name: str) -> tuple[np.ndarray[Any, Any], np.ndarray[Any, Any]]:
    """Whether each row has a label, and the label as a class id."""
    if name not in keys.column_names:
        raise ScoringUsageError(f"there is no column {name!r} of labels: there are {', '.join(keys.column_names)}")
    column = keys.column(name).combine_chunks()
    if pa.types.is_string(column.type) or pa.types.is_large_string(column.type):
        values = [CLASS_NAMES.index(text) if text in CLASS_NAMES else _number(text) for text in column.to_pylist()]
    else:
        values = [None if value is None else int(value) for value in column.to_pylist()]
    known = np.array([value is not None for value in values], bool)
    return known, np.array([-1 if value is None else value for value in values], np.int64)


def _number(text: str | None) -> int | None:
    return int(text) if text is not None and text.isdecimal() else None


def _parquet(file: BinaryIO, schema: pa.Schema) -> _Format:
    # Probabilities and keys hardly repeat: to look for that takes half of the time.
    texts = [field.name for field in schema if pa.types.is_string(field.type)]
    writer: _Format = pq.ParquetWriter(file, schema, use_dictionary=texts)
    return writer


def _csv(file: BinaryIO, _: pa.Schema) -> _Format:
    from pyarrow import csv

    class Writer:
        """Lists as JSON: CSV has none."""

        def __init__(self) -> None:
            self._writer: Any = None

        def write_table(self, table: pa.Table) -> None:
            table = _short(table)
            for index, column in enumerate(table.columns):
                if pa.types.is_nested(column.type):
                    texts = [None if cell is None else json.dumps(cell) for cell in column.to_pylist()]
                    table = table.set_column(index, table.column_names[index], pa.array(texts, pa.string()))
            if self._writer is None:
                self._writer = csv.CSVWriter(file, table.schema)
            self._writer.write_table(table)

        def close(self) -> None:
            if self._writer is not None:
                self._writer.close()

    return Writer()


def _jsonl(file: BinaryIO, _: pa.Schema) -> _Format:
    class Writer:
        """A row a line."""

        def write_table(self, table: pa.Table) -> None:
            file.writelines(json.dumps(row, default=str).encode() + b"\n" for row in _short(table).to_pylist())

        def close(self) -> None:
            pass

    return Writer()


def _short(table: pa.Table) -> pa.Table:
    """The probabilities as few digits have them: those of float32."""
    name = "probabilities"
    index, column = table.column_names.index(name), table.column(name).combine_chunks()
    values = column.values.cast(pa.string()).cast(pa.float64())
    lists = pa.ListArray.from_arrays(column.offsets, values, mask=column.is_null())
    return table.set_column(index, name, lists)


_WRITERS: Mapping[str, Callable[[BinaryIO, pa.Schema], _Format]] = {
    "parquet": _parquet,
    "csv": _csv,
    "jsonl": _jsonl,
}

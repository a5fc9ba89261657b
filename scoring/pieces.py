"""The input in pieces: what is read, scored and written at a time, always the same for the same files."""

from __future__ import annotations

import contextlib
import gzip
import hashlib
import json
import struct
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import asdict, dataclass
from pathlib import PurePath
from typing import Any

from client.pictures.sources import PICTURES, is_idx
from delivery.places import Place, stamp
from fashion_common.served_model import IMAGE_SHAPE
from scoring.errors import ScoringUsageError

# Rows of a piece, where the input does not say: some seconds of work, which is what a kill can cost.
ARRAY_ROWS, PICTURE_ROWS = 100_000, 5_000
# Pieces that a plan keeps: of pictures, half a megabyte each.
_KEPT_PIECES = 100
PARQUET, ARRAY, IDX, LIST, PICTURE, BAD = "parquet", "array", "idx", "list", "pictures", "bad"
_KINDS = {".parquet": PARQUET, ".npy": ARRAY, ".csv": LIST, ".jsonl": LIST, ".ndjson": LIST}
_MAGIC = frozenset("*?[")
# uint8, three axes (http://yann.lecun.com/exdb/mnist/).
_IDX_MAGIC = 0x803


@dataclass(frozen=True)
class Piece:
    """Some rows of the input, in order.

    number: its place in the input. kind: of its files. files: their addresses; of pictures, one for each row. stamps:
    what they were when they were listed. begin, end: its rows, or row groups of a Parquet file, or bytes of a list.
    rows: how many. error: why a BAD one cannot be read.
    """

    number: int
    kind: str
    files: tuple[str, ...]
    stamps: tuple[str, ...]
    begin: int
    end: int
    rows: int
    error: str = ""

    @property
    def digest(self) -> str:
        """Differs for other files, other rows, and files that have changed."""
        return hashlib.sha256(self.to_json().encode()).hexdigest()[:16]

    def to_json(self) -> str:
        """One line, which `from_json` reads."""
        return json.dumps(asdict(self))

    @classmethod
    def from_json(cls, text: str) -> Piece:
        """What `to_json` gave."""
        fields = json.loads(text)
        return cls(**{**fields, "files": tuple(fields["files"]), "stamps": tuple(fields["stamps"])})


@dataclass(frozen=True)
class Plan:
    """What the input is in all: its digest and its rows. pieces: all of them, None where there are too many."""

    digest: str
    rows: int
    pieces: Sequence[Piece] | None


def plan(inputs: Sequence[str]) -> Plan:
    """Lists the input once. Raises ScoringUsageError for an input without a row, or that is not there."""
    digest, rows = hashlib.sha256(), 0
    kept: list[Piece] = []
    for piece in pieces(inputs):
        digest.update(piece.digest.encode())
        rows += piece.rows
        if len(kept) <= _KEPT_PIECES:
            kept.append(piece)
    if not kept:
        raise ScoringUsageError(f"{', '.join(inputs)}: no rows in it")
    return Plan(digest.hexdigest()[:16], rows, kept if len(kept) <= _KEPT_PIECES else None)


def pieces(inputs: Sequence[str]) -> Iterator[Piece]:
    """The pieces of all inputs, listed as they are taken: there may be millions of files.

    A file that cannot be read is a BAD piece. Raises ScoringUsageError for an input that is not there.
    """
    number = 0
    for text in inputs:
        for make in _input(text):
            yield make(number)
            number += 1


_Make = Callable[[int], Piece]


def _input(text: str) -> Iterator[_Make]:
    place = Place.of(text)
    try:
        files = _files(place, text)
    except OSError as error:
        raise ScoringUsageError(f"{text} cannot be read: {error.strerror or error}") from error
    yield from _grouped(files)


def _files(place: Place, text: str) -> Iterator[tuple[Place, str]]:
    """The files of an input with their stamps, sorted; those that have a kind, unless they are named."""
    fs = place.fs
    if _MAGIC.intersection(place.path) and not fs.exists(place.path):
        found = {path: info for path, info in fs.glob(place.path, detail=True).items() if info["type"] == "file"}
        if not found:
            raise ScoringUsageError(f"{text}: nothing matches")
        return iter([(Place(fs, path), stamp(info)) for path, info in sorted(found.items())])
    if not fs.exists(place.path):
        raise ScoringUsageError(f"{text}: there is no such file or directory")
    if fs.isdir(place.path):
        return _tree(place)
    if _kind(place.path) == BAD:
        raise ScoringUsageError(
            f"{text}: no kind of file that can be scored: give Parquet, .npy, IDX, pictures, or .csv or .jsonl of paths"
        )
    return iter([(place, place.stamp())])


def _tree(place: Place) -> Iterator[tuple[Place, str]]:
    for folder, folders, files in place.fs.walk(place.path, detail=True):
        # In place: the walk goes by what stays. What begins with _ or . is no data, as in every tool of the field.
        for name in [name for name in folders if name.startswith(("_", "."))]:
            del folders[name]
        ordered = dict(sorted(folders.items()))
        folders.clear()
        folders.update(ordered)
        for name, info in sorted(files.items()):
            if not name.startswith(("_", ".")) and _kind(name) != BAD:
                yield Place(place.fs, f"{folder.rstrip('/')}/{name}"), stamp(info)


def _kind(path: str) -> str:
    if is_idx(path):
        return IDX
    suffix = PurePath(path).suffix.lower()
    return PICTURE if suffix in PICTURES else _KINDS.get(suffix, BAD)


def _grouped(files: Iterable[tuple[Place, str]]) -> Iterator[_Make]:
    """Pieces of files: neighbouring pictures together, the others alone."""
    pictures: list[tuple[Place, str]] = []
    for place, mark in files:
        kind = _kind(place.path)
        if kind == PICTURE:
            pictures.append((place, mark))
            if len(pictures) == PICTURE_ROWS:
                yield _picture_piece(pictures)
                pictures = []
            continue
        if pictures:
            yield _picture_piece(pictures)
            pictures = []
        try:
            spans = list(_SPANS[kind](place))
        except Exception as error:  # noqa: BLE001 - whatever a reader says of a broken file
            yield _bad(place, mark, error)
            continue
        for begin, end, rows in spans:
            yield _piece(kind, (str(place),), (mark,), begin, end, rows)
    if pictures:
        yield _picture_piece(pictures)


def _picture_piece(pictures: Sequence[tuple[Place, str]]) -> _Make:
    files, marks = tuple(str(place) for place, _ in pictures), tuple(mark for _, mark in pictures)
    return _piece(PICTURE, files, marks, 0, len(files), len(files))


def _piece(kind: str, files: tuple[str, ...], marks: tuple[str, ...], begin: int, end: int, rows: int) -> _Make:
    return lambda number: Piece(number, kind, files, marks, begin, end, rows)


def _bad(place: Place, mark: str, error: Exception) -> _Make:
    reason = " ".join(str(error).split()) or type(error).__name__
    return lambda number: Piece(number, BAD, (str(place),), (mark,), 0, 0, 1, f"{place} cannot be read: {reason}")


def _parquet_spans(place: Place) -> Iterator[tuple[int, int, int]]:
    """Row groups, small ones together."""
    import pyarrow.parquet as pq

    with place.fs.open(place.path, "rb") as file, pq.ParquetFile(file) as parquet:
        sizes = [parquet.metadata.row_group(index).num_rows for index in range(parquet.num_row_groups)]
    begin, rows = 0, 0
    for index, size in enumerate(sizes):
        if rows and rows + size > ARRAY_ROWS:
            yield begin, index, rows
            begin, rows = index, 0
        rows += size
    if rows:
        yield begin, len(sizes), rows


def _array_spans(place: Place) -> Iterator[tuple[int, int, int]]:
    from numpy.lib import format as npy

    with place.fs.open(place.path, "rb") as file:
        version = npy.read_magic(file)
        shape, fortran, dtype = (npy.read_array_header_1_0 if version == (1, 0) else npy.read_array_header_2_0)(file)
    if dtype != "uint8" or fortran or tuple(shape[1:]) not in (IMAGE_SHAPE, (*IMAGE_SHAPE, 1), (784,)):
        raise ValueError(f"an array of {dtype} {list(shape)}: expected uint8 [N, 28, 28]")
    return _row_spans(shape[0])


def _idx_spans(place: Place) -> Iterator[tuple[int, int, int]]:
    with idx_file(place) as file:
        magic, count, *shape = struct.unpack(">4I", file.read(16))
    if magic != _IDX_MAGIC or tuple(shape) != IMAGE_SHAPE:
        raise ValueError("not an IDX file of uint8 [N, 28, 28]")
    return _row_spans(count)


@contextlib.contextmanager
def idx_file(place: Place) -> Iterator[Any]:
    """An IDX file, unpacked where it is gzipped."""
    with place.fs.open(place.path, "rb") as raw:
        is_gzip = raw.read(2) == b"\x1f\x8b"
        raw.seek(0)
        if is_gzip:
            with gzip.GzipFile(fileobj=raw) as file:
                yield file
        else:
            yield raw


def _row_spans(count: int) -> Iterator[tuple[int, int, int]]:
    for begin in range(0, count, ARRAY_ROWS):
        end = min(begin + ARRAY_ROWS, count)
        yield begin, end, end - begin


def _list_spans(place: Place) -> Iterator[tuple[int, int, int]]:
    """Bytes of whole lines; the header of CSV is in none."""
    with place.fs.open(place.path, "rb") as file:
        position = len(file.readline()) if place.path.lower().endswith(".csv") else 0
        begin, rows = position, 0
        for line in file:
            position += len(line)
            rows += bool(line.strip())
            if rows == PICTURE_ROWS:
                yield begin, position, rows
                begin, rows = position, 0
        if rows:
            yield begin, position, rows


_SPANS = {PARQUET: _parquet_spans, ARRAY: _array_spans, IDX: _idx_spans, LIST: _list_spans}

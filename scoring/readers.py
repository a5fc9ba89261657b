"""A piece's rows: the columns that are carried through, and of each picture its pixels or why there are none."""

from __future__ import annotations

import csv
import io
import json
from collections.abc import Callable, Iterator, Sequence
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from client.types import IMAGE_BYTES, Preprocess
from delivery.places import Place
from scoring.decoders import Decode, Picture, decoded
from scoring.errors import ScoringError, ScoringUsageError
from scoring.pieces import ARRAY, BAD, IDX, LIST, PARQUET, PICTURE, Piece, idx_file

# Rows that are read and run together: what they take as float32 stays in a processor's second cache.
BATCH_ROWS = 1024
PATH, ROW = "path", "row"
# How files of PNG, JPEG, GIF, TIFF and WebP begin: https://en.wikipedia.org/wiki/List_of_file_signatures
_SIGNATURES = (b"\x89PNG\r\n", b"\xff\xd8\xff", b"GIF8", b"II*\0", b"MM\0*", b"RIFF")
# An error quotes so many characters.
_QUOTED = 60
_IDX_HEADER = 16


class Rows(NamedTuple):
    """Some rows. keys: the carried columns. pixels: uint8 [N, 28, 28]. errors: why a row has none, by its place."""

    keys: pa.Table
    pixels: npt.NDArray[np.uint8]
    errors: dict[int, str]


class _Encoded(NamedTuple):
    """Some rows whose pictures are not decoded yet."""

    keys: pa.Table
    pictures: list[Picture]


class Columns(NamedTuple):
    """What the options say of columns. image: of pictures, or of paths in a list; "" for the only one that can be."""

    image: str = ""
    preprocess: Preprocess = "auto"


def rows(piece: Piece, columns: Columns, decode: Decode = decoded) -> Iterator[Rows]:
    """The rows of a piece, in order, some at a time. decode: of pictures.

    Raises ScoringError when a file is not what it was when the job began, or cannot be read any more.
    """
    if piece.kind == BAD:
        raise UnreadableError(piece.error)
    place = Place.of(piece.files[0])
    try:
        for some in _READERS[piece.kind](piece, place, columns):
            yield some if isinstance(some, Rows) else _decoded(some, decode(some.pictures, columns.preprocess))
        _check_unchanged(piece)
    except (OSError, pa.ArrowException, EOFError, UnicodeDecodeError, csv.Error) as error:
        _check_unchanged(piece)
        raise UnreadableError(f"{place} cannot be read: {' '.join(str(error).split())}") from error


class UnreadableError(ScoringError):
    """A file that breaks off or is damaged: its piece has no rows, and the job goes on."""


def _check_unchanged(piece: Piece) -> None:
    if piece.kind == PICTURE:
        # Each is looked at as it is read.
        return
    for file, mark in zip(piece.files, piece.stamps, strict=True):
        _check_stamp(Place.of(file), mark)


def _check_stamp(place: Place, mark: str) -> None:
    try:
        now = place.stamp()
    except OSError:
        now = ""
    if now != mark:
        raise ScoringError(f"{place} has changed since the job began: begin another one, with another --output")


def _parquet(piece: Piece, place: Place, columns: Columns) -> Iterator[Rows | _Encoded]:
    import pyarrow.parquet as pq

    with place.fs.open(place.path, "rb") as file, pq.ParquetFile(file) as parquet:
        image = _image_column(parquet.schema_arrow, columns.image, place)
        for batch in parquet.iter_batches(BATCH_ROWS, row_groups=range(piece.begin, piece.end), use_threads=False):
            yield _of_table(pa.Table.from_batches([batch]), image)


def _image_column(schema: pa.Schema, name: str, place: Place) -> str:
    if name:
        if name not in schema.names:
            raise ScoringUsageError(
                f"{place} has no column {name!r}: it has {', '.join(schema.names)} (--image-column)"
            )
        return name
    found = [field.name for field in schema if _is_picture(field.type)]
    if len(found) != 1:
        what = f"several columns that may be pictures ({', '.join(found)})" if found else "no column of pictures"
        raise ScoringUsageError(f"{place} has {what}: name one of {', '.join(schema.names)} with --image-column")
    return str(found[0])


def _is_picture(kind: pa.DataType) -> bool:
    """Bytes; a list of 784 uint8; Hugging Face's struct of `bytes` and `path`."""
    if pa.types.is_struct(kind):
        return bool(kind.get_field_index("bytes") >= 0)
    is_list = pa.types.is_list(kind) or pa.types.is_large_list(kind) or pa.types.is_fixed_size_list(kind)
    is_bytes = pa.types.is_binary(kind) or pa.types.is_large_binary(kind) or pa.types.is_fixed_size_binary(kind)
    return is_bytes or (is_list and bool(kind.value_type == pa.uint8()))


def _of_table(table: pa.Table, image: str) -> Rows | _Encoded:
    column = table.column(image).combine_chunks()
    if isinstance(column, pa.ChunkedArray):
        column = column.chunk(0) if column.num_chunks else pa.array([], column.type)
    keys = table.drop_columns([image])
    if pa.types.is_struct(column.type):
        column = pc.struct_field(column, "bytes")
    pixels = _raw_pixels(column)
    if pixels is not None:
        return Rows(keys, pixels, {})
    return _Encoded(keys, [_cell(cell, row) for row, cell in enumerate(column.to_pylist())])


def _raw_pixels(column: pa.Array) -> npt.NDArray[np.uint8] | None:
    """The bytes of rows that all have 784, without a copy; None where some have not."""
    count = len(column)
    if column.null_count:
        return None
    if pa.types.is_fixed_size_binary(column.type) or pa.types.is_fixed_size_list(column.type):
        width = column.type.byte_width if pa.types.is_fixed_size_binary(column.type) else column.type.list_size
        if width != IMAGE_BYTES:
            return None
        data = column.buffers()[-1]
        begin = column.offset * width
    else:
        wide = pa.types.is_large_binary(column.type) or pa.types.is_large_list(column.type)
        offsets = np.frombuffer(column.buffers()[1], np.int64 if wide else np.int32)
        offsets = offsets[column.offset : column.offset + count + 1]
        if not np.array_equal(np.diff(offsets), np.full(count, IMAGE_BYTES)):
            return None
        data, begin = column.buffers()[-1], int(offsets[0]) if count else 0
        if _is_file(data.slice(begin, min(len(data) - begin, IMAGE_BYTES)).to_pybytes()):
            return None
    return np.frombuffer(data, np.uint8)[begin : begin + count * IMAGE_BYTES].reshape(count, 28, 28)


def _is_file(content: bytes) -> bool:
    """Whether 784 bytes are a picture's file: one in some hundred of 28x28 is as large."""
    return content.startswith(_SIGNATURES)


def _cell(cell: Any, row: int) -> Picture:
    if cell is None:
        return Picture("", b"", "no picture: the cell is empty")
    content = bytes(cell)
    return Picture(f"row {row}", content, is_raw=len(content) == IMAGE_BYTES and not _is_file(content))


def _array(piece: Piece, place: Place, _: Columns) -> Iterator[Rows]:
    from numpy.lib import format as npy

    with place.fs.open(place.path, "rb") as file:
        version = npy.read_magic(file)
        (npy.read_array_header_1_0 if version == (1, 0) else npy.read_array_header_2_0)(file)
        yield from _raw_rows(file, file.tell(), piece, place)


def _idx(piece: Piece, place: Place, _: Columns) -> Iterator[Rows]:
    with idx_file(place) as file:
        yield from _raw_rows(file, _IDX_HEADER, piece, place)


def _raw_rows(file: Any, header: int, piece: Piece, place: Place) -> Iterator[Rows]:
    """Rows of 784 bytes that begin after `header` bytes."""
    file.seek(header + piece.begin * IMAGE_BYTES)
    for begin in range(piece.begin, piece.end, BATCH_ROWS):
        count = min(BATCH_ROWS, piece.end - begin)
        content = file.read(count * IMAGE_BYTES)
        if len(content) < count * IMAGE_BYTES:
            raise EOFError(f"it ends in row {begin + len(content) // IMAGE_BYTES}")
        keys = pa.table({PATH: [str(place)] * count, ROW: np.arange(begin, begin + count)})
        yield Rows(keys, np.frombuffer(content, np.uint8).reshape(count, 28, 28), {})


def _list(piece: Piece, place: Place, columns: Columns) -> Iterator[_Encoded]:
    with place.fs.open(place.path, "rb") as file:
        names = next(csv.reader([file.readline().decode()]), []) if place.path.lower().endswith(".csv") else []
        file.seek(piece.begin)
        text = file.read(piece.end - piece.begin).decode()
    records = list(csv.DictReader(io.StringIO(text), names)) if names else _json_records(text, place)
    image = columns.image or PATH
    for begin in range(0, len(records), BATCH_ROWS):
        some = records[begin : begin + BATCH_ROWS]
        found = list(dict.fromkeys(name for record in some for name in record))
        if image not in found:
            raise ScoringUsageError(
                f"{place} has no column {image!r} of paths: it has {', '.join(map(str, found))} (--image-column)"
            )
        keys = pa.table({str(name): _column([record.get(name) for record in some]) for name in found})
        yield _Encoded(keys, [_listed(place, record.get(image)) for record in some])


def _column(values: list[Any]) -> pa.Array:
    """A column, as text where its values are of several kinds."""
    try:
        return pa.array(values)
    except (pa.ArrowInvalid, pa.ArrowTypeError):
        return pa.array([None if value is None else str(value) for value in values])


def _json_records(text: str, place: Place) -> list[dict[str, Any]]:
    """The objects of JSON lines. Raises UnreadableError."""
    records = []
    for line in filter(str.strip, text.splitlines()):
        try:
            record = json.loads(line)
        except ValueError as error:
            raise UnreadableError(f"{place} cannot be read: {error}: {line[:_QUOTED]!r}") from error
        if not isinstance(record, dict):
            raise UnreadableError(f"{place} cannot be read: a line is no JSON object: {line[:_QUOTED]!r}")
        records.append(record)
    return records


def _listed(place: Place, path: object) -> Picture:
    """Reads a picture that a list names."""
    return _picture(_beside(place, path), "") if isinstance(path, str) and path else _cell(None, 0)


def _beside(place: Place, path: str) -> Place:
    """A path in a list: an address, or relative to the list."""
    if "://" in path or path.startswith("/"):
        return Place.of(path)
    return Place(place.fs, f"{place.path.rpartition('/')[0]}/{path}")


def _pictures(piece: Piece, _: Place, __: Columns) -> Iterator[_Encoded]:
    for begin in range(0, len(piece.files), BATCH_ROWS):
        files = piece.files[begin : begin + BATCH_ROWS]
        marks = piece.stamps[begin : begin + BATCH_ROWS]
        pictures = [_picture(Place.of(file), mark) for file, mark in zip(files, marks, strict=True)]
        yield _Encoded(pa.table({PATH: list(files)}), pictures)


def _picture(place: Place, mark: str) -> Picture:
    """Reads a picture. mark: its stamp when it was listed, "" for one that was not."""
    if mark:
        _check_stamp(place, mark)
    try:
        return Picture(str(place), place.fs.cat_file(place.path))
    except OSError as error:
        return Picture("", b"", f"{place}: {error.strerror or error}")


def _decoded(encoded: _Encoded, results: Sequence[bytes | str]) -> Rows:
    errors = {row: result for row, result in enumerate(results) if isinstance(result, str)}
    content = b"".join(bytes(IMAGE_BYTES) if isinstance(result, str) else result for result in results)
    return Rows(encoded.keys, np.frombuffer(content, np.uint8).reshape(len(results), 28, 28), errors)


_READERS: dict[str, Callable[[Piece, Place, Columns], Iterator[Rows | _Encoded]]] = {
    PARQUET: _parquet,
    ARRAY: _array,
    IDX: _idx,
    LIST: _list,
    PICTURE: _pictures,
}

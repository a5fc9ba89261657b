"""A piece's rows: the pixels of each, the columns that are carried, and why a row has no pixels."""

from __future__ import annotations

import csv
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from scoring import ScoringError, ScoringUsageError
from scoring import pieces as pieces_module
from scoring.pieces import BAD, Piece, pieces
from scoring.readers import Columns, Rows, UnreadableError, rows
from tests.scoring.conftest import images, png


def read(path: Path, image: str = "") -> list[Rows]:
    """The rows of all pieces of an input, as they come."""
    return [some for piece in pieces([str(path)]) for some in rows(piece, Columns(image, "none"))]


def written(path: Path, **columns: Any) -> Path:
    """A Parquet file."""
    pq.write_table(pa.table(columns), path)
    return path


def cells(*contents: bytes | None, kind: pa.DataType | None = None) -> pa.Array:
    """A column of bytes."""
    return pa.array(contents, kind or pa.binary())


def test_rows_come_by_1024(tmp_path: Path) -> None:
    """With the file and the row of each, which go on."""
    pixels = images(1025)
    np.save(tmp_path / "a.npy", pixels)
    first, second = read(tmp_path / "a.npy")
    assert (first.pixels.shape, second.pixels.shape) == ((1024, 28, 28), (1, 28, 28))
    np.testing.assert_array_equal(np.concatenate([first.pixels, second.pixels]), pixels)
    assert first.keys.column_names == ["path", "row"]
    assert first.keys.column("row").to_pylist() == list(range(1024))
    assert second.keys.to_pylist() == [{"path": str(tmp_path / "a.npy"), "row": 1024}]
    assert (first.errors, second.errors) == ({}, {})
    written(tmp_path / "a.parquet", image=cells(*(row.tobytes() for row in pixels)), id=np.arange(1025))
    assert [len(some.pixels) for some in read(tmp_path / "a.parquet")] == [1024, 1]
    assert read(tmp_path / "a.parquet")[1].keys.to_pylist() == [{"id": 1024}]


@pytest.mark.parametrize("name", ["a.npy", "a.idx"])
def test_a_later_piece_begins_at_its_own_row(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str) -> None:
    """Of an array and of IDX."""
    monkeypatch.setattr(pieces_module, "ARRAY_ROWS", 10)
    pixels = images(25)
    if name == "a.npy":
        np.save(tmp_path / name, pixels)
    else:
        (tmp_path / name).write_bytes(bytes.fromhex("00000803 00000019 0000001c 0000001c") + pixels.tobytes())
    found = read(tmp_path / name)
    assert [some.keys.column("row").to_pylist() for some in found] == [
        [*range(10)],
        [*range(10, 20)],
        [*range(20, 25)],
    ]
    np.testing.assert_array_equal(np.concatenate([some.pixels for some in found]), pixels)


def test_a_file_that_ends_too_soon_says_in_which_row(tmp_path: Path) -> None:
    """It has no rows at all."""
    np.save(tmp_path / "a.npy", images(9))
    content = (tmp_path / "a.npy").read_bytes()
    for missing, row in ((1, 8), (784, 8), (785, 7)):
        (tmp_path / "a.npy").write_bytes(content[:-missing])
        with pytest.raises(UnreadableError) as error:
            read(tmp_path / "a.npy")
        assert str(error.value) == f"{tmp_path}/a.npy cannot be read: it ends in row {row}"


def test_a_piece_that_could_not_be_listed_has_its_reason() -> None:
    """It is the error."""
    with pytest.raises(UnreadableError, match=r"^no rows$"):
        list(rows(Piece(0, BAD, ("a",), ("",), 0, 0, 1, "no rows"), Columns()))


STRUCT = pa.array([{"bytes": b"x", "path": "a"}])
COLUMNS: list[tuple[dict[str, Any], str, str]] = [
    ({"id": [1], "text": ["a"]}, "", "has no column of pictures: name one of id, text with --image-column"),
    (
        {"a": cells(b"x"), "b": STRUCT, "c": [[1]], "d": pa.array([[1]], pa.large_list(pa.uint8()))},
        "",
        "has several columns that may be pictures (a, b, d): name one of a, b, c, d with --image-column",
    ),
    ({"a": cells(b"x"), "id": [1]}, "b", "has no column 'b': it has a, id (--image-column)"),
    ({"a": pa.array([{"path": "a"}])}, "", "has no column of pictures: name one of a with --image-column"),
]


@pytest.mark.parametrize(("columns", "image", "text"), COLUMNS)
def test_the_column_of_pictures_must_be_known(tmp_path: Path, columns: dict[str, Any], image: str, text: str) -> None:
    """The only one that can be, or the one that is named."""
    path = written(tmp_path / "a.parquet", **columns)
    with pytest.raises(ScoringUsageError) as error:
        read(path, image)
    assert str(error.value) == f"{path} {text}"


def test_a_column_that_is_named_is_taken(tmp_path: Path) -> None:
    """The others are carried, those of pictures too."""
    first, second = images(2)
    path = written(tmp_path / "a.parquet", a=cells(png(first)), b=cells(png(second)))
    [some] = read(path, "b")
    np.testing.assert_array_equal(some.pixels[0], second)
    assert some.keys.to_pylist() == [{"a": png(first)}]


RAW = {
    "binary": pa.binary(),
    "large binary": pa.large_binary(),
    "binary of 784": pa.binary(784),
    "list": pa.list_(pa.uint8()),
    "large list": pa.large_list(pa.uint8()),
    "list of 784": pa.list_(pa.uint8(), 784),
}


@pytest.mark.parametrize("kind", RAW)
def test_raw_bytes_of_several_batches(tmp_path: Path, kind: str) -> None:
    """Each batch begins where the one before ended."""
    pixels = images(2050)
    contents = [row.tobytes() if "binary" in kind else row.ravel() for row in pixels]
    path = written(tmp_path / "a.parquet", image=pa.array(contents, RAW[kind]))
    found = read(path)
    assert [len(some.pixels) for some in found] == [1024, 1024, 2]
    np.testing.assert_array_equal(np.concatenate([some.pixels for some in found]), pixels)
    assert [some.errors for some in found] == [{}, {}, {}]


def test_rows_of_other_sizes_are_files(tmp_path: Path) -> None:
    """One that is empty, none at all, 783 or 785 bytes: those of 784 beside them are pixels."""
    first, second = images(2)
    path = written(tmp_path / "a.parquet", image=cells(first.tobytes(), None, b"", bytes(783), bytes(785), png(second)))
    [some] = read(path)
    np.testing.assert_array_equal(some.pixels[0], first)
    np.testing.assert_array_equal(some.pixels[5], second)
    assert not some.pixels[1:5].any()
    no_picture = "not a picture (PNG, JPEG, GIF, BMP, TIFF, WebP, ...)"
    assert some.errors == {1: "no picture: the cell is empty"} | {row: f"row {row}: {no_picture}" for row in (2, 3, 4)}


@pytest.mark.parametrize("kind", RAW)
def test_raw_bytes_with_a_gap(tmp_path: Path, kind: str) -> None:
    """A row without any has no pixels; its neighbours are as they were."""
    pixels = images(3)
    contents: list[Any] = [row.tobytes() if "binary" in kind else row.ravel() for row in pixels]
    contents[1] = None
    [some] = read(written(tmp_path / "a.parquet", image=pa.array(contents, RAW[kind])))
    assert some.errors == {1: "no picture: the cell is empty"}
    np.testing.assert_array_equal(some.pixels[::2], pixels[::2])


@pytest.mark.parametrize("size", [783, 785])
@pytest.mark.parametrize("kind", [pa.binary, lambda size: pa.list_(pa.uint8(), size)], ids=["binary", "list"])
def test_a_fixed_size_that_is_not_784_is_of_files(
    tmp_path: Path, size: int, kind: Callable[[int], pa.DataType]
) -> None:
    """Which these are not."""
    content = bytes(size) if kind is pa.binary else np.zeros(size, np.uint8)
    [some] = read(written(tmp_path / "a.parquet", image=pa.array([content, content], kind(size))))
    assert sorted(some.errors) == [0, 1]


@pytest.mark.parametrize("start", [b"\x89PNG\r\n", b"\xff\xd8\xff", b"GIF8", b"II*\0", b"MM\0*", b"RIFF"])
def test_784_bytes_that_begin_as_a_file_are_one(tmp_path: Path, start: bytes) -> None:
    """A damaged one, here; a byte less of the beginning is pixels."""
    path = tmp_path / "a.parquet"
    [some] = read(written(path, image=cells(start.ljust(784, b"\0"))))
    assert list(some.errors) == [0]
    [some] = read(written(path, image=cells(start[:-1].ljust(784, b"\7"))))
    assert some.errors == {}
    [some] = read(written(path, image=cells(b"GIF", start.ljust(784, b"\0"), bytes(784))))
    assert list(some.errors) == [0, 1]


def test_an_empty_batch_of_columns_is_read(tmp_path: Path) -> None:
    """A struct's bytes are its pictures, one that is none has no picture."""
    column = pa.array([{"bytes": png(images(1)[0]), "path": "a"}, {"bytes": None, "path": "b"}, None])
    [some] = read(written(tmp_path / "a.parquet", image=column, id=[5, 6, 7]))
    np.testing.assert_array_equal(some.pixels[0], images(1)[0])
    assert some.errors == {1: "no picture: the cell is empty", 2: "no picture: the cell is empty"}
    assert some.keys.column("id").to_pylist() == [5, 6, 7]


@pytest.fixture
def listed(tmp_path: Path) -> Path:
    """A directory with two pictures, one of them deeper."""
    (tmp_path / "deep").mkdir()
    for name, image in zip(("a.png", "deep/b.png"), images(2), strict=True):
        (tmp_path / name).write_bytes(png(image))
    return tmp_path


def test_paths_in_a_list(listed: Path) -> None:
    """Beside it, absolute, or an address; one that is not there is told, and an empty one too."""
    lines = ["a.png", "deep/b.png", f"{listed}/deep/b.png", f"file://{listed}/a.png", "none.png", ""]
    (listed / "list.csv").write_text("id,path\n" + "".join(f"{number},{path}\n" for number, path in enumerate(lines)))
    [some] = read(listed / "list.csv")
    np.testing.assert_array_equal(some.pixels[:4], images(2)[[0, 1, 1, 0]])
    assert some.errors == {
        4: f"{listed}/none.png: No such file or directory",
        5: "no picture: the cell is empty",
    }
    assert some.keys.to_pylist()[1] == {"id": "1", "path": "deep/b.png"}


def test_a_list_is_read_piece_by_piece(listed: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Each with the names of the header, and of JSON those that its objects have; 1,024 rows at a time."""
    monkeypatch.setattr(pieces_module, "PICTURE_ROWS", 2)
    (listed / "list.csv").write_text('"a ""name""",file\n1,a.png\n2,a.png\n3,deep/b.png\n')
    first, second = read(listed / "list.csv", "file")
    assert first.keys.to_pylist() == [{'a "name"': "1", "file": "a.png"}, {'a "name"': "2", "file": "a.png"}]
    assert second.keys.to_pylist() == [{'a "name"': "3", "file": "deep/b.png"}]
    np.testing.assert_array_equal(second.pixels[0], images(2)[1])
    monkeypatch.setattr(pieces_module, "PICTURE_ROWS", 5_000)
    (listed / "list.jsonl").write_text('{"path": "a.png"}\n' * 1025)
    assert [len(some.pixels) for some in read(listed / "list.jsonl")] == [1024, 1]


def test_the_column_of_paths_must_be_there(listed: Path) -> None:
    """The one that is named, or `path`."""
    (listed / "list.csv").write_text("file,id\na.png,1\n")
    for image, name in (("", "path"), ("picture", "picture")):
        with pytest.raises(ScoringUsageError) as error:
            read(listed / "list.csv", image)
        assert str(error.value) == (
            f"{listed}/list.csv has no column {name!r} of paths: it has file, id (--image-column)"
        )


def test_columns_of_a_list_have_one_kind(listed: Path) -> None:
    """Text, where values are of several; what is missing stays so."""
    (listed / "list.jsonl").write_text(
        '{"path": "a.png", "id": 1, "mixed": 1}\n{"path": "a.png", "mixed": "b", "id": 2}\n{"path": "a.png"}\n'
    )
    [some] = read(listed / "list.jsonl")
    assert some.keys.to_pylist() == [
        {"path": "a.png", "id": 1, "mixed": "1"},
        {"path": "a.png", "id": 2, "mixed": "b"},
        {"path": "a.png", "id": None, "mixed": None},
    ]


def test_lines_that_are_no_objects(listed: Path) -> None:
    """The first of them is quoted, sixty characters of it at most."""
    path = listed / "list.jsonl"
    path.write_text("[" + "1, " * 40 + "1]\n")
    with pytest.raises(UnreadableError) as error:
        read(path)
    assert str(error.value) == f"{path} cannot be read: a line is no JSON object: {('[' + '1, ' * 20)[:60]!r}"
    path.write_text("{" + "x" * 70)
    with pytest.raises(UnreadableError) as error:
        read(path)
    assert str(error.value).startswith(f"{path} cannot be read: Expecting property name enclosed in double quotes: ")
    assert str(error.value).endswith(f": {'{' + 'x' * 59!r}")


def test_text_that_cannot_be_read(listed: Path) -> None:
    """Bytes that are no UTF-8, and a field that is longer than CSV's may be."""
    (listed / "list.jsonl").write_bytes(b'{"path": "\xff"}\n')
    with pytest.raises(UnreadableError, match=r"list\.jsonl cannot be read: 'utf-8' codec can't decode byte 0xff"):
        read(listed / "list.jsonl")
    (listed / "list.csv").write_text(f"path\n{'a' * (csv.field_size_limit() + 1)}\n")
    with pytest.raises(UnreadableError, match=r"list\.csv cannot be read: field larger than field limit"):
        read(listed / "list.csv")


def test_pictures_are_their_own_rows(listed: Path) -> None:
    """With the path of each; a file that is none is told by its name."""
    (listed / "deep/c.png").write_bytes(bytes(784))
    [some] = read(listed)
    paths = [f"{listed}/{name}" for name in ("a.png", "deep/b.png", "deep/c.png")]
    assert some.keys.to_pylist() == [{"path": path} for path in paths]
    np.testing.assert_array_equal(some.pixels[:2], images(2))
    assert list(some.errors) == [2]
    assert some.errors[2].startswith(f"{paths[2]}: not a picture ")


@pytest.mark.parametrize("name", ["a.png", "list.jsonl"])
def test_a_file_that_changes_after_it_was_listed(listed: Path, name: str) -> None:
    """Nobody knows which rows it would be of; one that is gone has changed too."""
    (listed / "list.jsonl").write_text('{"path": "a.png"}\n')
    [piece] = pieces([str(listed / name)])
    assert len(list(rows(piece, Columns()))) == 1
    (listed / name).write_bytes((listed / name).read_bytes() + b"\n")
    text = f"{listed / name} has changed since the job began: begin another one, with another --output"
    with pytest.raises(ScoringError) as error:
        list(rows(piece, Columns()))
    assert (type(error.value), str(error.value)) == (ScoringError, text)
    (listed / name).unlink()
    with pytest.raises(ScoringError) as error:
        list(rows(piece, Columns()))
    assert (type(error.value), str(error.value)) == (ScoringError, text)

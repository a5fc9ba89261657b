"""The input in pieces: which rows each has, in which order, and what is said of files that have none."""

from __future__ import annotations

import gzip
import json
import struct
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from scoring import ScoringUsageError
from scoring import pieces as module
from scoring.pieces import ARRAY, BAD, IDX, LIST, PARQUET, PICTURE, Piece, pieces, plan


def spans(*inputs: Path) -> list[tuple[str, int, int, int]]:
    """Kind, begin, end and rows of each piece."""
    return [(piece.kind, piece.begin, piece.end, piece.rows) for piece in pieces([*map(str, inputs)])]


def names(*inputs: str) -> list[list[str]]:
    """The names of the files of each piece."""
    return [[Path(file).name for file in piece.files] for piece in pieces(inputs)]


def header(path: Path, count: int, version: tuple[int, int] = (1, 0)) -> Path:
    """An array of so many images of which only the header is there."""
    with path.open("wb") as file:
        facts = {"descr": "|u1", "fortran_order": False, "shape": (count, 28, 28)}
        write = np.lib.format.write_array_header_1_0 if version == (1, 0) else np.lib.format.write_array_header_2_0
        write(file, facts)
    return path


def row_groups(path: Path, *sizes: int) -> Path:
    """A Parquet file with these row groups."""
    schema = pa.schema([("image", pa.binary())])
    with pq.ParquetWriter(path, schema) as writer:
        for size in sizes:
            writer.write_table(pa.table({"image": pa.array([b"x"] * size, pa.binary())}, schema), max(size, 1))
    return path


@pytest.mark.parametrize("version", [(1, 0), (2, 0)])
def test_an_array_has_pieces_of_100000_rows(tmp_path: Path, version: tuple[int, int]) -> None:
    """The last one has the rest; none has no row."""
    for count, expected in (
        (100_000, [(ARRAY, 0, 100_000, 100_000)]),
        (200_001, [(ARRAY, 0, 100_000, 100_000), (ARRAY, 100_000, 200_000, 100_000), (ARRAY, 200_000, 200_001, 1)]),
        (0, []),
    ):
        assert spans(header(tmp_path / "a.npy", count, version)) == expected


@pytest.mark.parametrize("is_packed", [False, True])
def test_an_idx_file_has_pieces_of_100000_rows(tmp_path: Path, is_packed: bool) -> None:
    """By its header, packed or not."""
    content = struct.pack(">4I", 0x803, 100_001, 28, 28)
    path = tmp_path / ("a-idx3-ubyte" + ".gz" * is_packed)
    path.write_bytes(gzip.compress(content) if is_packed else content)
    assert spans(path) == [(IDX, 0, 100_000, 100_000), (IDX, 100_000, 100_001, 1)]


def test_small_row_groups_are_a_piece_together(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """As many as have 100,000 rows, here 100; a larger one is a piece by itself, none without rows."""
    monkeypatch.setattr(module, "ARRAY_ROWS", 100)
    path = tmp_path / "a.parquet"
    for sizes, expected in (
        ((60, 40, 1), [(0, 2, 100), (2, 3, 1)]),
        ((60, 41), [(0, 1, 60), (1, 2, 41)]),
        ((101, 30, 30), [(0, 1, 101), (1, 3, 60)]),
        ((30,), [(0, 1, 30)]),
        ((), []),
    ):
        assert spans(row_groups(path, *sizes)) == [(PARQUET, *span) for span in expected]


def test_a_list_has_pieces_of_5000_lines(tmp_path: Path) -> None:
    """By its bytes; the header of CSV is in none."""
    line = b'{"path": "a.png"}\n'
    (tmp_path / "a.jsonl").write_bytes(line * 10_001)
    size = 5_000 * len(line)
    assert spans(tmp_path / "a.jsonl") == [
        (LIST, 0, size, 5_000),
        (LIST, size, 2 * size, 5_000),
        (LIST, 2 * size, 2 * size + len(line), 1),
    ]
    for name in ("a.csv", "A.CSV"):
        (tmp_path / name).write_bytes(b"path\n" + b"a.png\n" * 5_000)
        assert spans(tmp_path / name) == [(LIST, 5, 5 + 6 * 5_000, 5_000)]


def test_lines_without_anything_are_no_rows(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """They are in a piece all the same, unless all of it would be such; the last line needs no end."""
    monkeypatch.setattr(module, "PICTURE_ROWS", 2)
    (tmp_path / "a.ndjson").write_bytes(b"\n1\n \n2\n\n\n3")
    assert spans(tmp_path / "a.ndjson") == [(LIST, 0, 7, 2), (LIST, 7, 10, 1)]
    (tmp_path / "b.ndjson").write_bytes(b"1\n2\n\n \n")
    assert spans(tmp_path / "b.ndjson") == [(LIST, 0, 4, 2)]


def test_neighbouring_pictures_are_a_piece_together(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """As many as 5,000, here 2; another file between them is one by itself. Numbers go on over all inputs."""
    assert module.PICTURE_ROWS == 5_000
    monkeypatch.setattr(module, "PICTURE_ROWS", 2)
    for name in ("a.png", "b.JPG", "c.gif", "e.webp", "f.bmp", "g.tif"):
        (tmp_path / name).touch()
    header(tmp_path / "d.npy", 3)
    found = list(pieces([str(tmp_path), str(tmp_path / "a.png")]))
    assert [[Path(file).name for file in piece.files] for piece in found] == [
        ["a.png", "b.JPG"],
        ["c.gif"],
        ["d.npy"],
        ["e.webp", "f.bmp"],
        ["g.tif"],
        ["a.png"],
    ]
    assert [(piece.number, piece.kind, piece.begin, piece.end, piece.rows) for piece in found] == [
        (0, PICTURE, 0, 2, 2),
        (1, PICTURE, 0, 1, 1),
        (2, ARRAY, 0, 3, 3),
        (3, PICTURE, 0, 2, 2),
        (4, PICTURE, 0, 1, 1),
        (5, PICTURE, 0, 1, 1),
    ]
    assert all(len(piece.stamps) == len(piece.files) for piece in found)


def test_a_directory_is_walked_by_name(tmp_path: Path) -> None:
    """Its own files first, then each folder's; what begins with _ or . is no data, nor is a file of no kind."""
    for name in (
        "b.png",
        "a.png",
        "_c.png",
        ".d.png",
        "e.txt",
        "z/b.png",
        "z/a.png",
        "y/c.png",
        "_x/a.png",
        ".w/a.png",
    ):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).touch()
    [piece] = pieces([f"{tmp_path}/"])
    assert [str(Path(file).relative_to(tmp_path)) for file in piece.files] == [
        "a.png", "b.png", "y/c.png", "z/a.png", "z/b.png",
    ]  # fmt: skip
    assert piece.stamps == tuple(f"0 {Path(file).stat().st_mtime}" for file in piece.files)


def test_a_pattern_gives_the_files_that_match(tmp_path: Path) -> None:
    """Sorted, without directories, of any kind but those that have none; a file of such a name is that file."""
    for name in ("b1.png", "a1.png", "c2.png"):
        (tmp_path / name).touch()
    (tmp_path / "d1.png").mkdir()
    assert names(f"{tmp_path}/*1.png") == [["a1.png", "b1.png"]]
    assert names(f"{tmp_path}/[bc]?.png") == [["b1.png", "c2.png"]]
    (tmp_path / "[bc]?.png").touch()
    assert names(f"{tmp_path}/[bc]?.png") == [["[bc]?.png"]]
    with pytest.raises(ScoringUsageError) as error:
        names(f"{tmp_path}/*9.png")
    assert str(error.value) == f"{tmp_path}/*9.png: nothing matches"


def test_inputs_that_are_not_there_or_of_no_kind(tmp_path: Path) -> None:
    """Each is named as it was given."""
    (tmp_path / "a.txt").touch()
    kinds = "give Parquet, .npy, IDX, pictures, or .csv or .jsonl of paths"
    for name, text in (
        ("none", "there is no such file or directory"),
        ("a.txt", f"no kind of file that can be scored: {kinds}"),
    ):
        with pytest.raises(ScoringUsageError) as error:
            names(f"{tmp_path}/{name}")
        assert str(error.value) == f"{tmp_path}/{name}: {text}"


ARRAYS: dict[str, npt.NDArray[Any]] = {
    "float32 [2, 28, 28]": np.zeros((2, 28, 28), np.float32),
    "uint8 [2, 28, 27]": np.zeros((2, 28, 27), np.uint8),
    "uint8 [2, 28, 28, 3]": np.zeros((2, 28, 28, 3), np.uint8),
    "uint8 [2, 28]": np.zeros((2, 28), np.uint8),
    "uint8 [3, 28, 28]": np.asfortranarray(np.zeros((3, 28, 28), np.uint8)),
}


@pytest.mark.parametrize("told", ARRAYS)
def test_an_array_of_something_else_cannot_be_read(tmp_path: Path, told: str) -> None:
    """It is a piece of one row, which says what it is; what is stored by columns is one too."""
    path = tmp_path / "a.npy"
    np.save(path, ARRAYS[told])
    assert list(pieces([str(path)])) == [
        Piece(
            0, BAD, (str(path),), (f"{path.stat().st_size} {path.stat().st_mtime}",), 0, 0, 1,
            f"{path} cannot be read: an array of {told}: expected uint8 [N, 28, 28]",
        )
    ]  # fmt: skip


@pytest.mark.parametrize("shape", [(2, 784), (2, 28, 28), (2, 28, 28, 1)])
def test_an_array_of_images_has_one_of_three_shapes(tmp_path: Path, shape: tuple[int, ...]) -> None:
    """784 bytes a row."""
    np.save(tmp_path / "a.npy", np.zeros(shape, np.uint8))
    assert spans(tmp_path / "a.npy") == [(ARRAY, 0, 2, 2)]


@pytest.mark.parametrize(
    "content",
    [struct.pack(">4I", 0x803, 1, 28, 27), struct.pack(">4I", 0x801, 1, 28, 28), struct.pack(">4I", 0x803, 1, 27, 28)],
)
def test_an_idx_file_of_something_else_cannot_be_read(tmp_path: Path, content: bytes) -> None:
    """Labels, or images of another size; one that breaks off has a reason too."""
    path = tmp_path / "a.idx"
    path.write_bytes(content)
    [piece] = pieces([str(path)])
    assert (piece.kind, piece.error) == (BAD, f"{path} cannot be read: not an IDX file of uint8 [N, 28, 28]")
    path.write_bytes(content[:15])
    [piece] = pieces([str(path)])
    assert piece.error == f"{path} cannot be read: unpack requires a buffer of 16 bytes"


def test_a_piece_is_one_line_of_json(tmp_path: Path) -> None:
    """It comes back as it was; its digest differs for another of any of its facts."""
    piece = Piece(3, LIST, ("a.csv",), ("10 1.5",), 5, 10, 2)
    assert piece.to_json() == (
        '{"number": 3, "kind": "list", "files": ["a.csv"], "stamps": ["10 1.5"], "begin": 5, "end": 10, "rows": 2, '
        '"error": ""}'
    )
    assert Piece.from_json(piece.to_json()) == piece
    others = [json.loads(piece.to_json()) | {name: value} for name, value in (("begin", 6), ("stamps", ["10 2.5"]))]
    digests = {Piece.from_json(json.dumps(facts)).digest for facts in others} | {piece.digest}
    assert {len(digest) for digest in digests} == {16}
    assert len(digests) == 3


def test_a_plan_sums_up_the_input(tmp_path: Path) -> None:
    """It keeps up to a hundred pieces; the digest is that of all of them, in their order."""
    hundred = plan([str(header(tmp_path / "a.npy", 10_000_000))])
    assert hundred.rows == 10_000_000
    assert hundred.pieces is not None
    assert len(hundred.pieces) == 100
    more = plan([str(header(tmp_path / "a.npy", 10_000_001))])
    assert (more.rows, more.pieces) == (10_000_001, None)
    header(tmp_path / "b.npy", 1)
    inputs = [str(tmp_path / "a.npy"), str(tmp_path / "b.npy")]
    digests = {plan(inputs).digest, plan(inputs[::-1]).digest, more.digest, hundred.digest}
    assert len(digests) == 4
    assert {len(digest) for digest in digests} == {16}
    assert plan(inputs) == plan(inputs)
    with pytest.raises(ScoringUsageError) as error:
        plan([str(header(tmp_path / "a.npy", 0)), str(header(tmp_path / "b.npy", 0))])
    assert str(error.value) == f"{tmp_path}/a.npy, {tmp_path}/b.npy: no rows in it"


def test_a_broken_file_leaves_its_neighbours(tmp_path: Path) -> None:
    """Its reason is in one line."""
    for name in ("a.png", "c.png"):
        (tmp_path / name).touch()
    (tmp_path / "b.parquet").write_bytes(b"PAR1")
    first, second, third = pieces([str(tmp_path)])
    assert (first.kind, second.kind, third.kind) == (PICTURE, BAD, PICTURE)
    assert second.error.startswith(f"{tmp_path}/b.parquet cannot be read: ")
    assert "\n" not in second.error
    assert second.rows == 1

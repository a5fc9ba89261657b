"""The paths of `fashion predict` as images in order."""

from __future__ import annotations

import gzip
import io
import struct
import zipfile
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
from PIL import Image

from client.errors import ClientUsageError, ImageError
from client.pictures import sources
from client.pictures.sources import blocks

# The pictures are noise.
pytestmark = pytest.mark.filterwarnings("ignore::client.errors.ImageWarning")
_IMAGES = np.random.default_rng(0).integers(0, 256, (5, 28, 28), np.uint8)


def _idx(images: np.ndarray) -> bytes:
    return b"\0\0\x08\x03" + struct.pack(">3I", *images.shape) + images.tobytes()


def _read(*paths: object, block_size: int = 2) -> tuple[list[str], list[str], bytes]:
    """Names of good images, error texts, and the good images' content."""
    names: list[str] = []
    errors: list[str] = []
    content = b""
    for block in blocks([str(path) for path in paths], block_size=block_size):
        try:
            content += block.load().content
        except ImageError as error:
            errors.append(str(error))
        else:
            names += block.names
    return names, errors, content


def _pictures(directory: Path, *names: str) -> None:
    for name, image in zip(names, _IMAGES, strict=False):
        path = directory / name
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(image).save(path)


def test_directories_and_globs_are_sorted_and_other_files_passed_over(tmp_path: Path) -> None:
    """Every picture below a directory, whatever its depth."""
    _pictures(tmp_path, "b.png", "a.PNG", "deep/c.png")
    (tmp_path / "notes.txt").write_text("x")
    expected = [str(tmp_path / name) for name in ("a.PNG", "b.png", "deep/c.png")]
    assert _read(tmp_path)[:2] == (expected, [])
    assert _read(tmp_path / "*.png")[0] == [expected[1]]
    assert _read(tmp_path / "**" / "c.png")[0] == [expected[2]]


@pytest.mark.parametrize("suffix", [".npy", ".npz", "-idx3-ubyte", "-idx3-ubyte.gz"])
def test_arrays_and_idx_files_are_read_row_by_row(tmp_path: Path, suffix: str) -> None:
    """In blocks, each image with its row in its name; labels in an archive are no images."""
    path = tmp_path / f"test{suffix}"
    if suffix == ".npy":
        np.save(path, _IMAGES)
    elif suffix == ".npz":
        np.savez(path, x=_IMAGES, y=np.arange(5))
    else:
        path.write_bytes(gzip.compress(_idx(_IMAGES)) if suffix.endswith(".gz") else _idx(_IMAGES))
    names, errors, content = _read(path)
    key = ":x" if suffix == ".npz" else ""
    assert names == [f"{path}{key}[{row}]" for row in range(5)]
    assert (errors, content) == ([], _IMAGES.tobytes())


def test_a_single_image_array_and_floats_are_taken(tmp_path: Path) -> None:
    """[28, 28] is one image; float32 from 0 to 1 stays float32."""
    np.save(tmp_path / "image.npy", _IMAGES[0])
    assert _read(tmp_path / "image.npy")[2] == _IMAGES[0].tobytes()
    floats = _IMAGES.astype(np.float32) / 255
    np.save(tmp_path / "floats.npy", floats)
    assert _read(tmp_path / "floats.npy")[2] == floats.tobytes()


def test_an_archives_suffix_does_not_matter_and_other_members_are_passed_over(tmp_path: Path) -> None:
    """numpy tells `.npy` and `.npz` apart by their content; a text in an archive is no array."""
    np.save(tmp_path / "array.npy", _IMAGES)
    (tmp_path / "array.npy").rename(tmp_path / "array.npz")
    np.savez(tmp_path / "archive.npz", x=_IMAGES)
    with zipfile.ZipFile(tmp_path / "archive.npz", "a") as archive:
        archive.writestr("readme.txt", "no array")
    (tmp_path / "archive.npz").rename(tmp_path / "archive.npy")
    for path, key in ((tmp_path / "array.npz", ""), (tmp_path / "archive.npy", ":x")):
        assert _read(path) == ([f"{path}{key}[{row}]" for row in range(5)], [], _IMAGES.tobytes())


@pytest.mark.parametrize("form", ["picture", "npy", "idx", "idx.gz"])
def test_standard_input_is_recognized_by_its_first_bytes(form: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """A picture, an array, an IDX file, or one that is gzipped."""
    buffer = io.BytesIO()
    if form == "picture":
        Image.fromarray(_IMAGES[0]).save(buffer, "PNG")
    elif form == "npy":
        np.save(buffer, _IMAGES)
    else:
        buffer.write(gzip.compress(_idx(_IMAGES)) if form.endswith("gz") else _idx(_IMAGES))
    monkeypatch.setattr("sys.stdin", SimpleNamespace(buffer=io.BytesIO(buffer.getvalue())))
    names, errors, content = _read("-")
    count = 1 if form == "picture" else 5
    assert (errors, content) == ([], _IMAGES[:count].tobytes())
    assert names == (["-"] if count == 1 else [f"-[{row}]" for row in range(5)])


def test_the_most_that_standard_input_may_hold(monkeypatch: pytest.MonkeyPatch) -> None:
    """So many bytes are read, one more is refused."""
    content = _idx(_IMAGES)
    monkeypatch.setattr("sys.stdin", SimpleNamespace(buffer=io.BytesIO(content)))
    monkeypatch.setattr(sources, "STDIN_BYTES", len(content))
    assert _read("-")[1:] == ([], _IMAGES.tobytes())
    monkeypatch.setattr("sys.stdin", SimpleNamespace(buffer=io.BytesIO(content)))
    monkeypatch.setattr(sources, "STDIN_BYTES", len(content) - 1)
    error = f"-: more than {len(content) - 1} bytes on standard input: name the file instead"
    assert _read("-") == ([], [error], b"")


def test_an_error_in_one_file_does_not_stop_the_others(tmp_path: Path) -> None:
    """Each has a line with its name; the good one between them is read."""
    _pictures(tmp_path, "good.png")
    (tmp_path / "empty").mkdir()
    np.save(tmp_path / "flat.npy", np.zeros((2, 784), np.uint8))
    np.save(tmp_path / "unscaled.npy", np.full((2, 28, 28), 99, np.float32))
    np.save(tmp_path / "objects.npy", np.array([{}], object), allow_pickle=True)
    (tmp_path / "cut-idx3-ubyte").write_bytes(_idx(_IMAGES)[:2000])
    (tmp_path / "short-idx3-ubyte").write_bytes(_idx(_IMAGES)[:15])
    (tmp_path / "labels-idx3-ubyte").write_bytes(b"\0\0\x08\x01" + _idx(_IMAGES)[4:])
    (tmp_path / "large-idx3-ubyte").write_bytes(_idx(np.zeros((1, 32, 32), np.uint8)))
    (tmp_path / "broken-idx3-ubyte.gz").write_bytes(b"\x1f\x8bno")
    (tmp_path / "deflate-idx3-ubyte.gz").write_bytes(gzip.compress(_idx(_IMAGES))[:40] + b"\xff" * 40)
    np.savez(tmp_path / "whole.npz", x=_IMAGES)
    archive = (tmp_path / "whole.npz").read_bytes()
    (tmp_path / "crc.npz").write_bytes(archive.replace(_IMAGES[2].tobytes(), bytes(784)))
    np.save(tmp_path / "scalar.npy", np.uint8(1))
    files = {
        "missing.png": "no such file",
        "empty": "no pictures in this directory",
        "*.gif": "nothing matches",
        "flat.npy": r"images.reshape(-1, 28, 28) would fit",
        "good.png": "",
        "unscaled.npy": "must be scaled to 0..1",
        "objects.npy": "without pickle",
        "cut-idx3-ubyte": "ends after image 2 of 5",
        "short-idx3-ubyte": "not an IDX file of uint8 images",
        "labels-idx3-ubyte": "not an IDX file of uint8 images",
        "large-idx3-ubyte": "images of 32x32: expected 28x28",
        "broken-idx3-ubyte.gz": "cannot be read",
        "deflate-idx3-ubyte.gz": "cannot be read",
        "crc.npz": "without pickle",
        "scalar.npy": r"got uint8 [1]",
    }
    names, errors, _ = _read(*(tmp_path / name for name in files))
    assert str(tmp_path / "good.png") in names
    expected = {name: why for name, why in files.items() if why}
    assert len(errors) == len(expected)
    for (name, why), error in zip(expected.items(), errors, strict=True):
        assert error.startswith(str(tmp_path / name))
        assert why in error


def test_an_idx_file_that_was_cut_gives_the_blocks_that_are_whole(tmp_path: Path) -> None:
    """The error counts from the file's beginning."""
    path = tmp_path / "cut-idx3-ubyte"
    path.write_bytes(_idx(_IMAGES)[: 16 + 3 * 784 + 100])
    first, second = blocks([str(path)], block_size=2)
    assert list(first.names) == [f"{path}[0]", f"{path}[1]"]
    with pytest.raises(ImageError, match=r"cut-idx3-ubyte: ends after image 3 of 5$"):
        second.load()


def test_urls_are_refused_with_a_fix() -> None:
    """Before anything is read or sent."""
    with pytest.raises(ClientUsageError, match="URLs are not fetched: download it first"):
        list(blocks(["https://example.com/shirt.png"]))

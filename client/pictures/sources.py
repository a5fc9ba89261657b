"""Paths as images in order: pictures, directories, globs, standard input, arrays and IDX files.

Everything is read piece by piece: a directory of a million files, or an array of a gigabyte, takes no more memory than
one batch.
"""

from __future__ import annotations

import functools
import glob
import gzip
import io
import os
import struct
import sys
import zlib
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, BinaryIO

from client.errors import ClientUsageError, ImageError
from client.limits import BATCH_SIZE, STDIN_BYTES
from client.pictures.batch import Batch, check_array
from client.pictures.images import read_image
from client.types import IMAGE_BYTES, Preprocess
from fashion_common.served_model import IMAGE_SHAPE

if TYPE_CHECKING:
    import numpy as np
    import numpy.typing as npt

# The endings of the names of pictures.
PICTURES = frozenset(
    {".png", ".jpg", ".jpeg", ".gif", ".bmp", ".tif", ".tiff", ".webp", ".ppm", ".pgm", ".pbm", ".ico", ".jp2", ".avif"}
)
_ARRAYS = frozenset({".npy", ".npz"})
# The format's first bytes (http://yann.lecun.com/exdb/mnist/): two zeros, the type (8 is uint8), the number of axes.
_IDX_IMAGES = b"\0\0\x08\x03"
_GZIP = b"\x1f\x8b"


@dataclass(frozen=True)
class Block:
    """Some images in order: `name` of each, and `load`, which reads them all and raises ImageError."""

    names: Sequence[str]
    load: Callable[[], Batch]


def blocks(paths: Sequence[str], preprocess: Preprocess = "auto", block_size: int = BATCH_SIZE) -> Iterator[Block]:
    """The images of all paths, in order; pictures one by one, arrays in blocks of `block_size`.

    Raises ClientUsageError for a URL; a file's ImageError is raised by its block's `load`, so that the others go on.
    """
    for path in paths:
        if "://" in path:
            raise ClientUsageError(f"{path}: URLs are not fetched: download it first (curl -O), then name the file")
    for path in paths:
        path_blocks = _stdin(preprocess, block_size) if path == "-" else _path(path, preprocess, block_size)
        yield from _guarded(path, path_blocks)


def _guarded(name: str, file_blocks: Iterator[Block]) -> Iterator[Block]:
    """The blocks; an ImageError on the way to the next one becomes the last block's, as does that there is none."""
    block = None
    try:
        for block in file_blocks:
            yield block
    except ImageError as error:
        block = Block([name], functools.partial(_fail, error))
        yield block
    if block is None:
        yield Block([name], functools.partial(_fail, ImageError(f"{name}: no images in it")))


def _fail(error: ImageError) -> Batch:
    raise error


def _path(path: str, preprocess: Preprocess, block_size: int) -> Iterator[Block]:
    """The images of a file, of a pattern's matches, or of all files of ours below a directory."""
    files: Iterable[str] = [path]
    nothing = ""
    if not os.path.lexists(path) and glob.has_magic(path):
        files = filter(os.path.isfile, sorted(glob.glob(path, recursive=True)))  # noqa: PTH207 - keeps relative paths
        nothing = "nothing matches"
    elif os.path.isdir(path):  # noqa: PTH112 - keeps the path's text
        files, nothing = _directory(path), "no pictures in this directory"
    file = None
    for file in files:
        if Path(file).suffix.lower() in _ARRAYS:
            yield from _guarded(file, _arrays(file, file, block_size))
        elif is_idx(file):
            yield from _guarded(file, _idx(functools.partial(io.FileIO, file), file, block_size))
        else:
            yield _picture(Path(file), file, preprocess)
    if file is None:
        raise ImageError(f"{path}: {nothing}")


def _directory(path: str) -> Iterator[str]:
    """The pictures and arrays below a directory, sorted within each; other files are passed over."""
    for folder, folders, files in os.walk(path):
        folders.sort()
        for file in sorted(files):
            if Path(file).suffix.lower() in PICTURES | _ARRAYS or is_idx(file):
                yield os.path.join(folder, file)  # noqa: PTH118 - keeps the path's text


def _stdin(preprocess: Preprocess, block_size: int) -> Iterator[Block]:
    """A picture, an array or an IDX file from standard input; its first bytes say which."""
    data = sys.stdin.buffer.read(STDIN_BYTES + 1)
    if not data:
        raise ImageError("-: standard input is empty")
    if len(data) > STDIN_BYTES:
        raise ImageError(f"-: more than {STDIN_BYTES} bytes on standard input: name the file instead")
    if data.startswith(b"\x93NUMPY"):
        yield from _arrays(io.BytesIO(data), "-", block_size)
    elif data.startswith((_IDX_IMAGES, _GZIP)):
        yield from _idx(functools.partial(io.BytesIO, data), "-", block_size)
    else:
        yield _picture(io.BytesIO(data), "-", preprocess)


def _picture(source: Path | BinaryIO, name: str, preprocess: Preprocess) -> Block:
    def load() -> Batch:
        return Batch("DT_UINT8", read_image(source, name, preprocess))

    return Block([name], load)


def _arrays(source: str | BinaryIO, name: str, block_size: int) -> Iterator[Block]:
    """The arrays of a numpy file; a `.npy` that has a path is mapped, so that only the block at hand is in memory."""
    import numpy as np

    with _file_errors(name, "not a numpy file that can be read without pickle"):
        content = np.load(source, mmap_mode="r" if isinstance(source, str) else None, allow_pickle=False)
    if isinstance(content, np.ndarray):
        yield from array_blocks(content, name, block_size)
        return
    empty = True
    with content as archive:
        for key in archive.files:
            with _file_errors(name, "not a numpy file that can be read without pickle"):
                array = archive[key]
            # A data set's archive holds labels too; they are no images.
            if isinstance(array, np.ndarray) and array.ndim >= len(IMAGE_SHAPE):
                yield from array_blocks(array, f"{name}:{key}", block_size)
                empty = False
    if empty:
        raise ImageError(f"{name}: no images: its arrays are {', '.join(archive.files) or 'none'}")


def array_blocks(array: npt.NDArray[np.generic], name: str, block_size: int) -> Iterator[Block]:
    """The images of an array [N, 28, 28], or of one [28, 28]. Raises ImageError."""
    images = array[None] if array.shape in (IMAGE_SHAPE, ()) else array
    # Shape and dtype first; the values are checked block by block.
    with _named(name):
        check_array(images)
    for start in range(0, len(images), block_size):
        names = [f"{name}[{row}]" for row in range(start, min(start + block_size, len(images)))]
        yield Block(names, functools.partial(_rows, images[start : start + block_size], name))


def _rows(images: npt.NDArray[np.generic], name: str) -> Batch:
    with _named(name):
        return Batch.of(images)


@contextmanager
def _named(name: str) -> Iterator[None]:
    try:
        yield
    except ClientUsageError as error:
        raise ImageError(f"{name}: {error}") from error


def is_idx(path: str) -> bool:
    """Whether it is the name of an IDX file of images."""
    return path.lower().removesuffix(".gz").endswith((".idx", "-idx3-ubyte", ".idx3-ubyte"))


def _idx(open_file: Callable[[], io.FileIO | io.BytesIO], name: str, block_size: int) -> Iterator[Block]:
    """The images of an IDX file, which may be gzipped."""
    with _file_errors(name, "cannot be read"), io.BufferedReader(open_file()) as raw:
        file: Any = gzip.GzipFile(fileobj=raw) if raw.peek(len(_GZIP)).startswith(_GZIP) else raw
        header = file.read(16)
        if header[:4] != _IDX_IMAGES or len(header) < 16:  # noqa: PLR2004 - four words
            raise ImageError(f"{name}: not an IDX file of uint8 images")
        count, *shape = struct.unpack(">3I", header[4:])
        if tuple(shape) != IMAGE_SHAPE:
            raise ImageError(f"{name}: images of {shape[0]}x{shape[1]}: expected 28x28")
        for start in range(0, count, block_size):
            rows = range(start, min(start + block_size, count))
            content = file.read(len(rows) * IMAGE_BYTES)
            if len(content) != len(rows) * IMAGE_BYTES:
                raise ImageError(f"{name}: ends after image {start + len(content) // IMAGE_BYTES} of {count}")
            yield Block([f"{name}[{row}]" for row in rows], functools.partial(Batch, "DT_UINT8", content))


@contextmanager
def _file_errors(name: str, message: str) -> Iterator[None]:
    """Raises what reading a file raises as an ImageError."""
    # Not needed for single pictures, which wait for every import.
    import zipfile

    try:
        yield
    except FileNotFoundError as error:
        raise ImageError(f"{name}: no such file") from error
    except (OSError, ValueError, EOFError, zipfile.BadZipFile, zlib.error) as error:
        raise ImageError(f"{name}: {message}: {error}") from error

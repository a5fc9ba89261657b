"""What `fashion predict` is given, as images in order: pictures, directories, globs, standard input, arrays, IDX files.

Everything is read piece by piece: a directory of a million files, or an array of a gigabyte, takes no more memory than
one batch.
"""

from __future__ import annotations

import functools
import glob
import gzip
import os
import struct
import sys
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, BinaryIO

from client.errors import ClientUsageError, ImageError
from client.pictures.batch import Batch
from client.pictures.images import Preprocess, read_image
from client.types import IMAGE_BYTES
from fashion_common.served_model import IMAGE_SHAPE

if TYPE_CHECKING:
    import numpy as np
    import numpy.typing as npt

_PICTURES = frozenset(
    {".png", ".jpg", ".jpeg", ".gif", ".bmp", ".tif", ".tiff", ".webp", ".ppm", ".pgm", ".pbm", ".ico", ".jp2", ".avif"}
)
_ARRAYS = frozenset({".npy", ".npz"})
# http://yann.lecun.com/exdb/mnist/ describes the format: two zeros, the type (8 is uint8), the number of dimensions.
_IDX_IMAGES = b"\0\0\x08\x03"
_STDIN_BYTES = 256 * 1024 * 1024


@dataclass(frozen=True)
class Block:
    """Some images in order: `name` of each, and `load`, which reads them all and raises ImageError."""

    names: Sequence[str]
    load: Callable[[], Batch]


def blocks(paths: Sequence[str], preprocess: Preprocess = "auto", block_size: int = 256) -> Iterator[Block]:
    """All that the paths name, in order; pictures one by one, arrays in blocks of `block_size`.

    Raises ClientUsageError for a URL; what is wrong with a file waits for its block's `load`, so that the others go on.
    """
    for path in paths:
        if "://" in path:
            raise ClientUsageError(f"{path}: URLs are not fetched: download it first (curl -O), then name the file")
    for path in paths:
        if path == "-":
            yield from _guarded(path, _stdin(preprocess, block_size))
        elif not os.path.lexists(path) and glob.has_magic(path):
            yield from _guarded(path, _matches(path, preprocess, block_size))
        elif os.path.isdir(path):  # noqa: PTH112 - the text of the path is kept as it was given
            yield from _guarded(path, _directory(path, preprocess, block_size))
        else:
            yield from _file(path, preprocess, block_size)


def _guarded(name: str, found: Iterator[Block]) -> Iterator[Block]:
    """The blocks; an ImageError on the way to the next one becomes the last block's."""
    try:
        yield from found
    except ImageError as error:
        yield Block([name], functools.partial(_fail, error))


def _fail(error: ImageError) -> Batch:
    raise error


def _matches(pattern: str, preprocess: Preprocess, block_size: int) -> Iterator[Block]:
    found = sorted(glob.glob(pattern, recursive=True))  # noqa: PTH207 - keeps a relative pattern's answers relative
    if not found:
        raise ImageError(f"{pattern}: nothing matches")
    for path in found:
        if Path(path).is_file():
            yield from _file(path, preprocess, block_size)


def _directory(path: str, preprocess: Preprocess, block_size: int) -> Iterator[Block]:
    """The pictures and arrays below a directory, sorted within each; other files are passed over."""
    empty = True
    for folder, folders, files in os.walk(path):
        folders.sort()
        for file in sorted(files):
            if Path(file).suffix.lower() in _PICTURES | _ARRAYS or _idx_name(file):
                empty = False
                yield from _file(os.path.join(folder, file), preprocess, block_size)  # noqa: PTH118 - as given
    if empty:
        raise ImageError(f"{path}: no pictures in this directory")


def _file(path: str, preprocess: Preprocess, block_size: int) -> Iterator[Block]:
    suffix = Path(path).suffix.lower()
    if suffix in _ARRAYS:
        yield from _guarded(path, _arrays(path, block_size))
    elif _idx_name(path):
        yield from _guarded(path, _idx(path, block_size))
    else:
        yield _picture(Path(path), path, preprocess)


def _stdin(preprocess: Preprocess, block_size: int) -> Iterator[Block]:
    """A picture, an array or an IDX file from standard input, told apart by the first bytes."""
    import io

    data = sys.stdin.buffer.read(_STDIN_BYTES + 1)
    if not data:
        raise ImageError("-: standard input is empty")
    if len(data) > _STDIN_BYTES:
        raise ImageError(f"-: more than {_STDIN_BYTES} bytes on standard input: name the file instead")
    if data.startswith(b"\x93NUMPY"):
        import numpy as np

        yield from _array_blocks(_loaded("-", lambda: np.load(io.BytesIO(data), allow_pickle=False)), "-", block_size)
    elif data[:4] == _IDX_IMAGES or data[:2] == b"\x1f\x8b":
        opened: Any = gzip.GzipFile(fileobj=io.BytesIO(data)) if data[:2] == b"\x1f\x8b" else io.BytesIO(data)
        yield from _idx_blocks(opened, "-", block_size)
    else:
        yield _picture(io.BytesIO(data), "-", preprocess)


def _picture(source: Path | BinaryIO, name: str, preprocess: Preprocess) -> Block:
    def load() -> Batch:
        return Batch("DT_UINT8", read_image(source, name, preprocess))

    return Block([name], load)


def _arrays(path: str, block_size: int) -> Iterator[Block]:
    import numpy as np

    if path.lower().endswith(".npy"):
        # Mapped, so that only the block at hand is in memory.
        yield from _array_blocks(
            _loaded(path, lambda: np.load(path, mmap_mode="r", allow_pickle=False)), path, block_size
        )
        return
    with _loaded(path, lambda: np.load(path, allow_pickle=False)) as archive:
        for key in archive.files:
            array = _loaded(path, functools.partial(archive.__getitem__, key))
            # A data set's archive holds labels too; they are no images.
            if array.ndim >= len(IMAGE_SHAPE):
                yield from _array_blocks(array, f"{path}:{key}", block_size)


def _loaded(path: str, load: Callable[[], Any]) -> Any:
    try:
        return load()
    except FileNotFoundError as error:
        raise ImageError(f"{path}: no such file") from error
    except (OSError, ValueError, EOFError, KeyError) as error:
        raise ImageError(f"{path}: not a numpy file that can be read without pickle: {error}") from error


def _array_blocks(array: npt.NDArray[np.generic], name: str, block_size: int) -> Iterator[Block]:
    images = array[None] if array.shape == IMAGE_SHAPE else array
    try:
        # One row tells shape and dtype; the values are looked at block by block.
        Batch.of(images[:1])
    except ClientUsageError as error:
        raise ImageError(f"{name}: {error}") from error
    for start in range(0, len(images), block_size):
        names = [f"{name}[{row}]" for row in range(start, min(start + block_size, len(images)))]
        yield Block(names, functools.partial(_rows, images[start : start + block_size], name))


def _rows(images: npt.NDArray[np.generic], name: str) -> Batch:
    try:
        return Batch.of(images)
    except ClientUsageError as error:
        raise ImageError(f"{name}: {error}") from error


def _idx_name(path: str) -> bool:
    name = Path(path).name.lower().removesuffix(".gz")
    return name.endswith((".idx", "-idx3-ubyte", ".idx3-ubyte"))


def _idx(path: str, block_size: int) -> Iterator[Block]:
    try:
        with (gzip.open if path.lower().endswith(".gz") else open)(path, "rb") as file:
            yield from _idx_blocks(file, path, block_size)
    except FileNotFoundError as error:
        raise ImageError(f"{path}: no such file") from error
    except (OSError, EOFError) as error:
        raise ImageError(f"{path}: cannot be read: {error}") from error


def _idx_blocks(file: Any, name: str, block_size: int) -> Iterator[Block]:
    header = file.read(16)
    if header[:4] != _IDX_IMAGES or len(header) < 16:  # noqa: PLR2004 - four words
        raise ImageError(f"{name}: not an IDX file of uint8 images")
    count, *shape = struct.unpack(">3I", header[4:])
    if tuple(shape) != IMAGE_SHAPE:
        raise ImageError(f"{name}: images of {shape[0]}x{shape[1]}: expected 28x28")
    for start in range(0, count, block_size):
        wanted = min(block_size, count - start)
        content = file.read(wanted * IMAGE_BYTES)
        if len(content) != wanted * IMAGE_BYTES:
            raise ImageError(f"{name}: ends after image {start + len(content) // IMAGE_BYTES} of {count}")
        yield Block(
            [f"{name}[{row}]" for row in range(start, start + wanted)], functools.partial(Batch, "DT_UINT8", content)
        )

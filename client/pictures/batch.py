"""Images as a batch: arrays or pixels, checked, in the bytes that a request carries."""

from __future__ import annotations

import array
import math
import os
import struct
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from operator import itemgetter
from typing import TYPE_CHECKING, Any, Protocol, TypeAlias, runtime_checkable

from client.errors import ClientUsageError
from client.types import IMAGE_BYTES, Preprocess
from fashion_common.served_model import IMAGE_SHAPE

if TYPE_CHECKING:
    from PIL.Image import Image

_ITEM_BYTES = {"DT_UINT8": 1, "DT_FLOAT": 4}
_DTYPES = ("uint8", "float32")


@runtime_checkable
class ArrayLike(Protocol):
    """What the client needs of a numpy array, so that it need not import numpy itself."""

    @property
    def shape(self) -> tuple[int, ...]:
        """The size of each axis."""

    @property
    def dtype(self) -> object:
        """Its text is numpy's name of the dtype: `uint8`."""

    def tobytes(self) -> bytes:
        """The elements in row-major order."""


@dataclass(frozen=True)
class Batch:
    """N images [N, 28, 28] in row-major order: uint8 pixels 0 to 255 (DT_UINT8) or float32 0 to 1 (DT_FLOAT)."""

    dtype: str
    content: bytes

    @property
    def count(self) -> int:
        """The number of images."""
        return len(self.content) // (IMAGE_BYTES * _ITEM_BYTES[self.dtype])

    @classmethod
    def of(cls, images: Images, preprocess: Preprocess = "auto") -> Batch:
        """From an array [N, 28, 28] or a sequence of arrays [28, 28], uint8 or float32 from 0 to 1; a Batch is itself.

        One picture, or a sequence in which there are some, goes through `preprocess`; see mixture.
        Raises ClientUsageError for another shape or dtype, no image at all, or floats that were not scaled; ImageError
        for a picture that cannot be read.
        """
        if isinstance(images, Batch):
            return images
        items, rank = ([images], 3) if isinstance(images, ArrayLike) else (_items(images), 2)
        if not items:
            raise ClientUsageError("no images: give an array [N, 28, 28] with N above 0")
        dtype = str(getattr(items[0], "dtype", ""))
        for item in items:
            if not isinstance(item, ArrayLike):
                # Pictures need Pillow.
                from client.pictures.mixture import mixed_batch

                return mixed_batch(items, preprocess)
            check_array(item, rank, dtype)
        content = b"".join(item.tobytes() for item in items)
        if dtype == "uint8":
            return cls("DT_UINT8", content)
        return cls("DT_FLOAT", _scaled_floats(content))

    def split(self, size: int) -> Iterator[Batch]:
        """Parts of `size` images at most, in order."""
        if self.count <= size:
            yield self
            return
        step = size * IMAGE_BYTES * _ITEM_BYTES[self.dtype]
        for start in range(0, len(self.content), step):
            yield Batch(self.dtype, self.content[start : start + step])

    def images(self) -> Iterator[bytes]:
        """One image after the other as 784 bytes: uint8 pixels, whatever the dtype that is sent."""
        content = self.content
        if self.dtype == "DT_FLOAT":
            content = bytes(round(255 * value) for value in memoryview(content).cast("f"))
        return map(itemgetter(0), struct.iter_unpack(f"{IMAGE_BYTES}s", content))


# A path, the bytes of a picture file, or an image of Pillow's.
Picture: TypeAlias = "str | os.PathLike[str] | bytes | Image"
Images: TypeAlias = "ArrayLike | Picture | Sequence[ArrayLike | Picture] | Batch"


def are_arrays(images: Images) -> bool:
    """Whether nothing needs to be read or decoded; quick for many arrays."""
    if isinstance(images, Batch | ArrayLike):
        return True
    is_uniform = isinstance(images, list | tuple) and len(set(map(type, images))) == 1
    return is_uniform and isinstance(next(iter(images)), ArrayLike)  # type: ignore[arg-type]


def _items(images: Any) -> list[Any]:
    if isinstance(images, list):
        return images
    is_one = isinstance(images, str | bytes | bytearray | os.PathLike) or not isinstance(images, Iterable)
    return [images] if is_one else list(images)


def check_array(images: ArrayLike, rank: int = 3, dtype: str = "") -> None:
    """Raises ClientUsageError unless it is an array [N, 28, 28] (rank 3) or [28, 28] (rank 2) of the dtype.

    dtype: `uint8`, `float32`, or "" for either.
    """
    shape, array_dtype = tuple(images.shape), str(images.dtype)
    fits = len(shape) == rank and shape[-2:] == IMAGE_SHAPE and shape[0]
    if fits and array_dtype in _DTYPES and array_dtype == (dtype or array_dtype):
        return
    expected = "[28, 28] each" if rank == len(IMAGE_SHAPE) else "[N, 28, 28] with N above 0"
    fix = ""
    if len(shape) != rank and math.prod(shape[1:]) == IMAGE_BYTES:
        fix = ": images.reshape(-1, 28, 28) would fit"
    elif array_dtype not in _DTYPES:
        fix = ": images.astype('uint8') keeps whole numbers from 0 to 255"
    raise ClientUsageError(
        f"images must be uint8 (0 to 255) or float32 (0 to 1) {expected}, got {array_dtype} {list(shape)}{fix}"
    )


def _scaled_floats(content: bytes) -> bytes:
    values = array.array("f")
    values.frombytes(content)
    low, high = min(values), max(values)
    # min and max pass over NaN; the sum does not.
    nan = " with NaN" if math.isnan(sum(values)) else ""
    if nan or not 0 <= low <= high <= 1:
        raise ClientUsageError(
            f"float images must be scaled to 0..1, got {low:g} to {high:g}{nan}: send uint8 pixels, or divide by 255"
        )
    return content

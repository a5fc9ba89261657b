"""Image files to the pixels that the model was trained on, by Pillow, as the exported graph does it in TensorFlow.

The rules are those of `encoded_images` in the SavedModel: laid on black, gray by the same luma, 16 bit cut to 8, fitted
into 28x28 with its proportions.
"""

from __future__ import annotations

import io
import itertools
import struct
import threading
import warnings
import zlib
from collections.abc import Iterator, Sequence
from contextlib import nullcontext

import numpy as np
import numpy.typing as npt
from PIL import Image

from fashion_common.served_model import IMAGE_SHAPE, MAX_PIXELS
from serving.errors import InvalidArgument

_SIZE, _ = IMAGE_SHAPE  # square
_FORMATS = ("PNG", "JPEG", "GIF", "BMP")
# BMP files that TensorFlow reads: of so many bits a pixel, without compression or with masks.
_BMP_BITS = (8, 24, 32)
_BMP_COMPRESSIONS = (0, 3)
# Of those that are larger, one is decoded at a time: each takes five bytes a pixel.
_LARGE_PIXELS = 2**22
_LARGE = threading.Lock()
_TILE = 1024

# What Pillow raises for bytes that are no picture, or too large a one.
_NO_PICTURE = (
    OSError, SyntaxError, ValueError, EOFError, IndexError, TypeError, KeyError, struct.error, zlib.error,
    Image.DecompressionBombError, Image.DecompressionBombWarning,
)  # fmt: skip

Pixels = npt.NDArray[np.uint8]

# Such a picture is refused anyway.
warnings.filterwarnings("ignore", category=Image.DecompressionBombWarning)


def read_pictures(files: Sequence[bytes]) -> Pixels:
    """Image files -> uint8 [N, 28, 28]. Raises InvalidArgument for the first that is no picture."""
    images = np.zeros((len(files), *IMAGE_SHAPE), np.uint8)
    for row, file in enumerate(files):
        try:
            images[row] = _pixels(file)
        except _NO_PICTURE as error:
            raise InvalidArgument(
                f"image {row} of {len(files)}, counted from 0, is not a whole PNG, JPEG, GIF or BMP image of at most "
                f"{MAX_PIXELS} pixels"
            ) from error
    return images


def _pixels(file: bytes) -> Pixels:
    """One file's first picture as uint8 [28, 28]."""
    picture = Image.open(io.BytesIO(file), formats=_FORMATS)
    area = picture.width * picture.height
    if area > MAX_PIXELS:
        raise ValueError(f"{area} pixels")
    if picture.format == "PNG":
        _check_png(file)
    if picture.format == "BMP":
        _check_bmp(file)
    with _LARGE if area > _LARGE_PIXELS else nullcontext():
        gray = _gray(picture)
        picture.close()
        return _fitted(gray)


def _gray(picture: Image.Image) -> Image.Image:
    """The picture in Pillow's gray, laid on black; in tiles, since each step takes some bytes a pixel."""
    picture.load()
    # The fourth byte of a BMP is no alpha.
    has_alpha = picture.format != "BMP" and (picture.mode in ("RGBA", "LA", "PA") or "transparency" in picture.info)
    gray = Image.new("L", picture.size)
    for top, left in itertools.product(range(0, picture.height, _TILE), range(0, picture.width, _TILE)):
        box = (left, top, min(left + _TILE, picture.width), min(top + _TILE, picture.height))
        gray.paste(_gray_tile(picture.crop(box), has_alpha=has_alpha), box)
    return gray


def _gray_tile(tile: Image.Image, *, has_alpha: bool) -> Image.Image:
    if tile.mode.startswith("I"):
        deep = np.asarray(tile)
        gray = (deep >> 8).astype(np.uint8)
        return Image.fromarray(np.where(deep == tile.info.get("transparency"), np.uint8(0), gray))
    if not has_alpha:
        return tile.convert("RGB").convert("L")
    rgba = tile.convert("RGBA")
    luma, alpha = np.asarray(rgba.convert("RGB").convert("L"), np.uint16), np.asarray(rgba.getchannel("A"), np.uint16)
    return Image.fromarray(((luma * alpha + 127) // 255).astype(np.uint8))


def _fitted(gray: Image.Image) -> Pixels:
    if gray.size == IMAGE_SHAPE:
        return np.asarray(gray)
    longest = max(gray.size)
    width, height = (max((2 * _SIZE * side + longest) // (2 * longest), 1) for side in gray.size)
    # As floats: Pillow rounds between its two passes otherwise. The first, across, goes by rows.
    rows = max(1, _TILE * _TILE // gray.width)
    bands = [gray.crop((0, top, gray.width, min(top + rows, gray.height))) for top in range(0, gray.height, rows)]
    narrow = np.concatenate(
        [np.asarray(band.convert("F").resize((width, band.height), Image.Resampling.BILINEAR)) for band in bands]
    )
    picture = np.asarray(Image.fromarray(narrow).resize((width, height), Image.Resampling.BILINEAR))
    left, top = (_SIZE - width) // 2, (_SIZE - height) // 2
    image = np.zeros(IMAGE_SHAPE, np.uint8)
    image[top : top + height, left : left + width] = np.clip(np.rint(picture), 0, 255)
    return image


def _check_png(file: bytes) -> None:
    """Raises ValueError where a chunk's checksum is wrong, which Pillow does not look at while it decodes."""
    for kind, content, checksum in _chunks(file):
        # As libpng has it, what need not be understood need not be whole.
        if kind[:1].isupper() and zlib.crc32(content, zlib.crc32(kind)) != checksum:
            raise ValueError(f"the checksum of {kind!r} is wrong")


def _chunks(file: bytes) -> Iterator[tuple[bytes, bytes, int]]:
    position = 8
    while position + 12 <= len(file):
        end = position + 8 + int.from_bytes(file[position : position + 4])
        yield file[position + 4 : position + 8], file[position + 8 : end], int.from_bytes(file[end : end + 4])
        position = end + 4


def _check_bmp(file: bytes) -> None:
    bits, compression = int.from_bytes(file[28:30], "little"), int.from_bytes(file[30:34], "little")
    if bits not in _BMP_BITS or compression not in _BMP_COMPRESSIONS:
        raise ValueError(f"a BMP of {bits} bits with compression {compression}")

"""Image files become the model's pixels in the graph: the same pixels that Pillow sees."""

from __future__ import annotations

import io
import struct
import zlib
from collections.abc import Callable

import numpy as np
import numpy.typing as npt
import pytest
import tensorflow as tf
from PIL import Image

from fashion_common.served_model import MAX_PIXELS
from tests.support.exports import encoded, pictures
from training.export.decoding import decode, gray, pixels

RGBA = np.random.default_rng(3).integers(0, 256, (31, 17, 4), dtype=np.uint8)
RGB, GRAY = RGBA[..., :3], RGBA[..., 0]
PALETTE = Image.fromarray(RGB).quantize(64)
FEW_COLOURS = Image.fromarray(RGB).quantize(16)

FILES = {
    "PNG gray": encoded(GRAY, "PNG"),
    "PNG gray, a transparent shade": encoded(GRAY, "PNG", transparency=int(GRAY[0, 0])),
    "PNG gray with alpha": encoded(Image.fromarray(RGBA).convert("LA"), "PNG"),
    "PNG of 1 bit": encoded(Image.fromarray(GRAY).convert("1"), "PNG"),
    "PNG colour": encoded(RGB, "PNG"),
    "PNG colour with alpha": encoded(RGBA, "PNG"),
    "PNG palette": encoded(PALETTE, "PNG"),
    "PNG palette of 4 bit": encoded(FEW_COLOURS, "PNG"),
    "PNG palette of 4 bit, a transparent entry": encoded(FEW_COLOURS, "PNG", transparency=3),
    "JPEG gray": encoded(GRAY, "JPEG"),
    "JPEG colour": encoded(RGB, "JPEG"),
    "JPEG progressive": encoded(RGB, "JPEG", progressive=True, subsampling=2),
    "JPEG CMYK": encoded(Image.fromarray(RGB).convert("CMYK"), "JPEG"),
    "GIF gray": encoded(GRAY, "GIF"),
    "GIF palette": encoded(PALETTE, "GIF"),
    "GIF, a transparent entry": encoded(PALETTE, "GIF", transparency=3),
    "GIF animated": encoded(PALETTE, "GIF", save_all=True, append_images=[Image.fromarray(255 - RGB).quantize(64)]),
    "BMP gray": encoded(GRAY, "BMP"),
    "BMP palette": encoded(PALETTE, "BMP"),
    "BMP colour": encoded(RGB, "BMP"),
    "BMP of 32 bit": encoded(RGBA, "BMP"),
}
PNG_MAGIC = b"\x89PNG\r\n\x1a\n"


def chunk(kind: bytes, data: bytes) -> bytes:
    """One chunk of a PNG."""
    return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))


BAD_FILES = {
    "empty": b"",
    "text": b"not an image",
    "WebP": encoded(GRAY, "WEBP"),
    "PNG, only its magic": PNG_MAGIC,
    "PNG, cut": FILES["PNG gray"][:-30],
    "PNG, a flipped bit": FILES["PNG gray"][:60] + bytes([FILES["PNG gray"][60] ^ 1]) + FILES["PNG gray"][61:],
    "JPEG, cut": FILES["JPEG gray"][:100],
    "GIF, cut": FILES["GIF gray"][:60],
    "BMP, only its magic": b"BM",
    "BMP, cut": FILES["BMP gray"][:-30],
    "BMP, its palette outside": FILES["BMP gray"][:14] + struct.pack("<I", 2**30) + FILES["BMP gray"][18:],
    "PNG that unfolds to gigabytes": PNG_MAGIC
    + chunk(b"IHDR", struct.pack(">IIBBBBB", MAX_PIXELS, 2, 8, 0, 0, 0, 0))
    + chunk(b"IDAT", b""),
}


def huge(form: str, width: int, height: int) -> bytes:
    """A picture of this size, of which only the head is there."""
    if form == "PNG":
        return PNG_MAGIC + chunk(b"IHDR", struct.pack(">IIBBBBB", width, height, 8, 0, 0, 0, 0)) + chunk(b"IDAT", b"")
    if form == "GIF":
        return b"GIF89a" + struct.pack("<HH", width, height)
    if form == "BMP":
        return FILES["BMP gray"][:18] + struct.pack("<ii", width, -height) + FILES["BMP gray"][26:]
    file = FILES["JPEG gray"]
    # The frame's header: its length, the bits of a sample, and the two sides.
    start = file.index(b"\xff\xc0") + 5
    return file[:start] + struct.pack(">HH", height, width) + file[start + 4 :]


@pytest.mark.parametrize("form", ["PNG", "GIF", "BMP", "JPEG"])
def test_no_more_pixels_are_unfolded_than_are_allowed(form: str) -> None:
    """67,108,864 by what the file's head says, before anything is decoded."""
    expected = "an image may have 67108864 pixels, not"
    with pytest.raises(tf.errors.InvalidArgumentError) as error:
        gray(tf.constant(huge(form, 8192, 8193)))
    assert expected in error.value.message
    assert str(8192 * 8193) in error.value.message
    if form != "JPEG":
        with pytest.raises(tf.errors.InvalidArgumentError) as error:
            gray(tf.constant(huge(form, 8192, 8192)))
        assert expected not in error.value.message


def test_what_is_no_picture_is_said_to_be_none() -> None:
    """By its first two bytes."""
    for file in (b"", b"\x89", b"\x89Q", b"RIFF"):
        with pytest.raises(tf.errors.InvalidArgumentError, match="not a PNG, JPEG, GIF or BMP image"):
            gray(tf.constant(file))


@pytest.mark.parametrize("form", ["PNG", "GIF", "BMP", "JPEG"])
def test_a_file_that_ends_in_its_head_is_refused_by_its_decoder(form: str) -> None:
    """After however many bytes: an error of the graph's steps before that would quote them, and they are no text."""
    file = huge(form, 28, 28)
    for length in range(2, 40):
        with pytest.raises(tf.errors.InvalidArgumentError) as error:
            gray(tf.constant(file[:length]))
        assert "for string" not in error.value.message, length


Decode = Callable[[tf.Tensor], tf.Tensor]


@pytest.fixture(scope="module")
def decode_graph() -> Decode:
    """`decode` as the signatures have it: a traced graph."""
    graph: Decode = tf.function(decode, autograph=False).get_concrete_function(tf.TensorSpec([None], tf.string))
    return graph


def as_pillow_sees_it(file: bytes) -> npt.NDArray[np.int64]:
    """The file's first picture in Pillow's gray, laid on black."""
    image = Image.open(io.BytesIO(file)).convert("RGBA")
    luma = np.asarray(image.convert("RGB").convert("L")).astype(np.int64)
    alpha = np.asarray(image).astype(np.int64)[..., 3]
    return (luma * alpha + 127) // 255


@pytest.mark.parametrize("file", FILES.values(), ids=FILES)
def test_a_file_gives_the_gray_that_pillow_makes_of_it(file: bytes) -> None:
    """Every pixel is equal, so client and server may each decode: the model sees the same."""
    np.testing.assert_array_equal(gray(tf.constant(file)), as_pillow_sees_it(file))


@pytest.mark.parametrize("channels", [1, 2, 3, 4])
def test_16_bit_pngs_are_cut_to_8(channels: int) -> None:
    """The upper byte of every channel counts."""
    deep = np.random.default_rng(5).integers(0, 2**16, (9, 11, channels), dtype=np.uint16)
    shallow = (deep >> 8).astype(np.uint8)
    expected = gray(tf.io.encode_png(tf.constant(shallow)))
    np.testing.assert_array_equal(gray(tf.io.encode_png(tf.constant(deep))), expected)


def test_28_by_28_stays_as_it_is() -> None:
    """No resizing where there is nothing to resize."""
    picture = pictures(1)[0]
    np.testing.assert_array_equal(pixels(tf.constant(encoded(picture, "PNG"))), picture)


@pytest.mark.parametrize(
    ("height", "width", "rows", "columns"),
    [(1, 1, 28, 28), (300, 300, 28, 28), (140, 280, 14, 28), (600, 400, 28, 19), (1, 5000, 1, 28), (5000, 1, 28, 1)],
)
def test_any_size_fits_with_its_proportions(height: int, width: int, rows: int, columns: int) -> None:
    """The longest edge becomes 28 pixels; the picture is centred on black."""
    image = pixels(tf.constant(encoded(np.full((height, width), 200, np.uint8), "PNG"))).numpy()
    top, left = (28 - rows) // 2, (28 - columns) // 2
    expected = np.zeros((28, 28), np.uint8)
    expected[top : top + rows, left : left + columns] = 200
    np.testing.assert_array_equal(image, expected)


@pytest.mark.parametrize("file", BAD_FILES.values(), ids=BAD_FILES)
def test_one_bad_file_fails_the_call_and_is_named(decode_graph: Decode, file: bytes) -> None:
    """The error says which row; alone, it is an InvalidArgumentError in readable text too."""
    good = FILES["PNG gray"]
    with pytest.raises(tf.errors.InvalidArgumentError) as error:
        decode_graph(tf.constant([good, good, file, good, file]))
    expected = "image 2 of 5, counted from 0, is not a whole PNG, JPEG, GIF or BMP image of at most 67108864 pixels"
    assert expected in error.value.message
    with pytest.raises(tf.errors.InvalidArgumentError):
        decode_graph(tf.constant([file]))

"""Any picture to uint8 [28, 28], by the data set's own recipe."""

from __future__ import annotations

import io
import warnings
from pathlib import Path

import numpy as np
import pytest
from PIL import Image, ImageDraw

from client.errors import ImageError
from client.limits import PICTURE_PIXELS
from client.pictures import images
from client.pictures.images import (
    has_light_border,
    open_picture,
    pixels_and_doubt,
    read_image,
    statistics,
    trimmed_pixels,
    upright,
)
from client.types import Preprocess

# Most of these pictures are no garments.
pytestmark = pytest.mark.filterwarnings("ignore::client.errors.ImageWarning")
_GRADIENT = np.arange(784, dtype=np.uint32).reshape(28, 28).astype(np.uint8)


def _read(picture: Image.Image, preprocess: Preprocess = "auto", form: str = "PNG", **options: object) -> np.ndarray:
    buffer = io.BytesIO()
    picture.save(buffer, form, **options)
    return np.frombuffer(read_image(buffer, "picture", preprocess), np.uint8).reshape(28, 28)


def _product(colour: tuple[int, int, int], background: tuple[int, int, int] = (255, 255, 255)) -> Image.Image:
    """A shirt as a shop shows it: 600 px wide, shaded, on a plain background, with room round it."""
    picture = Image.new("RGB", (600, 800), background)
    draw = ImageDraw.Draw(picture)
    darker = tuple(level * 7 // 10 for level in colour)
    sleeves = [(200, 150), (400, 150), (500, 330), (450, 360), (390, 270)]
    draw.polygon([*sleeves, (390, 640), (210, 640), (210, 270), (150, 360), (100, 330)], fill=colour)
    for y in range(330, 620, 60):
        draw.line([(215, y), (385, y)], fill=darker, width=18)
    draw.ellipse([(260, 130), (340, 190)], fill=background)
    return picture


_PRODUCTS = {
    "black": ((20, 20, 25), (255, 255, 255)),
    "navy": ((20, 30, 90), (255, 255, 255)),
    "red": ((180, 20, 30), (255, 255, 255)),
    "green": ((20, 110, 50), (250, 250, 250)),
    "brown": ((110, 70, 40), (255, 255, 255)),
    "purple": ((100, 30, 120), (255, 255, 255)),
    "gray": ((90, 90, 90), (245, 245, 245)),
    "teal": ((0, 100, 110), (255, 255, 255)),
    "on cream": ((60, 40, 40), (250, 240, 220)),
    "on black": ((200, 190, 180), (10, 10, 10)),
}


@pytest.mark.parametrize("name", _PRODUCTS)
def test_product_photographs_come_out_like_the_training_set(name: str) -> None:
    """As JPEG: on black, the longest edge fills the frame, centred, mean and ink in the training set's range."""
    image = _read(_product(*_PRODUCTS[name]), form="JPEG", quality=85)
    assert np.median([image[0, 0], image[0, 27], image[27, 0], image[27, 27]]) < 8
    rows = np.flatnonzero((image > 40).any(axis=1))
    columns = np.flatnonzero((image > 40).any(axis=0))
    # Colours bleed a little in JPEG, so that the trimmed box may be a pixel larger than the garment.
    assert rows[0] <= 1
    assert rows[-1] >= 26
    assert abs(columns[0] - (27 - columns[-1])) <= 1
    # Nine tenths of the training images lie within these.
    assert 25.8 <= image.mean() <= 128.2
    assert 0.272 <= (image > 8).mean() <= 0.714


def test_a_28x28_gray_png_is_taken_as_it_is() -> None:
    """Not a pixel changes, unless the recipe is asked for."""
    picture = Image.fromarray(_GRADIENT)
    np.testing.assert_array_equal(_read(picture), _GRADIENT)
    np.testing.assert_array_equal(_read(picture, "none"), _GRADIENT)
    assert (_read(picture, "photo") != _GRADIENT).any()


def test_none_only_makes_it_gray_and_28x28() -> None:
    """A flat colour keeps its luminance; nothing is inverted."""
    np.testing.assert_array_equal(_read(Image.new("RGB", (100, 60), (200, 200, 200)), "none"), np.full((28, 28), 200))


def test_exif_orientation_is_followed(tmp_path: Path) -> None:
    """A photograph that lies on its side is stood up: the same pixels as of the upright one."""
    upright = _product((20, 30, 90))
    exif = Image.Exif()
    exif[0x0112] = 6  # rotate by 90 degrees clockwise to show
    lying = upright.rotate(90, expand=True)
    assert np.abs(_read(lying, exif=exif).astype(int) - _read(upright)).max() <= 1


def test_alpha_is_laid_on_the_background() -> None:
    """What is transparent is background: white in a photograph, black in a ready image."""
    product = _product((20, 30, 90)).convert("RGBA")
    product.putalpha(Image.fromarray(np.where(np.asarray(product.convert("L")) < 250, 255, 0).astype(np.uint8)))
    assert np.abs(_read(product).astype(int) - _read(_product((20, 30, 90)))).max() <= 2
    ready = Image.merge("LA", [Image.fromarray(_GRADIENT), Image.new("L", (28, 28), 0)])
    assert _read(ready).max() == 0


def test_sixteen_bit_palette_cmyk_and_one_bit_are_read() -> None:
    """16 bit is cut to its upper 8 and not clipped; the others are their colours."""
    np.testing.assert_array_equal(_read(Image.fromarray(_GRADIENT.astype(np.uint16) << 8)), _GRADIENT)
    product = _product((20, 30, 90))
    reference = _read(product).astype(int)
    assert np.abs(_read(product.convert("P", palette=Image.Palette.ADAPTIVE)) - reference).mean() < 4
    assert np.abs(_read(product.convert("CMYK"), form="TIFF") - reference).mean() < 4
    assert set(np.unique(_read(Image.fromarray(_GRADIENT > 100)))) == {0, 255}


def test_a_blank_picture_is_black() -> None:
    """Nothing differs from the corners: there is nothing to trim to."""
    assert _read(Image.new("RGB", (300, 200), (240, 240, 240))).max() == 0


def test_trimming_fills_the_frame() -> None:
    """A small garment in the middle becomes as large as the frame."""
    image = np.zeros((28, 28), np.uint8)
    image[10:18, 12:16] = 200
    result = np.frombuffer(trimmed_pixels(image.tobytes()), np.uint8).reshape(28, 28)
    assert (result > 100).any(axis=1).all()
    assert trimmed_pixels(bytes(784)) == bytes(784)


def test_the_greatest_picture_is_read_and_one_pixel_more_is_not(monkeypatch: pytest.MonkeyPatch) -> None:
    """Where Pillow warns of its own accord, as it does in production, and where that is an error."""
    monkeypatch.setattr(images, "PICTURE_PIXELS", 200 * 150)
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 200 * 150 - 1)
    for action in ("default", "error"):
        with warnings.catch_warnings(record=action == "default") as caught:
            warnings.simplefilter(action, Image.DecompressionBombWarning)
            assert _read(Image.new("1", (200, 150))).shape == (28, 28)
            with pytest.raises(ImageError, match="30001x1 pixels are more than 30000: too large"):
                _read(Image.new("1", (30001, 1)))
        assert not [each for each in caught or () if each.category is Image.DecompressionBombWarning]


def test_what_is_no_picture_is_named(tmp_path: Path) -> None:
    """Missing, a text called .png, a truncated PNG, a directory, too many pixels: which file, and what is wrong."""
    text = tmp_path / "text.png"
    text.write_text("not a picture")
    whole = tmp_path / "whole.png"
    Image.fromarray(np.random.default_rng(0).integers(0, 255, (28, 28), np.uint8)).save(whole)
    truncated = tmp_path / "truncated.png"
    truncated.write_bytes(whole.read_bytes()[:200])
    bomb = tmp_path / "bomb.png"
    Image.new("1", (20_000, PICTURE_PIXELS // 20_000 + 1)).save(bomb)
    larger = tmp_path / "larger.png"
    Image.new("1", (20_000, 2 * PICTURE_PIXELS // 20_000 + 1)).save(larger)
    for path, why in (
        (tmp_path / "missing.png", "no such file"),
        (text, "not a picture"),
        (truncated, "cannot be read as a picture"),
        (tmp_path, "cannot be read as a picture: Is a directory"),
        (bomb, f"more than {PICTURE_PIXELS}.*: too large"),
        (larger, f"more than {PICTURE_PIXELS} pixels: too large"),
    ):
        with pytest.raises(ImageError, match=why) as excinfo:
            read_image(path, str(path))
        assert str(excinfo.value).startswith(f"{path}: ")
        assert excinfo.value.exit_code == 2


def _doubt(image: np.ndarray) -> str:
    """What speaks against a ready image, or nothing."""
    return pixels_and_doubt(Image.fromarray(image), "none")[1]


def _inked(count: int, total: int) -> np.ndarray:
    """An image of so many pixels above black that add up to a total, those of the middle first; one of them is 120."""
    order = np.argsort(-np.minimum.reduce([_ROWS, 27 - _ROWS, _ROWS.T, 27 - _ROWS.T]).ravel(), kind="stable")
    levels = np.zeros(784, np.uint8)
    low, more = divmod(total - 120, count - 1)
    levels[order[0]], levels[order[1:count]] = 120, low
    levels[order[1 : 1 + more]] += 1
    assert np.count_nonzero(levels) == count
    assert levels.sum(dtype=int) == total
    return levels.reshape(28, 28)


_ROWS = np.repeat(np.arange(28)[:, None], 28, axis=1)
_RANGES = "(11 to 167 there), and {:.0%} of the pixels are not black (13% to 87%)"


@pytest.mark.parametrize(
    ("count", "total", "doubt"),
    [
        (110, 8938, ""),
        (110, 8937, "unlike the training set: the mean pixel is 11 " + _RANGES.format(110 / 784)),
        (102, 9999, ""),
        (101, 9999, "unlike the training set: the mean pixel is 13 " + _RANGES.format(101 / 784)),
        (683, 40_000, ""),
        (684, 40_000, "unlike the training set: the mean pixel is 51 " + _RANGES.format(684 / 784)),
        (683, 131_084, ""),
        (683, 131_085, "lighter than the training set: is the background light? --preprocess photo makes it black"),
    ],
)
def test_an_image_is_doubted_outside_of_the_training_sets_ranges(count: int, total: int, doubt: str) -> None:
    """Of the mean pixel and of the share of pixels that are not black; all but 2 in 1,000 are within them."""
    image = _inked(count, total)
    assert _doubt(image) == doubt
    assert statistics(image.tobytes()) == pytest.approx((total / 784, count / 784))
    assert pixels_and_doubt(Image.fromarray(image), "none", doubts=False) == (image.tobytes(), "")


@pytest.mark.parametrize(("level", "rows", "is_light"), [(161, 26, True), (160, 26, False), (161, 25, False)])
def test_a_border_is_light_where_half_of_it_is(level: int, rows: int, is_light: bool) -> None:
    """The upper edge and so many pixels of the left one, corners counted twice: 56 of 112."""
    image = np.zeros((28, 28), np.uint8)
    image[0] = image[1 : 1 + rows, 0] = level
    for turns in range(4):
        assert has_light_border(np.rot90(image, turns).tobytes()) is is_light
    inner = np.full((28, 28), 255, np.uint8)
    inner[[0, -1]] = inner[:, [0, -1]] = 0
    assert not has_light_border(inner.tobytes())


def test_close_to_black_is_trimmed_off() -> None:
    """Up to a twentieth of the greatest intensity; the rest keeps its form, in the middle, on black."""
    image = np.full((28, 28), 12, np.uint8)
    image[10:18, 12:16] = 200
    result = np.frombuffer(trimmed_pixels(image.tobytes()), np.uint8).reshape(28, 28)
    expected = np.zeros((28, 28), np.uint8)
    expected[:, 7:21] = 200
    np.testing.assert_array_equal(result, expected)
    image[0, 0] = image[27, 27] = 13
    assert trimmed_pixels(image.tobytes()) == image.tobytes()


@pytest.mark.parametrize(("edge", "decoded"), [(2688, 336), (2680, 670), (300, 300)])
def test_a_jpeg_is_reduced_as_far_as_twelve_pixels_for_one(tmp_path: Path, edge: int, decoded: int) -> None:
    """By 8, 4 or 2 while it is decoded, which is quicker; a small one is left as it is."""
    Image.new("L", (edge, edge), 9).save(tmp_path / "a.jpg")
    assert open_picture(tmp_path / "a.jpg", "a").size == (decoded, decoded)


@pytest.mark.parametrize("mode", ["RGBA", "LA", "PA", "RGBa", "La", "P"])
def test_what_is_half_transparent_is_half_as_bright(mode: str) -> None:
    """On black, in every form that an alpha has."""
    if mode == "P":
        picture = Image.new("P", (28, 28), 1)
        picture.putpalette([0, 0, 0, 200, 200, 200])
        picture.info["transparency"] = bytes([255, 128])
    elif mode == "PA":
        picture = Image.new("PA", (28, 28), (1, 128))
        picture.putpalette([0, 0, 0, 200, 200, 200])
    else:
        bands = [Image.new("L", (28, 28), level) for level in ([200] * 3 if "RGB" in mode else [200])]
        picture = Image.merge(mode.upper(), [*bands, Image.new("L", (28, 28), 128)]).convert(mode)
    pixels, _ = pixels_and_doubt(upright(picture, "it"), "none")
    assert set(pixels) <= {99, 100, 101}


def test_floats_and_sixteen_bits_are_levels() -> None:
    """Those of 32 bits as they are, 16 bits by their upper 8."""
    np.testing.assert_array_equal(_read(Image.fromarray(_GRADIENT.astype(np.float32)), form="TIFF"), _GRADIENT)
    deep = (_GRADIENT.astype(np.uint16) << 8) + 255
    np.testing.assert_array_equal(_read(Image.fromarray(deep)), _GRADIENT)

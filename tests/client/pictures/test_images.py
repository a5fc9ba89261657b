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
from client.pictures.images import read_image, trimmed_pixels
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

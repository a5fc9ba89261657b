"""From any picture to what the model was trained on: uint8 [28, 28], a light garment on black.

Fashion-MNIST was made from product photographs by a fixed recipe (Xiao et al. 2017, https://arxiv.org/abs/1708.07747,
section 2 and figure 1); a photograph goes through the same steps here.
"""

from __future__ import annotations

import statistics
from pathlib import Path
from typing import BinaryIO, cast

from PIL import Image, ImageChops, ImageFilter, ImageOps, UnidentifiedImageError

from client.errors import ImageError
from client.limits import PICTURE_PIXELS
from client.types import Preprocess
from fashion_common.served_model import IMAGE_SHAPE

_EDGE = IMAGE_SHAPE[0]
# "Close to the corner's colour" is within 5 % of the greatest possible intensity.
_CLOSE = 255 * 5 // 100
_GRAY_MODES = ("1", "L", "LA", "La", "I", "I;16", "I;16B", "I;16L", "F")


def read_image(source: Path | BinaryIO, name: str, preprocess: Preprocess = "auto") -> bytes:
    """One picture as 784 bytes: uint8 [28, 28] in row-major order.

    preprocess: `photo` is the data set's recipe, `none` only makes it gray and 28x28, `auto` is `none` for a gray
    picture of 28x28 and `photo` for every other.
    Raises ImageError, whose text begins with `name`, for what is missing, unreadable, too large or not a picture.
    """
    picture = _open(source, name)
    if preprocess == "photo" or (preprocess == "auto" and not _is_ready(picture)):
        return _photo_pixels(picture).tobytes()
    gray = _on_background(picture, 0).convert("L")
    return (gray if gray.size == IMAGE_SHAPE else gray.resize(IMAGE_SHAPE, Image.Resampling.BILINEAR)).tobytes()


def _photo_pixels(picture: Image.Image) -> Image.Image:
    """The data set's recipe: trim by the corners' colour, longest edge to 28, sharpen, centre, negate, make gray.

    A background that is not white is brought to black as well, which the recipe, made for white ones, does not need.
    """
    colour = _on_background(picture, 255).convert("RGB")
    corners = _corner_colour(colour)
    garment = colour.crop(_ink_box(colour, corners))
    scale = _EDGE / max(garment.size)
    size = (max(1, round(garment.width * scale)), max(1, round(garment.height * scale)))
    small = garment.resize(size, Image.Resampling.NEAREST).filter(
        ImageFilter.UnsharpMask(radius=1, percent=100, threshold=0)
    )
    canvas = Image.new("RGB", IMAGE_SHAPE, corners)
    canvas.paste(small, ((_EDGE - small.width) // 2, (_EDGE - small.height) // 2))
    gray = canvas.convert("L")
    background = cast("int", Image.new("RGB", (1, 1), corners).convert("L").getpixel((0, 0)))
    if background >= 128:  # noqa: PLR2004 - the middle of 0 to 255
        gray, background = ImageOps.invert(gray), 255 - background
    return gray.point([max(0, level - background) * 255 // (255 - background) for level in range(256)])


def trimmed_pixels(pixels: bytes) -> bytes:
    """An image, uint8 [28, 28], with its black border cut off and the rest scaled to fill the frame."""
    image = Image.frombytes("L", IMAGE_SHAPE, pixels)
    box = image.point(lambda level: 255 if level > _CLOSE else 0).getbbox()
    return ImageOps.pad(image.crop(box), IMAGE_SHAPE, Image.Resampling.BILINEAR, color=0).tobytes() if box else pixels


def _open(source: Path | BinaryIO, name: str) -> Image.Image:
    try:
        picture: Image.Image = Image.open(source)
        with picture:
            if picture.width * picture.height > PICTURE_PIXELS:
                raise ImageError(
                    f"{name}: {picture.width}x{picture.height} pixels are more than {PICTURE_PIXELS}: too large"
                )
            picture.load()
            return _eight_bit(ImageOps.exif_transpose(picture))
    except FileNotFoundError as error:
        raise ImageError(f"{name}: no such file") from error
    except UnidentifiedImageError as error:
        raise ImageError(f"{name}: not a picture (PNG, JPEG, GIF, BMP, TIFF, WebP, ...)") from error
    except (Image.DecompressionBombError, Image.DecompressionBombWarning) as error:
        raise ImageError(f"{name}: more than {PICTURE_PIXELS} pixels: too large") from error
    except (OSError, SyntaxError, ValueError, EOFError) as error:
        reason = error.strerror if isinstance(error, OSError) and error.strerror else str(error)
        raise ImageError(f"{name}: cannot be read as a picture: {reason}") from error


def _eight_bit(picture: Image.Image) -> Image.Image:
    """16 bit gray reduced to its upper 8, as TensorFlow's decoder does; Pillow's own conversion would clip it."""
    if picture.mode.startswith("I"):
        return picture.convert("I").point(lambda level: level / 256).convert("L")
    return picture


def _is_ready(picture: Image.Image) -> bool:
    return picture.size == IMAGE_SHAPE and picture.mode in _GRAY_MODES


def _on_background(picture: Image.Image, level: int) -> Image.Image:
    """The picture without its alpha: laid on black or white."""
    if picture.mode in ("RGBA", "LA", "PA", "RGBa", "La") or "transparency" in picture.info:
        with_alpha = picture.convert("RGBA")
        background = Image.new("RGBA", picture.size, (level, level, level, 255))
        return Image.alpha_composite(background, with_alpha).convert("RGB")
    return picture


def _corner_colour(colour: Image.Image) -> tuple[int, int, int]:
    right, bottom = colour.width - 1, colour.height - 1
    corners = [
        cast("tuple[int, int, int]", colour.getpixel(xy)) for xy in ((0, 0), (right, 0), (0, bottom), (right, bottom))
    ]
    red, green, blue = (int(statistics.median(levels)) for levels in zip(*corners, strict=True))
    return red, green, blue


def _ink_box(colour: Image.Image, background: tuple[int, int, int]) -> tuple[int, int, int, int]:
    """The box round all that is not close to the background; everything when nothing is."""
    difference = ImageChops.difference(colour, Image.new("RGB", colour.size, background))
    red, green, blue = difference.split()
    furthest = ImageChops.lighter(ImageChops.lighter(red, green), blue)
    return furthest.point(lambda level: 255 if level > _CLOSE else 0).getbbox() or (0, 0, *colour.size)


def save_enlarged(pixels: bytes, path: Path) -> None:
    """Saves uint8 [28, 28] as a picture ten times as large, by the file's ending. Raises ImageError."""
    large = Image.frombytes("L", IMAGE_SHAPE, pixels).resize((10 * _EDGE, 10 * _EDGE), Image.Resampling.NEAREST)
    try:
        large.save(path)
    except (OSError, ValueError) as error:
        raise ImageError(f"{path}: cannot be written as a picture: {error}") from error

"""From any picture to what the model was trained on: uint8 [28, 28], a light garment on black."""

from __future__ import annotations

import io
import threading
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import BinaryIO

from PIL import Image, ImageOps, UnidentifiedImageError

from client.errors import ImageError, ImageWarning
from client.limits import PICTURE_PIXELS
from client.types import IMAGE_BYTES, Preprocess
from fashion_common.served_model import IMAGE_SHAPE

# Of the 60,000 training images: the mean pixel, the share of pixels above 0, and the ranges of all but 2 in 1,000.
TRAINING_MEAN, TRAINING_INK = 72.94, 0.498
_MEANS, _INKS = (11.4, 167.2), (0.13, 0.872)
# Each of them reaches at least this far from its darkest pixel to its lightest.
_CONTRAST = 100
_LIGHT = 160
# Close to black is within 5 % of the greatest possible intensity.
_CLOSE = 255 * 5 // 100
# A JPEG is decoded to at least so many pixels an edge, where it has them.
_DECODED_EDGE = 12 * IMAGE_SHAPE[0]
_OPENING = threading.Lock()
_GRAY_MODES = ("1", "L", "LA", "I", "I;16", "I;16B", "I;16L", "F")


def read_image(source: Path | BinaryIO, name: str, preprocess: Preprocess = "auto") -> bytes:
    """One picture as 784 bytes: uint8 [28, 28] in row-major order.

    preprocess: `photo` is the data set's recipe, `none` only makes it gray and 28x28, `auto` is `none` for a gray
    picture of 28x28 and `photo` for every other.
    Raises ImageError, whose text begins with `name`, for what is missing, unreadable, too large or not a picture; warns
    with an ImageWarning of a picture whose answer means nothing.
    """
    return picture_pixels(open_picture(source, name), name, preprocess)


def picture_pixels(picture: Image.Image, name: str, preprocess: Preprocess = "auto") -> bytes:
    """`read_image` of an open picture."""
    pixels, doubt = pixels_and_doubt(picture, preprocess)
    if doubt:
        warnings.warn(f"{name}: {doubt}", ImageWarning, stacklevel=2)
    return pixels


def pixels_and_doubt(
    picture: Image.Image, preprocess: Preprocess = "auto", *, doubts: bool = True
) -> tuple[bytes, str]:
    """The pixels of `read_image`, and what it would warn of, or an empty text.

    Warnings are the whole process's: who reads pictures for several users at a time takes the text from here. doubts:
    whether to look for any, which takes longer than to decode a small picture.
    """
    if preprocess == "photo" or (preprocess == "auto" and not _is_ready(picture)):
        # Ready images need none of it.
        from client.pictures.photograph import photo_pixels

        gray, doubt = photo_pixels(picture)
    else:
        gray, doubt = _on_black(picture).convert("L"), ""
    pixels = (gray if gray.size == IMAGE_SHAPE else gray.resize(IMAGE_SHAPE, Image.Resampling.BILINEAR)).tobytes()
    return pixels, doubt or (_doubt(pixels) if doubts else "")


def png(pixels: bytes) -> bytes:
    """uint8 [28, 28] as a PNG file."""
    buffer = io.BytesIO()
    Image.frombytes("L", IMAGE_SHAPE, pixels).save(buffer, "PNG")
    return buffer.getvalue()


def statistics(pixels: bytes) -> tuple[float, float]:
    """The mean pixel, 0 to 255, and the share of pixels above 0."""
    return sum(pixels) / IMAGE_BYTES, 1 - pixels.count(0) / IMAGE_BYTES


def has_light_border(pixels: bytes) -> bool:
    """Whether the outermost pixels of uint8 [28, 28] are mostly light: so are those of 2 of the 60,000."""
    _, columns = IMAGE_SHAPE
    border = pixels[:columns] + pixels[-columns:] + pixels[::columns] + pixels[columns - 1 :: columns]
    return sorted(border)[len(border) // 2] > _LIGHT


def _doubt(pixels: bytes) -> str:
    """How the pixels differ from all of the training set's, or an empty text."""
    mean, ink = statistics(pixels)
    if max(pixels) - min(pixels) < _CONTRAST:
        return "hardly any contrast: there is no garment to see"
    if mean > _MEANS[1] or has_light_border(pixels):
        return "lighter than the training set: is the background light? --preprocess photo makes it black"
    if not (_MEANS[0] <= mean and _INKS[0] <= ink <= _INKS[1]):
        return (
            f"unlike the training set: the mean pixel is {mean:.0f} ({_MEANS[0]:.0f} to {_MEANS[1]:.0f} there), and "
            f"{ink:.0%} of the pixels are not black ({_INKS[0]:.0%} to {_INKS[1]:.0%})"
        )
    return ""


def trimmed_pixels(pixels: bytes) -> bytes:
    """An image, uint8 [28, 28], with its black border cut off and the rest scaled to fill the frame."""
    image = Image.frombytes("L", IMAGE_SHAPE, pixels)
    box = image.point(lambda level: 255 if level > _CLOSE else 0).getbbox()
    return ImageOps.pad(image.crop(box), IMAGE_SHAPE, Image.Resampling.BILINEAR, color=0).tobytes() if box else pixels


def open_picture(source: Path | BinaryIO, name: str) -> Image.Image:
    """The picture, upright; a large JPEG is reduced while it is decoded. Raises ImageError as read_image."""
    with _picture_errors(name):
        # Pillow's own limit knows nothing of the reduction; the filters of warnings are the whole process's.
        with _OPENING, warnings.catch_warnings():
            warnings.simplefilter("ignore", Image.DecompressionBombWarning)
            picture: Image.Image = Image.open(source)
        with picture:
            picture.draft(None, (_DECODED_EDGE, _DECODED_EDGE))
            return upright(picture, name)


def upright(picture: Image.Image, name: str) -> Image.Image:
    """An image of Pillow's as `open_picture` gives it. Raises ImageError as read_image."""
    if picture.width * picture.height > PICTURE_PIXELS:
        raise ImageError(f"{name}: {picture.width}x{picture.height} pixels are more than {PICTURE_PIXELS}: too large")
    with _picture_errors(name):
        picture.load()
        return _eight_bit(ImageOps.exif_transpose(picture))


@contextmanager
def _picture_errors(name: str) -> Iterator[None]:
    """Raises what Pillow raises as an ImageError."""
    try:
        yield
    except ImageError:
        raise
    except FileNotFoundError as error:
        raise ImageError(f"{name}: no such file") from error
    except UnidentifiedImageError as error:
        raise ImageError(f"{name}: not a picture (PNG, JPEG, GIF, BMP, TIFF, WebP, ...)") from error
    except Image.DecompressionBombError as error:
        raise ImageError(f"{name}: more than {PICTURE_PIXELS} pixels: too large") from error
    except (OSError, SyntaxError, ValueError, EOFError) as error:
        reason = error.strerror if isinstance(error, OSError) and error.strerror else str(error)
        raise ImageError(f"{name}: cannot be read as a picture: {reason}") from error


def _eight_bit(picture: Image.Image) -> Image.Image:
    """16 bit gray reduced to its upper 8, as TensorFlow's decoder does; Pillow's own conversion would clip it."""
    if picture.mode == "F":
        return picture.convert("L")
    if picture.mode == "La":
        # Pillow converts it to this one form.
        return picture.convert("LA")
    if picture.mode.startswith("I"):
        return picture.convert("I").point(lambda level: level / 256).convert("L")
    return picture


def _is_ready(picture: Image.Image) -> bool:
    return picture.size == IMAGE_SHAPE and picture.mode in _GRAY_MODES


def _on_black(picture: Image.Image) -> Image.Image:
    """The picture without its alpha."""
    if picture.mode in ("RGBA", "LA", "PA", "RGBa") or "transparency" in picture.info:
        background = Image.new("RGBA", picture.size, "black")
        return Image.alpha_composite(background, picture.convert("RGBA")).convert("RGB")
    return picture

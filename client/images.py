"""Picture files to what the model was trained on: uint8 [28, 28], a light garment on black."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from PIL import Image, UnidentifiedImageError

from client.errors import ImageError
from client.transport import Array

_SIZE = (28, 28)


def read_image(path: Path) -> Array:
    """One picture as uint8 [28, 28]: gray, scaled to 28x28 when it has another size.

    Raises ImageError, whose text begins with the path, for what is missing, unreadable or not a picture.
    """
    try:
        with Image.open(path) as picture:
            gray = picture.convert("L")
    except FileNotFoundError as error:
        raise ImageError(f"{path}: no such file") from error
    except UnidentifiedImageError as error:
        raise ImageError(f"{path}: not a picture (PNG, JPEG, GIF, BMP, ...)") from error
    except (OSError, SyntaxError, ValueError, Image.DecompressionBombError) as error:
        raise ImageError(f"{path}: cannot be read as a picture: {error}") from error
    if gray.size != _SIZE:
        gray = gray.resize(_SIZE, Image.Resampling.BILINEAR)
    return np.asarray(gray)

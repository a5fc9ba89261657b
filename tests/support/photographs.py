"""Photographs made of the data set's images: garments enlarged, smoothed, coloured, on backgrounds of twelve kinds.

`python -m tests.support.photographs` records what the client makes of drawn ones.
"""

from __future__ import annotations

import io
import warnings
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import numpy.typing as npt
from PIL import Image, ImageDraw, ImageFilter

from client.pictures.images import read_image

RECORDED = Path(__file__).parent / "photographs.npz"
Floats = npt.NDArray[np.float64]

PLAIN = ("white", "cream", "lighter on light", "darker on dark", "lighter on dark", "coloured", "cut out")
OTHER = ("gradient", "vignette", "fabric", "wooden floor", "soft shadow")
KINDS = (*PLAIN, *OTHER)
_QUALITIES = (95, 75, 50)
# EXIF's orientation, and how a picture is turned so that it stands upright when the orientation is followed.
_TURNS = {3: Image.Transpose.ROTATE_180, 6: Image.Transpose.ROTATE_90, 8: Image.Transpose.ROTATE_270}


def photograph(image: npt.NDArray[np.uint8], kind: str, generator: np.random.Generator) -> bytes:
    """The file of a photograph of the garment in an image, uint8 [28, 28]: a JPEG, or a PNG with alpha."""
    size = int(generator.integers(220, 420))
    large = Image.fromarray(image).resize((size, size), Image.Resampling.BICUBIC)
    large = large.filter(ImageFilter.GaussianBlur(size / 70))
    top, bottom, left, right = (int(margin) for margin in generator.integers(size // 12, size // 3, 4))
    garment = np.pad(np.asarray(large, np.float64) / 255, ((top, bottom), (left, right)))
    # What the garment covers, with a soft edge; its palest part still differs from the background.
    cover = np.clip(garment / 0.12, 0, 1)
    shade = np.clip(garment + generator.choice([0, 0.3]) * (1 - garment), 0, 1)
    if kind == "cut out":
        level = 255 * (1 - shade) if generator.random() < 0.5 else 190 + 65 * shade
        return _file(np.dstack([level, level, level, 255 * (garment > 0.06)]), generator)
    background, colour = _scene(kind, garment.shape, generator)
    if kind == "soft shadow":
        blurred = Image.fromarray((255 * cover).astype(np.uint8)).filter(ImageFilter.GaussianBlur(size / 15))
        offset = generator.integers(size // 20, size // 8, 2)
        shadow = np.roll(np.asarray(blurred, np.float64) / 255, tuple(offset), (0, 1))
        background = background * (1 - generator.uniform(0.15, 0.4) * shadow[..., None])
    picture = background + (colour - background) * (cover * shade)[..., None]
    return _file(picture, generator)


def _scene(kind: str, size: tuple[int, ...], generator: np.random.Generator) -> tuple[Floats, Floats]:
    """The background, [H, W, 3] from 0 to 255, and the garment's colour, [3]."""
    dark, light = generator.uniform(0, 70, 3), generator.uniform(210, 255, 3)
    colour = generator.uniform(0, 255, 3)
    plain = {
        "white": (np.full(3, 255.0), dark),
        "cream": (np.array([250.0, 240, 220]), dark),
        "lighter on light": (generator.uniform(150, 195, 3), np.full(3, 255.0)),
        "darker on dark": (generator.uniform(65, 100, 3), dark / 6),
        "lighter on dark": (generator.uniform(5, 60, 3), light),
        "coloured": (colour, np.where(colour > 127, colour - 125, colour + 125)),
        "soft shadow": (light, dark),
    }
    if kind in plain:
        background, garment_colour = plain[kind]
        return np.ones((*size, 3)) * background, garment_colour
    y, x = np.mgrid[0 : size[0], 0 : size[1]] / np.array(size).reshape(2, 1, 1)
    if kind == "gradient":
        angle = generator.uniform(0, 2 * np.pi)
        share = np.cos(angle) * (x - 0.5) + np.sin(angle) * (y - 0.5) + 0.5
        return light - generator.uniform(30, 100) * share[..., None], dark
    if kind == "vignette":
        radius = 2 * ((x - 0.5) ** 2 + (y - 0.5) ** 2)
        return light * (1 - generator.uniform(0.2, 0.5) * radius[..., None]), dark
    if kind == "fabric":
        texture = 6 * (np.sin(150 * x) + np.sin(150 * y)) + generator.normal(0, 6, size)
        return generator.uniform(130, 220, 3) + texture[..., None], dark / 2
    rings = np.sin(2 * np.pi * (7 * x + 0.7 * np.sin(3 * y + generator.uniform(0, 6)))) + generator.normal(0, 0.3, size)
    boards = np.floor(4 * x + generator.uniform()) % 2
    return np.array([185.0, 140, 95]) + (9 * rings + 12 * boards)[..., None], dark / 3


def _file(picture: Floats, generator: np.random.Generator) -> bytes:
    buffer = io.BytesIO()
    content = Image.fromarray(np.clip(picture.round(), 0, 255).astype(np.uint8))
    if content.mode == "RGBA":
        content.save(buffer, "PNG")
        return buffer.getvalue()
    exif = Image.Exif()
    if generator.random() < 0.5:
        exif[0x0112] = orientation = int(generator.choice([*_TURNS]))
        content = content.transpose(_TURNS[orientation])
    content.save(buffer, "JPEG", quality=int(generator.choice(_QUALITIES)), exif=exif)
    return buffer.getvalue()


def results() -> Iterator[tuple[str, npt.NDArray[np.uint8], str]]:
    """The kind, the pixels, uint8 [28, 28], and the warnings of two photographs of each kind, of a drawn garment.

    It is higher than it is wide, and wider than it is high.
    """
    garment = Image.new("L", (28, 28))
    draw = ImageDraw.Draw(garment)
    draw.polygon([(9, 1), (18, 1), (26, 9), (22, 12), (19, 9), (19, 26), (8, 26), (8, 9), (5, 12), (1, 9)], fill=200)
    draw.line([(8, 14), (19, 18)], fill=90, width=2)
    for number, kind in enumerate(KINDS):
        generator = np.random.default_rng(number)
        for turns in range(2):
            file = photograph(np.rot90(np.asarray(garment), turns), kind, generator)
            with warnings.catch_warnings(record=True) as caught:
                warnings.simplefilter("always")
                pixels = read_image(io.BytesIO(file), "it", "photo")
            texts = "; ".join(str(warning.message) for warning in caught)
            yield kind, np.frombuffer(pixels, np.uint8).reshape(28, 28), texts


if __name__ == "__main__":
    kinds, pixels, texts = zip(*results(), strict=True)
    np.savez_compressed(RECORDED, kinds=kinds, pixels=pixels, texts=texts)

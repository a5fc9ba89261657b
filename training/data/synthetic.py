"""Ten drawn garments in the shape of Fashion-MNIST: for tests, and for trying the commands without the data.

Nothing of the real images is in them: each class is a silhouette of a few polygons, drawn with random place, size,
brightness and noise. A linear model learns them well, a constant one not at all.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw

from fashion_common.served_model import CLASS_NAMES, IMAGE_SHAPE
from training.data.dataset import Dataset

NAME = "synthetic"
VERSION = "1"
SIZES = {"train": 3_000, "validation": 500, "test": 500}

_SIDE, _ = IMAGE_SHAPE
_NOISE = 18.0  # standard deviation, in gray levels

# By class name: polygons, their points as x,y in percent of the garment's width and height.
_FILE = json.loads(Path(__file__).with_name("silhouettes.json").read_text(encoding="utf-8"))
# By label: the same points as shares, float64 [number of points, 2] of each polygon.
_SILHOUETTES = [
    [np.array([point.split(",") for point in polygon.split()], np.float64) / 100 for polygon in _FILE[name]["polygons"]]
    for name in CLASS_NAMES
]


def load(sizes: Mapping[str, int] = SIZES, seed: int = 0) -> Dataset:
    """The drawn data set, `sizes` images in each split; the same `sizes` and `seed` give the same images."""
    generator = np.random.default_rng(seed)
    train, validation, test = (draw(sizes[split], generator) for split in ("train", "validation", "test"))
    return Dataset(NAME, VERSION, {}, *train, *validation, *test)


def draw(count: int, generator: np.random.Generator) -> tuple[NDArray[np.uint8], NDArray[np.int64]]:
    """`count` images, uint8 [count,28,28], and labels, int64 [count]: every class equally often, in random order."""
    labels = generator.permutation(np.arange(count) % len(CLASS_NAMES)).astype(np.int64)
    images = np.stack([_draw_garment(int(label), generator) for label in labels])
    noise = generator.normal(0.0, _NOISE, images.shape)
    return np.clip(images + noise, 0, 255).astype(np.uint8), labels


def _draw_garment(label: int, generator: np.random.Generator) -> NDArray[np.uint8]:
    scale = generator.uniform(0.75, 1.0, 2) * (_SIDE - 1)
    shift = generator.uniform(0.0, 1.0, 2) * (_SIDE - 1 - scale)
    brightness = int(generator.integers(110, 256))
    image = Image.new("L", (_SIDE, _SIDE))
    pencil = ImageDraw.Draw(image)
    for points in _SILHOUETTES[label]:
        pencil.polygon((shift + scale * points).ravel().tolist(), fill=brightness)
    return np.asarray(image)

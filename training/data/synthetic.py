"""Ten drawn garments in the shape of Fashion-MNIST: for tests, and for trying the commands without the data.

Nothing of the real images is in them: each class is a silhouette of a few polygons, drawn with random place, size,
brightness and noise. A linear model learns them well, a constant one not at all.
"""

from __future__ import annotations

from collections.abc import Mapping

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

# In label order: the polygons of each class, their points as x,y in percent of the garment's width and height.
_SILHOUETTES = (
    # T-shirt/top: a body and two short sleeves
    ("30,10 70,10 95,30 85,42 70,32 70,90 30,90 30,32 15,42 5,30",),
    # Trouser: two legs
    ("34,5 66,5 70,95 56,95 50,30 44,95 30,95",),
    # Pullover: a body and two long sleeves that hang apart from it
    ("32,8 68,8 88,20 98,85 84,87 72,40 72,90 28,90 28,40 16,87 2,85 12,20",),
    # Dress: straps, a waist and a wide skirt
    ("38,3 44,15 56,15 62,3 60,40 80,97 20,97 40,40",),
    # Coat: two halves with an open front, long sleeves close to the body
    (
        "30,3 47,10 47,97 22,97 22,75 8,75 14,15",
        "70,3 53,10 53,97 78,97 78,75 92,75 86,15",
    ),
    # Sandal: a thin sole, a heel and straps
    (
        "3,78 97,70 97,78 3,86",
        "85,75 97,75 97,95 90,95",
        "20,78 40,45 48,45 30,78",
        "60,75 75,40 83,40 70,75",
    ),
    # Shirt: no sleeves to speak of, a notched collar and a hem of two tails
    ("25,5 42,5 50,25 58,5 75,5 80,95 62,95 50,80 38,95 20,95",),
    # Sneaker, low and long
    ("2,50 20,52 45,60 60,42 75,40 95,48 98,80 2,80",),
    # Bag: a box with a handle
    (
        "5,40 95,40 95,92 5,92",
        "30,40 36,12 64,12 70,40 63,40 58,20 42,20 37,40",
    ),
    # Ankle boot: a shaft on a foot
    ("50,10 92,10 92,60 97,92 3,92 8,70 45,55",),
)


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


def _draw_garment(label: int, generator: np.random.Generator) -> NDArray[np.float64]:
    scale = generator.uniform(0.75, 1.0, 2) * (_SIDE - 1)
    shift = generator.uniform(0.0, 1.0, 2) * (_SIDE - 1 - scale)
    brightness = int(generator.integers(110, 256))
    image = Image.new("L", (_SIDE, _SIDE))
    pencil = ImageDraw.Draw(image)
    for polygon in _SILHOUETTES[label]:
        points = np.array([point.split(",") for point in polygon.split()], dtype=np.float64) / 100
        pencil.polygon([(x, y) for x, y in shift + scale * points], fill=brightness)
    return np.asarray(image, dtype=np.float64)

"""Pictures and bars in a terminal."""

from __future__ import annotations

import os
import sys
from itertools import zip_longest

from client.types import Prediction
from fashion_common.served_model import CLASS_NAMES, IMAGE_SHAPE

_, _COLUMNS = IMAGE_SHAPE
_BAR = 20
# Dark to light, for terminals without colours (https://no-color.org).
_SHADES = " .:-=+*#%@"


def drawing(pixels: bytes, prediction: Prediction) -> str:
    """uint8 [28, 28] beside the bars of its ten probabilities, in 24 bit gray where stdout is a terminal."""
    picture = _picture_lines(pixels, colour=sys.stdout.isatty() and "NO_COLOR" not in os.environ)
    bars = _bar_lines(prediction)
    bars = [""] * ((len(picture) - len(bars)) // 2) + bars
    return "\n".join(
        f"{left or ' ' * _COLUMNS}   {right}".rstrip(" ") for left, right in zip_longest(picture, bars, fillvalue="")
    )


def _picture_lines(pixels: bytes, *, colour: bool) -> list[str]:
    """14 lines of 28 characters: half blocks, each two pixels, or shades of every second row."""
    rows = [pixels[start : start + _COLUMNS] for start in range(0, len(pixels), _COLUMNS)]
    if not colour:
        return ["".join(_SHADES[pixel * len(_SHADES) // 256] for pixel in row) for row in rows[::2]]
    return [
        "".join(f"\x1b[38;2;{a};{a};{a}m\x1b[48;2;{b};{b};{b}m▀" for a, b in zip(upper, lower, strict=True)) + "\x1b[0m"
        for upper, lower in zip(rows[::2], rows[1::2], strict=True)
    ]


def _bar_lines(prediction: Prediction) -> list[str]:
    """Ten lines: class name, bar, probability; the answer is marked."""
    width = max(map(len, CLASS_NAMES))
    return [
        f"{'>' if class_id == prediction.class_id else ' '} {class_name:<{width}} "
        f"{'█' * round(value * _BAR):<{_BAR}} {value:.4f}"
        for class_id, (class_name, value) in enumerate(zip(CLASS_NAMES, prediction.probabilities, strict=True))
    ]

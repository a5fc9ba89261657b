"""Pictures and bars in a terminal."""

from __future__ import annotations

from itertools import zip_longest

from client.types import Prediction
from fashion_common.served_model import CLASS_NAMES, IMAGE_SHAPE

_ROWS, _COLUMNS = IMAGE_SHAPE
_BAR = 20
# Dark to light, for terminals without colours (https://no-color.org).
_SHADES = " .:-=+*#%@"


def picture_lines(pixels: bytes, *, colour: bool) -> list[str]:
    """uint8 [28, 28] as 14 lines of 28 characters: half blocks in 24 bit gray, or shades of every second row."""
    if not colour:
        return [
            "".join(_SHADES[pixels[row * _COLUMNS + column] * len(_SHADES) // 256] for column in range(_COLUMNS))
            for row in range(0, _ROWS, 2)
        ]
    return [
        "".join(
            _half_block(pixels[row * _COLUMNS + column], pixels[(row + 1) * _COLUMNS + column])
            for column in range(_COLUMNS)
        )
        + "\x1b[0m"
        for row in range(0, _ROWS, 2)
    ]


def bar_lines(prediction: Prediction) -> list[str]:
    """Ten lines: class name, bar, probability; the answer is marked."""
    width = max(map(len, CLASS_NAMES))
    return [
        f"{'>' if class_id == prediction.class_id else ' '} {class_name:<{width}} "
        f"{'█' * round(value * _BAR):<{_BAR}} {value:.4f}"
        for class_id, (class_name, value) in enumerate(zip(CLASS_NAMES, prediction.probabilities, strict=True))
    ]


def side_by_side(left: list[str], right: list[str], *, width: int = _COLUMNS) -> str:
    """Two blocks of lines; the left one's visible width is `width`."""
    offset = (len(left) - len(right)) // 2
    padded = [""] * offset + right
    return "\n".join(f"{one or ' ' * width}   {other or ''}".rstrip(" ") for one, other in zip_longest(left, padded))


def _half_block(upper: int, lower: int) -> str:
    return f"\x1b[38;2;{upper};{upper};{upper}m\x1b[48;2;{lower};{lower};{lower}m▀"

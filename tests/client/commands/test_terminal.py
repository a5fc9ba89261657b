"""Pictures and bars in a terminal."""

from __future__ import annotations

import sys

import pytest

from client.commands.terminal import drawing
from client.types import Prediction

_PIXELS = bytes(28) * 2 + bytes(range(0, 252, 9)) * 2 + bytes([255, 128] * 14) * 24
_ANSWER = Prediction(2, "Pullover", 0.5, (0.25, 0.2, 0.5, 0.025, 0.024, 0.001, 0, 0, 0, 0))
_BARS = """\
  T-shirt/top █████                0.2500
  Trouser     ████                 0.2000
> Pullover    ██████████           0.5000
  Dress                            0.0250
  Coat                             0.0240
  Sandal                           0.0010
  Shirt                            0.0000
  Sneaker                          0.0000
  Bag                              0.0000
  Ankle boot                       0.0000""".splitlines()


def test_without_colours_a_pixel_is_a_shade() -> None:
    """Every second row of the picture, beside it in the middle the ten bars; nothing ends in blanks."""
    # Ten shades of 25.6 levels each.
    shades = "   ...:::---===+++**###%%%@@"
    rows = [" " * 28, shades, *["@+" * 14] * 12]
    lines = [f"{row}   {bar}".rstrip(" ") for row, bar in zip(rows, ["", "", *_BARS, "", ""], strict=True)]
    assert drawing(_PIXELS, _ANSWER) == "\n".join(lines)


@pytest.mark.parametrize("no_color", [None, "1"])
def test_a_terminal_has_two_pixels_a_character(monkeypatch: pytest.MonkeyPatch, no_color: str | None) -> None:
    """The upper one as the colour of a half block, the lower one as its background; none where NO_COLOR is set."""
    monkeypatch.setattr(sys.stdout, "isatty", lambda: True)
    monkeypatch.delenv("NO_COLOR", raising=False)
    if no_color:
        monkeypatch.setenv("NO_COLOR", no_color)
    first, second, third, *_ = drawing(_PIXELS, _ANSWER).split("\n")
    if no_color:
        assert "\x1b" not in first + second + third
        return
    black = "\x1b[38;2;0;0;0m\x1b[48;2;0;0;0m▀"
    assert first == f"{black * 28}\x1b[0m"
    levels = range(0, 252, 9)
    shades = "".join(f"\x1b[38;2;{level};{level};{level}m\x1b[48;2;{level};{level};{level}m▀" for level in levels)
    assert second == f"{shades}\x1b[0m"
    stripes = "".join(f"\x1b[38;2;{level};{level};{level}m\x1b[48;2;{level};{level};{level}m▀" for level in (255, 128))
    assert third == f"{stripes * 14}\x1b[0m   {_BARS[0]}"

"""Picture files to uint8 [28, 28]."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from client.errors import ImageError
from client.images import read_image

_GRADIENT = np.arange(784, dtype=np.uint32).reshape(28, 28).astype(np.uint8)


def test_a_28x28_gray_png_is_taken_as_it_is(tmp_path: Path) -> None:
    """Not a pixel changes."""
    Image.fromarray(_GRADIENT).save(tmp_path / "a.png")
    image = read_image(tmp_path / "a.png")
    assert image.dtype == np.uint8
    np.testing.assert_array_equal(image, _GRADIENT)


def test_a_larger_colour_picture_becomes_28x28_gray(tmp_path: Path) -> None:
    """A flat colour keeps its luminance."""
    Image.new("RGB", (100, 60), (200, 200, 200)).save(tmp_path / "a.jpg")
    np.testing.assert_array_equal(read_image(tmp_path / "a.jpg"), np.full((28, 28), 200, np.uint8))


def test_what_is_no_picture_is_named(tmp_path: Path) -> None:
    """Missing, a text called .png, a truncated PNG, a directory: each says which file and what is wrong."""
    text = tmp_path / "text.png"
    text.write_text("not a picture")
    whole = tmp_path / "whole.png"
    Image.fromarray(np.random.default_rng(0).integers(0, 255, (28, 28), np.uint8)).save(whole)
    truncated = tmp_path / "truncated.png"
    truncated.write_bytes(whole.read_bytes()[:200])
    for path, why in (
        (tmp_path / "missing.png", "no such file"),
        (text, "not a picture"),
        (truncated, "cannot be read as a picture"),
        (tmp_path, "cannot be read as a picture"),
    ):
        with pytest.raises(ImageError, match=why) as caught:
            read_image(path)
        assert str(caught.value).startswith(f"{path}: ")
        assert caught.value.exit_code == 2

"""Steps of a photograph's way to the data set: its background, the pieces of a mask, the levels."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
import pytest
from PIL import Image

from client.pictures.photograph import _background, _heavy_pieces, _stretched


def kept(levels: npt.NDArray[np.uint8]) -> npt.NDArray[np.bool_]:
    """Where pieces stay; levels: the distance of each pixel, 0 beside the pieces."""
    mask = Image.fromarray(np.where(levels > 0, 255, 0).astype(np.uint8))
    return np.asarray(_heavy_pieces(mask, Image.fromarray(levels))) > 0


def dots(*levels: int) -> npt.NDArray[np.uint8]:
    """Pieces of a pixel each, in a row."""
    row = np.zeros((1, 2 * len(levels)), np.uint8)
    row[0, ::2] = levels
    return row


@pytest.mark.parametrize(("level", "stays"), [(7, False), (8, True), (9, True)])
def test_a_piece_of_less_than_eight_percent_is_not_the_garments(level: int, *, stays: bool) -> None:
    """Of the heaviest's distances, added up."""
    assert kept(dots(100, level))[0, ::2].tolist() == [True, stays]


def test_what_weighs_counts_every_pixel() -> None:
    """Two of 4 are as much as one of 8."""
    levels = np.zeros((3, 3), np.uint8)
    levels[0, 0], levels[2, 1:] = 100, 4
    assert kept(levels).sum() == 3


@pytest.mark.parametrize(("count", "stay"), [(59, 59), (60, 60), (61, 60)])
def test_no_piece_beyond_the_sixtieth_is_kept(count: int, stay: int) -> None:
    """A pattern is no garment, and each piece takes as long as the picture is large."""
    assert kept(dots(*[100] * count)).sum() == stay


def test_a_mask_without_pieces_stays_empty() -> None:
    """As it is of a picture of one colour."""
    assert not kept(np.zeros((5, 5), np.uint8)).any()


@pytest.mark.parametrize("level", [0, 1, 254, 255])
@pytest.mark.parametrize("curved", [False, True])
def test_a_background_of_one_colour_is_that_colour(level: int, *, curved: bool) -> None:
    """Black and white too, without noise."""
    colour = (level, level, 255 - level)
    surface, noise = _background(Image.new("RGB", (30, 20), colour), curved=curved)
    assert surface.getcolors() == [(600, colour)]
    assert noise < 0.01


@pytest.mark.parametrize(("low", "darkest"), [(100, 227), (99, 38), (60, 38), (17, 38), (16, 36), (0, 0)])
def test_a_garment_is_as_dark_in_places_as_those_of_the_data_set(low: int, darkest: int) -> None:
    """Unless it is flat, within 12 levels, or as dark already; its lightest places are white."""
    levels = Image.fromarray(np.repeat(np.array([[low, 112]], np.uint8), 10, axis=1).repeat(20, axis=0))
    stretched = _stretched(levels, Image.new("L", levels.size, 255))
    assert stretched.getcolors() == [(200, darkest), (200, 255)]

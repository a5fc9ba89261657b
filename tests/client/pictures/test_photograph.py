"""The pieces of a mask: which of them are the garment's."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
import pytest
from PIL import Image

from client.pictures.photograph import _heavy_pieces


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

"""Rows of several requests in one array, as batching needs them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

Array = npt.NDArray[Any]


def common_rows(feeds: Mapping[str, Array]) -> int | None:
    """The common first dimension of the feeds, or None when there is none: such a request runs by itself."""
    rows = None
    for feed in feeds.values():
        if feed.ndim == 0 or rows not in (None, len(feed)):
            return None
        rows = len(feed)
    return rows or None


def joined(parts: Sequence[Array], padding: int) -> Array:
    """The parts under each other; shorter ones filled with zeros at their ends, and `padding` copies of a row below."""
    widest = np.max([part.shape[1:] for part in parts], axis=0) if parts[0].ndim > 1 else ()
    padded = [_padded(part, tuple(int(size) for size in widest)) for part in parts]
    if padding:
        padded.append(np.repeat(padded[-1][:1], padding, axis=0))
    return np.concatenate(padded)


def _padded(part: Array, shape: tuple[int, ...]) -> Array:
    if part.shape[1:] == shape:
        return part
    fill = b"" if part.dtype.kind == "O" else 0
    made = np.full((len(part), *shape), fill, part.dtype)
    made[tuple(slice(size) for size in part.shape)] = part
    return made

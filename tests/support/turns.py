"""Tests in several processes at once (pytest-xdist): who shares fixtures stays together, who measures is alone."""

from __future__ import annotations

import contextlib
import fcntl
import os
import tempfile
from collections.abc import Iterator, Sequence
from pathlib import Path

import pytest

# Fixtures that take long to set up, in order: a test goes where the first of them is that it uses.
_DEAR = ("engine", "embedded_image", "serving_image", "road")


def group(items: Sequence[pytest.Item]) -> None:
    """Lets tests of one file, or with one dear fixture, run in one process (`--dist loadgroup`)."""
    for item in items:
        names = getattr(item, "fixturenames", ())
        if "hostile_grounds" in names:
            # Each process attacks a server of its own: what all attacks leave behind is too much for one.
            continue
        name = next((dear for dear in _DEAR if dear in names), None)
        name = "containers" if name in _DEAR[:3] else name or str(item.path)
        item.add_marker(pytest.mark.xdist_group(name))


def order(items: list[pytest.Item]) -> None:
    """Puts tests with a dear fixture first: one process is long at them, in which the others have all the rest.

    Then those that have a time of their own to end in: what is long and comes last keeps one process alone.
    """

    def place(item: pytest.Item) -> tuple[bool, bool]:
        dear = set(_DEAR) & set(getattr(item, "fixturenames", ()))
        return not dear, item.get_closest_marker("timeout") is None

    items.sort(key=place)


@contextlib.contextmanager
def turn(item: pytest.Item) -> Iterator[None]:
    """Holds up a test marked `alone` until no other process tests, and the others until it is over."""
    run = os.environ.get("PYTEST_XDIST_TESTRUNUID")
    if run is None:
        yield
        return
    directory = Path(tempfile.gettempdir())
    alone = item.get_closest_marker("alone") is not None
    with (directory / f"{run}.turn").open("w") as queue, (directory / f"{run}.tests").open("w") as tests:
        # Who waits to be alone keeps the queue: nobody begins before it.
        fcntl.flock(queue, fcntl.LOCK_EX)
        fcntl.flock(tests, fcntl.LOCK_EX if alone else fcntl.LOCK_SH)
        fcntl.flock(queue, fcntl.LOCK_UN)
        yield

"""The import of a library that makes millions of objects."""

from __future__ import annotations

import gc
import sys
from collections.abc import Iterator
from contextlib import contextmanager


@contextmanager
def collections_paused() -> Iterator[None]:
    """No garbage collections meanwhile: they take a fifth of TensorFlow's import, and find nothing."""
    if not gc.isenabled():
        yield
        return
    gc.disable()
    try:
        yield
    finally:
        gc.enable()


@contextmanager
def without_collections(library: str = "tensorflow") -> Iterator[None]:
    """Imports a library with collections paused; later ones leave alone whatever is there by then.

    So this is for programs, not for libraries. Where the library has been imported, or collections are off, nothing is
    changed. https://docs.python.org/3/library/gc.html#gc.freeze
    """
    if library in sys.modules or not gc.isenabled():
        yield
        return
    with collections_paused():
        try:
            yield
        finally:
            gc.freeze()

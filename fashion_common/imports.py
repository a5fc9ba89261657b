"""The import of a library that makes millions of objects."""

from __future__ import annotations

import gc
import sys
from collections.abc import Iterator
from contextlib import contextmanager


@contextmanager
def without_collections(library: str = "tensorflow") -> Iterator[None]:
    """Imports a library without garbage collections, which take a fifth of TensorFlow's import and find nothing.

    Later ones leave alone whatever is there by then, so this is for programs, not for libraries. Where the library has
    been imported, nothing is changed. https://docs.python.org/3/library/gc.html#gc.freeze
    """
    if library in sys.modules or not gc.isenabled():
        yield
        return
    gc.disable()
    try:
        yield
    finally:
        gc.freeze()
        gc.enable()

"""Imports of large libraries do without garbage collections, which are on again afterwards."""

from __future__ import annotations

import gc
import sys

import pytest

from fashion_common.imports import collections_paused, without_collections


def test_what_a_library_makes_is_not_looked_at_again() -> None:
    """None is collected meanwhile, and what is there by then is frozen."""
    frozen = gc.get_freeze_count()
    with without_collections("no such library"):
        assert not gc.isenabled()
        made: list[object] = [[] for _ in range(1_000)]
    assert gc.isenabled()
    # Some of what was frozen may have gone meanwhile.
    assert gc.get_freeze_count() > frozen + len(made) / 2


def test_an_import_that_fails_leaves_them_on() -> None:
    """As where an extra is missing."""
    with pytest.raises(ModuleNotFoundError), without_collections("no such library"):
        raise ModuleNotFoundError
    assert gc.isenabled()


def test_a_library_that_is_there_changes_nothing() -> None:
    """Nor do collections that are off: whoever turned them off turns them on."""
    frozen = gc.get_freeze_count()
    with without_collections(next(iter(sys.modules))):
        assert gc.isenabled()
    gc.disable()
    with without_collections("no such library"), collections_paused():
        assert not gc.isenabled()
    assert not gc.isenabled()
    gc.enable()
    with collections_paused():
        assert not gc.isenabled()
    assert gc.isenabled()
    assert gc.get_freeze_count() <= frozen

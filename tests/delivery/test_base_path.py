"""What exports leave in a model base path."""

from __future__ import annotations

import os
from pathlib import Path

from delivery.base_path import PREFIX, lock_directory, remove_leftovers
from tests.support.descriptors import open_below


def test_leftovers_of_exports_that_no_longer_run_are_removed(tmp_path: Path) -> None:
    """A running one's stays, and so does all else; no descriptor is kept."""
    ended, running = tmp_path / f"{PREFIX}ended", tmp_path / f"{PREFIX}running"
    for directory in (ended / "variables", running, tmp_path / "1", tmp_path / ".hidden"):
        directory.mkdir(parents=True)
    lock = lock_directory(running)
    remove_leftovers(tmp_path)
    assert open_below(tmp_path) == [str(running)]
    assert {path.name for path in tmp_path.iterdir()} == {running.name, "1", ".hidden"}
    os.close(lock)
    remove_leftovers(tmp_path)
    assert not running.exists()

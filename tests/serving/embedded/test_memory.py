"""Memory stays flat over requests and reloads; benchmarks/server_memory.py has the full length."""

from __future__ import annotations

import shutil
from pathlib import Path

from benchmarks.server_memory import LIMIT, measure


def test_memory_is_flat(toys: Path, tmp_path: Path) -> None:
    """A tenth of the requests and of the reloads of the full measurement."""
    shutil.copytree(toys / "half_plus_two", tmp_path / "half_plus_two")

    before, after = measure(tmp_path, requests=10_000, reloads=10, warm_up=0.3)

    assert after <= before * LIMIT, f"{before} bytes became {after}"

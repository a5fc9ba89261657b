"""Memory stays flat over requests and reloads; benchmarks/server_memory.py has the full length."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest

from benchmarks.server_memory import LIMIT, measure


@pytest.mark.parametrize(("runtime", "models"), [("tensorflow", "toys"), ("litert", "lite_toys")])
def test_memory_is_flat(request: pytest.FixtureRequest, runtime: str, models: str, tmp_path: Path) -> None:
    """Short: what grows with every request or reload shows all the same."""
    shutil.copytree(request.getfixturevalue(models) / "half_plus_two", tmp_path / "half_plus_two")

    before, after = measure(tmp_path, runtime, requests=4_000, reloads=8, warm_up=0.5)

    assert after <= before * LIMIT, f"{before} bytes became {after}"

"""What the tests of the export share: one run, exported once."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest

from tests.support.exports import invoke, make_run, run_steps_here


@pytest.fixture(scope="session")
def run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run to export, not to be changed."""
    return make_run(tmp_path_factory.mktemp("runs") / "a-run")


@pytest.fixture(scope="session")
def exported_version(run: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The run as version 1, not to be changed."""
    base = tmp_path_factory.mktemp("models") / "fashion_mnist"
    with pytest.MonkeyPatch.context() as patch:
        run_steps_here(patch)
        result = invoke("export", run, "--model-base-path", base)
    assert (result.exit_code, result.stdout) == (0, f"{base / '1'}\n")
    return base / "1"


@pytest.fixture
def base(tmp_path: Path) -> Path:
    """A model base path of its own."""
    return tmp_path / "fashion_mnist"


@pytest.fixture
def version(exported_version: Path, base: Path) -> Path:
    """A copy of the exported version under a base path of its own."""
    return Path(shutil.copytree(exported_version, base / "1"))


@pytest.fixture
def steps_here(monkeypatch: pytest.MonkeyPatch) -> None:
    """An export without its other process, which takes seconds to start: the tests that need it say so."""
    run_steps_here(monkeypatch)

"""What the tests of the export share: one run, exported once."""

from __future__ import annotations

import shutil
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from tests.support.exports import invoke, make_run
from training.export.lite import write_lite_model
from training.export.self_test import Differences, run_self_test


@contextmanager
def _conversion_here() -> Iterator[Callable[[Path], None]]:
    yield write_lite_model


@contextmanager
def _self_test_here() -> Iterator[Callable[[Path], Differences]]:
    yield run_self_test


def _run_steps_here(patch: pytest.MonkeyPatch) -> None:
    patch.setattr("training.export.export.conversion_process", _conversion_here)
    patch.setattr("training.export.export.self_test_process", _self_test_here)


@pytest.fixture(scope="session")
def run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run to export, not to be changed."""
    return make_run(tmp_path_factory.mktemp("runs") / "a-run")


@pytest.fixture(scope="session")
def exported_version(run: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The run as version 1, not to be changed."""
    base = tmp_path_factory.mktemp("models") / "fashion_mnist"
    with pytest.MonkeyPatch.context() as patch:
        _run_steps_here(patch)
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
    """An export without processes, which take seconds to start: the tests that need them say so."""
    _run_steps_here(monkeypatch)

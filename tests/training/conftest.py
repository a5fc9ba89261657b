"""What the tests of training share: synthetic data, and a run trained once on it."""

from __future__ import annotations

from pathlib import Path

import pytest

from training.data import synthetic
from training.data.dataset import Dataset
from training.recipes import resolve
from training.train import TrainingResult, train


@pytest.fixture(autouse=True)
def _state(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A state directory of its own: no server that is detached on this machine has a say."""
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path / "state"))


@pytest.fixture(scope="session")
def synthetic_data() -> Dataset:
    """The synthetic data set."""
    return synthetic.load()


@pytest.fixture(scope="session")
def synthetic_run(tmp_path_factory: pytest.TempPathFactory) -> TrainingResult:
    """One finished run of recipe `fast` on synthetic data."""
    return train(resolve("fast", dataset="synthetic"), tmp_path_factory.mktemp("runs") / "synthetic")


@pytest.fixture
def run_dir(tmp_path: Path) -> Path:
    """A directory for one run."""
    return tmp_path / "runs" / "one"

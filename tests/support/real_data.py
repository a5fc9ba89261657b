"""Fashion-MNIST itself, for the tests that need it."""

from __future__ import annotations

import fcntl

import pytest

from training.data import dataset
from training.data.dataset import Dataset
from training.errors import TrainingUsageError


@pytest.fixture(scope="session")
def real_data(tmp_path_factory: pytest.TempPathFactory) -> Dataset:
    """Fashion-MNIST as the package finds it; the test is skipped, with the reason, where it cannot be had."""
    try:
        # Of several test processes one prepares it, and the others read what that left.
        with (tmp_path_factory.getbasetemp().parent / "real-data.lock").open("w") as lock:
            fcntl.flock(lock, fcntl.LOCK_EX)
            return dataset.load()
    except TrainingUsageError as error:
        pytest.skip(str(error))

"""Fashion-MNIST itself, for the tests that need it."""

from __future__ import annotations

import pytest

from training.data import dataset
from training.data.dataset import Dataset
from training.errors import TrainingUsageError


@pytest.fixture(scope="session")
def real_data() -> Dataset:
    """Fashion-MNIST as the package finds it; the test is skipped, with the reason, where it cannot be had."""
    try:
        return dataset.load()
    except TrainingUsageError as error:
        pytest.skip(str(error))

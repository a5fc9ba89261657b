"""The toy models, written once for all tests that serve them."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest


def write_toys(directory: Path) -> None:
    """Writes them by a process of their own: this one imports no TensorFlow."""
    script = Path(__file__).with_name("toy_models.py")
    subprocess.run([sys.executable, str(script), str(directory)], check=True, capture_output=True, timeout=120)


@pytest.fixture(scope="session")
def toys(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The directory of the toy models."""
    directory = tmp_path_factory.mktemp("toys")
    write_toys(directory)
    return directory

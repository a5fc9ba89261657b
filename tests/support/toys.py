"""The toy models, written once for all tests that serve them."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from fashion_common.runtimes import WITHOUT_KERAS


def write_toys(directory: Path) -> None:
    """Writes them by a process of their own: this one imports no TensorFlow."""
    _run("tests.support.toy_models", directory)


def _run(module: str, directory: Path) -> None:
    command = [sys.executable, "-m", module, str(directory)]
    environment = {**os.environ, **WITHOUT_KERAS}
    root = Path(__file__).parents[2]
    subprocess.run(command, cwd=root, env=environment, check=True, capture_output=True, timeout=240)


@pytest.fixture(scope="session")
def toys(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The directory of the toy models."""
    directory = tmp_path_factory.mktemp("toys")
    write_toys(directory)
    return directory


@pytest.fixture(scope="session")
def lite_toys(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The directory of the toy models for LiteRT."""
    directory = tmp_path_factory.mktemp("lite_toys")
    _run("tests.support.lite_models", directory)
    return directory


@pytest.fixture(scope="session")
def lite_flags(lite_toys: Path) -> tuple[str, ...]:
    """Flags for a server of `half_plus_two` as the model `m`: on LiteRT, which is there at once."""
    return ("--runtime=litert", "--model_name=m", f"--model_base_path={lite_toys}/half_plus_two")

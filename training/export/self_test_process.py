"""The self-test in a process of its own, started early: TensorFlow takes seconds to import, which pass meanwhile."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import training
from training.errors import SelfTestError

Differences = dict[str, float]


@contextmanager
def self_test_process() -> Iterator[Callable[[Path], Differences]]:
    """Starts the process, and gives what runs the self-test of a version in it, once.

    That gives each signature's largest difference, and raises SelfTestError with what the process said.
    """
    # Run from where this package lies: a folder named `training` in the user's directory must not take its place.
    home = Path(training.__file__).parents[1]
    environment = {**os.environ, "TF_CPP_MIN_LOG_LEVEL": "3", "PYTHONWARNINGS": "ignore"}
    # Should this process be killed, the end of its input ends the other one too.
    with subprocess.Popen(
        [sys.executable, "-m", "training.export.self_test"],
        cwd=home,
        env=environment,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    ) as process:
        try:
            yield lambda version_path: _answer(process, version_path)
        finally:
            process.kill()


def _answer(process: subprocess.Popen[str], version_path: Path) -> Differences:
    answer, said = process.communicate(f"{version_path.absolute()}\n")
    if process.returncode:
        lines = said.strip().splitlines() or [f"its process ended with {process.returncode}"]
        raise SelfTestError(f"Not published, the self-test failed: {lines[-1]}")
    differences: Differences = json.loads(answer.splitlines()[-1])
    return differences

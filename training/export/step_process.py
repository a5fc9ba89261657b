"""A step of the export that runs in a process of its own, which knows nothing of the model but the version's files.

The process is started early: TensorFlow takes seconds to import, which pass meanwhile.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from fashion_common.installation import module_command
from fashion_common.runtimes import WITHOUT_KERAS
from training.errors import TrainingError


@contextmanager
def step_process(module: str, failure: Callable[[str], TrainingError]) -> Iterator[Callable[[Path], Any]]:
    """Starts `python -m module`, and gives what runs its step on a version, once.

    That gives what the step returned, as `main` prints it, and raises `failure` of the last line that the process
    wrote when it failed. Else nothing that it prints is seen.
    """
    environment = {**os.environ, **WITHOUT_KERAS, "TF_CPP_MIN_LOG_LEVEL": "3", "PYTHONWARNINGS": "ignore"}
    # Should this process be killed, the end of its input ends the other one too.
    with subprocess.Popen(
        module_command(module),
        env=environment,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        errors="backslashreplace",
    ) as process:

        def result(version_path: Path) -> Any:
            output, errors = process.communicate(f"{version_path.absolute()}\n")
            if process.returncode:
                lines = errors.strip().splitlines() or [f"its process ended with {process.returncode}"]
                raise failure(lines[-1])
            return json.loads(output.splitlines()[-1])

        try:
            yield result
        finally:
            process.kill()


def main(step: Callable[[Path], object]) -> None:
    """Runs a step on the version named on stdin: its result as JSON on stdout, or what is wrong on stderr."""
    version_path = sys.stdin.readline().strip()
    if not version_path:
        return
    try:
        print(json.dumps(step(Path(version_path))))
    except TrainingError as error:
        sys.exit(str(error))

"""The steps of the export that know nothing of the model but the version's files, in a process of their own.

TensorFlow's converter leaks memory and prints much, and Keras has no part in the self-test. The process is started
early: TensorFlow takes seconds to import, which pass meanwhile.

`python -m training.export.step_process` runs the steps that it reads, one a line, and answers each with a line of JSON.
"""

from __future__ import annotations

import contextlib
import json
import os
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import IO, TYPE_CHECKING, Any, NamedTuple

from fashion_common.imports import without_collections
from fashion_common.installation import module_command
from fashion_common.runtimes import WITHOUT_KERAS
from training.errors import SelfTestError, TrainingError

if TYPE_CHECKING:
    from training.export.self_test import Differences


class Steps(NamedTuple):
    """`write_lite_model` and `run_self_test` of a version's directory; they raise TrainingError and SelfTestError."""

    convert: Callable[[Path], None]
    self_test: Callable[[Path], Differences]


@contextlib.contextmanager
def step_process() -> Iterator[Steps]:
    """Starts the process, and gives its steps; a process that dies of one is replaced for the next."""
    from training.export.self_test import Differences

    # A pipe of errors that nobody reads meanwhile would hold the process up.
    with tempfile.TemporaryFile() as errors, contextlib.closing(_Process(errors)) as process:

        def self_test(version_path: Path) -> Differences:
            try:
                return Differences(*process.run("self_test", version_path))
            except TrainingError as error:
                raise SelfTestError(f"Not published, the self-test failed: {error}") from error

        yield Steps(lambda version_path: process.run("convert", version_path), self_test)


class _Process:
    def __init__(self, errors: IO[bytes]) -> None:
        self._errors = errors
        self._process = self._started()

    def _started(self) -> subprocess.Popen[bytes]:
        self._errors.seek(0)
        self._errors.truncate()
        environment = {**os.environ, **WITHOUT_KERAS, "TF_CPP_MIN_LOG_LEVEL": "3", "PYTHONWARNINGS": "ignore"}
        # Should this process be killed, the end of its input ends the other one too.
        return subprocess.Popen(
            module_command("training.export.step_process"),
            env=environment,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=self._errors,
        )

    def run(self, step: str, version_path: Path) -> Any:
        """What the step gives, as JSON has it. Raises TrainingError with the reason why it failed."""
        if self._process.poll() is not None:
            self.close()
            self._process = self._started()
        request, answers = self._process.stdin, self._process.stdout
        assert request is not None
        assert answers is not None
        # Where it has died, its last words are read below.
        with contextlib.suppress(BrokenPipeError):
            request.write(json.dumps([step, str(version_path.absolute())]).encode() + b"\n")
            request.flush()
        answer = answers.readline()
        if not answer:
            code = self._process.wait()
            self._errors.seek(0)
            lines = self._errors.read().decode(errors="backslashreplace").strip().splitlines()
            raise TrainingError(lines[-1] if lines else f"its process ended with {code}")
        result = json.loads(answer)
        if "failure" in result:
            raise TrainingError(result["failure"])
        return result["value"]

    def close(self) -> None:
        """Ends the process, whatever it does."""
        self._process.kill()
        # Waits, and closes the pipes; what a broken one holds is lost on nobody.
        with contextlib.suppress(BrokenPipeError), self._process:
            pass


def main() -> None:
    """Runs the steps that stdin names until it ends: `["convert", "/models/fashion_mnist/.3"]` a line.

    Answers go to stdout: `{"value": ...}`, or `{"failure": "the reason"}`. What libraries print there goes to stderr.
    """
    with without_collections():
        from training.export.lite import write_lite_model
        from training.export.self_test import run_self_test

    steps: dict[str, Callable[[Path], object]] = {"convert": write_lite_model, "self_test": run_self_test}
    with os.fdopen(os.dup(sys.stdout.fileno()), "w", buffering=1) as answers:
        os.dup2(sys.stderr.fileno(), sys.stdout.fileno())
        for line in sys.stdin:
            step, version_path = json.loads(line)
            try:
                answer = {"value": steps[step](Path(version_path))}
            except TrainingError as error:
                answer = {"failure": str(error)}
            print(json.dumps(answer), file=answers)


if __name__ == "__main__":
    main()

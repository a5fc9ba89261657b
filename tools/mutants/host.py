"""A process that has imported what tests stand on, and runs pytest in forks of itself: a run begins at once.

`python -m tools.mutants.host MODULE...` reads runs from stdin, a line of JSON each, and answers with pytest's code.
"""

from __future__ import annotations

import contextlib
import importlib
import json
import os
import select
import subprocess
import sys
import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import NamedTuple, NoReturn

import pytest


class Command(NamedTuple):
    """One of pytest: its arguments and environment, and the file that its output is added to."""

    arguments: Sequence[str]
    environment: Mapping[str, str]
    output: str


class Host:
    """Such a process. modules: what it imports, where it is installed."""

    def __init__(self, directory: Path, environment: Mapping[str, str], modules: Sequence[str]) -> None:
        self._process = subprocess.Popen(
            [sys.executable, "-m", "tools.mutants.host", *modules],
            cwd=directory,
            env=environment,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            text=True,
            start_new_session=True,
        )
        self.pid = self._process.pid

    def begin(self, command: Command) -> None:
        """Begins a run; there is one at a time."""
        assert self._process.stdin is not None
        self._process.stdin.write(json.dumps(command) + "\n")
        self._process.stdin.flush()

    def exit_code(self, timeout: float | None = None) -> int | None:
        """Of the run, or None when it takes longer. Raises RuntimeError when the process has ended."""
        assert self._process.stdout is not None
        if not select.select([self._process.stdout], [], [], timeout)[0]:
            return None
        line = self._process.stdout.readline()
        if not line:
            raise RuntimeError(f"the process that runs the tests ended with {self._process.wait()}")
        return int(line)

    def close(self) -> None:
        """Ends the process."""
        self._process.kill()
        self._process.communicate()


def main(modules: Sequence[str]) -> None:
    """Imports modules, and runs what is asked for until stdin ends."""
    # What an import prints is no answer.
    answers = os.fdopen(os.dup(1), "w", buffering=1)
    os.dup2(2, 1)
    for name in modules:
        with contextlib.suppress(ImportError):
            importlib.import_module(name)
    for line in sys.stdin:
        command = Command(*json.loads(line))
        pid = os.fork()
        if pid == 0:
            _run(command)
        _, status = os.waitpid(pid, 0)
        print(os.waitstatus_to_exitcode(status), file=answers)


def _run(command: Command) -> NoReturn:
    code = 1
    try:
        os.setsid()
        with Path(command.output).open("a") as output, Path(os.devnull).open() as nothing:
            for descriptor, file in enumerate((nothing, output, output)):
                os.dup2(file.fileno(), descriptor)
        os.environ.clear()
        os.environ.update(command.environment)
        tempfile.tempdir = None
        code = pytest.main(list(command.arguments))
        sys.stdout.flush()
        sys.stderr.flush()
    finally:
        # A copy ends nothing that is the host's.
        os._exit(code)


if __name__ == "__main__":
    main(sys.argv[1:])

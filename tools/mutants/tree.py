"""A copy of the checkout, in which mutants are made and tests are run: the checkout itself is never changed."""

from __future__ import annotations

import contextlib
import fcntl
import itertools
import os
import shutil
import signal
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

import psutil  # type: ignore[import-untyped]

from tools.mutants.host import Command, Host
from tools.mutants.project import ROOT, Project

# Marks every process that a test starts, those that leave their parent's session too.
_MARK = "MUTANTS_TREE"
# A run of tests inside of one of pytest's or coverage's must not know of it.
_FOREIGN = ("PYTEST_", "COVERAGE_", "COV_", "PYTHON")
# pytest's options of a run: what a host has imported, pytest can rewrite no more.
_OPTIONS = (
    "-q", "-x", "--tb=short", "--no-header", "-p", "no:cacheprovider", "-p", "no:randomly",
    "-p", "tools.mutants.plugin", "-W", "ignore::pytest.PytestAssertRewriteWarning",
)  # fmt: skip


@contextlib.contextmanager
def alone(project: Project) -> Iterator[None]:
    """Raises RuntimeError when another run is in the copies."""
    project.build.mkdir(parents=True, exist_ok=True)
    with (project.build / "lock").open("w") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError as error:
            raise RuntimeError(f"another run is in {project.build}: wait for it, or end it") from error
        yield


class Outcome(NamedTuple):
    """How tests ended: an exit code of pytest, or None when they took too long."""

    exit_code: int | None
    output: str


class Tree:
    """One copy; only one mutant at a time is in it. To be closed."""

    def __init__(self, project: Project, number: int) -> None:
        self.path = project.build / f"tree{number}"
        self._project = project
        self._changes = itertools.count(1)
        self._host: Host | None = None
        # What a run left behind that was killed.
        self.stop()
        self._copy()
        self._check_imports()

    def _copy(self) -> None:
        """Makes the copy equal to the checkout, and leaves in place what is."""
        names = self._project.files()
        for name in names:
            source, copy = self._project.root / name, self.path / name
            if not _is_same(source, copy):
                copy.parent.mkdir(parents=True, exist_ok=True)
                shutil.copy2(source, copy)
        wanted = {self.path / name for name in names}
        for path in self.path.rglob("*"):
            if path.is_file() and path not in wanted and path.suffix != ".pyc":
                path.unlink()

    def _check_imports(self) -> None:
        """Raises RuntimeError when a started process would import another copy: every mutant would survive."""
        packages = list(self._project.packages)
        code = f"import importlib\nfor name in {packages}: print(importlib.import_module(name).__path__[0])"
        command = [sys.executable, "-c", code]
        with self._environment({}) as environment:
            paths = subprocess.run(
                command, cwd=self.path.parent, env=environment, check=True, capture_output=True, text=True
            ).stdout.split("\n")
        if paths[:-1] != [str(self.path / name) for name in packages]:
            raise RuntimeError(f"{sys.executable} imports {', '.join(paths)} rather than what is in {self.path}")

    @contextlib.contextmanager
    def mutated(self, file: str, code: str) -> Iterator[None]:
        """Has other code in a file as long as the block runs."""
        path = self.path / file
        original, status = path.read_bytes(), path.stat()
        path.write_text(code)
        # Bytecode is told apart by the whole seconds and the size of its source.
        seconds = int(status.st_mtime) + next(self._changes)
        os.utime(path, (seconds, seconds))
        try:
            yield
        finally:
            path.write_bytes(original)
            os.utime(path, ns=(status.st_atime_ns, status.st_mtime_ns))

    def run(self, command: Sequence[str], variables: Mapping[str, str]) -> Outcome:
        """Runs a module of Python's with arguments here; ends what it leaves behind."""
        with self._environment(variables) as environment, tempfile.TemporaryFile("w+", errors="replace") as output:
            process = subprocess.Popen(
                [sys.executable, "-m", *command],
                cwd=self.path,
                env=environment,
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=subprocess.STDOUT,
                start_new_session=True,
            )
            try:
                code = process.wait()
            finally:
                self.stop()
                process.wait()
            output.seek(0)
            return Outcome(code, output.read())

    def test(self, tests: Sequence[str], timeout: float) -> Outcome:
        """Runs these tests in this order, until one fails."""
        files = list(dict.fromkeys(test.partition("::")[0] for test in tests))
        chosen, output = self.path.with_suffix(".tests"), self.path.with_suffix(".output")
        chosen.write_text("\n".join(tests))
        output.write_text("")
        if self._host is None:
            with self._environment({}) as environment:
                self._host = Host(self.path, environment, self._project.preloaded)
        with self._environment({"MUTANTS_TESTS": str(chosen)}) as environment:
            self._host.begin(Command([*_OPTIONS, *files], environment, str(output)))
            code = self._host.exit_code(timeout)
            self.stop()
            if code is None:
                self._host.exit_code()
        return Outcome(code, output.read_text(errors="replace"))

    def close(self) -> None:
        """Ends what is kept from one run to the next."""
        if self._host is not None:
            self._host.close()

    def stop(self) -> None:
        """Ends every process that runs here, but for the host."""
        own = self._host and self._host.pid
        for process in psutil.process_iter():
            with contextlib.suppress(psutil.Error):
                if process.pid != own and process.environ().get(_MARK) == str(self.path):
                    process.send_signal(signal.SIGKILL)

    @contextlib.contextmanager
    def _environment(self, variables: Mapping[str, str]) -> Iterator[dict[str, str]]:
        kept = {name: value for name, value in os.environ.items() if not name.startswith(_FOREIGN)}
        # What an editable install names comes behind this.
        kept["PYTHONPATH"] = os.pathsep.join([str(self.path), str(ROOT)])
        # Short, since the addresses of UNIX sockets are.
        with tempfile.TemporaryDirectory(prefix="mutant", ignore_cleanup_errors=True) as directory:
            yield {**kept, _MARK: str(self.path), "TMPDIR": directory, **variables}


def _is_same(source: Path, copy: Path) -> bool:
    if not copy.is_file():
        return False
    one, other = source.stat(), copy.stat()
    return (one.st_size, one.st_mtime_ns) == (other.st_size, other.st_mtime_ns)

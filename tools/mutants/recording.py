"""Which test runs which lines of the product, and how long it takes: kept in build/, and brought up to date."""

from __future__ import annotations

import contextlib
import hashlib
import json
from collections import defaultdict
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import NamedTuple

import coverage
from coverage.exceptions import DataError

from tools.mutants.plugin import MARKS, unmarked
from tools.mutants.project import Project
from tools.mutants.tree import Tree

_CONFIGURATION = """\
[run]
source_pkgs = {packages}
parallel = true
patch = subprocess, fork, _exit
sigterm = true
data_file = {data_file}
disable_warnings = module-not-imported, no-data-collected, module-not-measured
"""


class Run(NamedTuple):
    """What one test did: seconds, and the lines of the product by file."""

    seconds: float
    lines: dict[str, list[int]]


class Recording:
    """The runs of all tests that are asked."""

    def __init__(self, project: Project) -> None:
        self._project = project
        self._path = project.build / "recording.json"
        self.runs: dict[str, Run] = {}
        # By test file: what it and the product's files that its tests reached were. What tests share is left out, since
        # it seldom changes which lines they run; without the file everything is recorded anew.
        self._digests: dict[str, dict[str, str]] = {}
        if self._path.exists():
            content = json.loads(self._path.read_text())
            self.runs = {test: Run(*run) for test, run in content["runs"].items()}
            self._digests = content["digests"]

    def digest(self) -> str:
        """Differs when tests do."""
        return hashlib.sha256(json.dumps(self._digests, sort_keys=True).encode()).hexdigest()[:16]

    def stale(self) -> list[str]:
        """The test files that changed, or what they stand on, since they were recorded."""
        tests = self._test_files()
        return [test for test in tests if self._digests_of(self._digests.get(test, ())) != self._digests.get(test)]

    def update(self, tree: Tree, tests: Sequence[str], jobs: int) -> str:
        """Runs test files and records them; gives which failed, and so are not asked, and pytest's last line."""
        data_file = self._project.build / "coverage/data"
        for path in data_file.parent.glob("data*"):
            path.unlink()
        data_file.parent.mkdir(parents=True, exist_ok=True)
        configuration = data_file.with_name("configuration.ini")
        packages = ", ".join(self._project.packages)
        configuration.write_text(_CONFIGURATION.format(packages=packages, data_file=data_file))
        times = data_file.with_name("times.json")
        coverage_run = ["coverage", "run", f"--rcfile={configuration}", "-m"]
        options = ["-q", "--no-header", "-p", "tools.mutants.plugin", "-m", "not alone", "-n", str(jobs)]
        options += ["-p", "no:cacheprovider", "-p", "no:randomly"]
        outcome = tree.run([*coverage_run, "pytest", *options, *tests], {"MUTANTS_TIMES": str(times)})
        if outcome.exit_code not in (0, 1):
            raise RuntimeError(f"the tests could not be recorded:\n{outcome.output}")
        self._replace(tests, json.loads(times.read_text()), combined(data_file, tree.path))
        times.unlink()
        self._path.write_text(json.dumps({"runs": self.runs, "digests": self._digests}))
        lines = outcome.output.rstrip().splitlines()
        return "\n".join([*(line for line in lines if line.startswith(("FAILED", "ERROR"))), lines[-1]])

    def _replace(self, tests: Sequence[str], seconds: dict[str, float], lines: dict[str, dict[str, list[int]]]) -> None:
        recorded = set(tests)
        self.runs = {test: run for test, run in self.runs.items() if file_of(test) not in recorded}
        for test, taken in seconds.items():
            self.runs[test] = Run(taken, lines.get(test, {}))
            # A server that a test started may serve the later tests of its file too; what a shared fixture made does.
            for mark in MARKS:
                others = lines.get(mark + test, {})
                self.runs[test].lines.update({mark + name: numbers for name, numbers in others.items()})
        reached = {test: {test} for test in tests}
        for test in seconds:
            reached[file_of(test)] |= {unmarked(name) for name in self.runs[test].lines}
        self._digests |= {test: self._digests_of(sorted(names)) for test, names in reached.items()}
        self._digests = {test: digests for test, digests in self._digests.items() if test in self._test_files()}

    def _test_files(self) -> list[str]:
        return [
            name
            for name in self._project.files()
            if name.startswith("tests/")
            and Path(name).name.startswith("test_")
            and name.endswith(".py")
            and not name.startswith(self._project.unasked)
        ]

    def _digests_of(self, names: Iterable[str]) -> dict[str, str]:
        paths = {name: self._project.root / name for name in names}
        return {
            name: hashlib.sha256(path.read_bytes()).hexdigest()[:16] if path.exists() else ""
            for name, path in paths.items()
        }


def file_of(test: str) -> str:
    """The file that a test is in."""
    return test.partition("::")[0]


def combined(data_file: Path, root: Path) -> dict[str, dict[str, list[int]]]:
    """By test, or by the test that started the process, the lines of each file."""
    # Not coverage.Coverage.combine(): in a process that is measured itself, as the test of this, its own data is lost.
    data = coverage.CoverageData(no_disk=True)
    for path in data_file.parent.glob(f"{data_file.name}.*"):
        part = coverage.CoverageData(str(path))
        # A process that was killed while it wrote has left half of a file.
        with contextlib.suppress(DataError):
            part.read()
            data.update(part)
    lines: dict[str, dict[str, list[int]]] = defaultdict(dict)
    for file in data.measured_files():
        # A process that was given another environment has imported the checkout itself.
        if not Path(file).is_relative_to(root):
            continue
        name = str(Path(file).relative_to(root))
        for line, contexts in data.contexts_by_lineno(file).items():
            for context in contexts:
                # A process that a started process started has both names, one after the other.
                lines[context.partition("|")[0]].setdefault(name, []).append(line)
    return lines

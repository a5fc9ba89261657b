"""A plugin of pytest's: runs the chosen tests only, or tells coverage which test it measures.

It is given by environment variables: MUTANTS_TESTS names a file with one test a line; MUTANTS_TIMES a file to write
to, with what each test took.
"""

from __future__ import annotations

import base64
import json
import os
from collections import defaultdict
from collections.abc import Generator
from pathlib import Path

import coverage
import pytest

# What child processes do is marked so in the recording: it may have been done for later tests too.
CHILD = "child:"
# And so what a fixture does that tests share: coverage sees only the first of them do it.
SHARED = "shared:"
MARKS = (CHILD, SHARED)
_CONFIGURATION = "COVERAGE_PROCESS_CONFIG"


def pytest_configure(config: pytest.Config) -> None:
    """One of the two."""
    if path := os.environ.get("MUTANTS_TESTS"):
        config.pluginmanager.register(_Chosen(Path(path).read_text().split("\n")))
    if path := os.environ.get("MUTANTS_TIMES"):
        config.pluginmanager.register(_Recorded(Path(path), writes="PYTEST_XDIST_WORKER" not in os.environ))


class _Chosen:
    def __init__(self, tests: list[str]) -> None:
        self._place = {test: place for place, test in enumerate(tests)}

    @pytest.hookimpl(trylast=True)
    def pytest_collection_modifyitems(self, config: pytest.Config, items: list[pytest.Item]) -> None:
        chosen = [item for item in items if item.nodeid in self._place]
        config.hook.pytest_deselected(items=[item for item in items if item.nodeid not in self._place])
        items[:] = sorted(chosen, key=lambda item: self._place[item.nodeid])


def unmarked(name: str) -> str:
    """A file's name in the recording without its mark."""
    return name.removeprefix(CHILD).removeprefix(SHARED)


class _Recorded:
    def __init__(self, path: Path, *, writes: bool) -> None:
        self._path = path
        self._writes = writes
        self._context = ""
        self._seconds: dict[str, float] = defaultdict(float)
        self._failed: set[str] = set()

    @pytest.hookimpl(wrapper=True, tryfirst=True)
    def pytest_runtest_protocol(self, item: pytest.Item) -> Generator[None, object, object]:
        current = coverage.Coverage.current()
        if current is None:
            return (yield)
        name = self._context = _name(item.nodeid)
        current.switch_context(name)
        configuration = os.environ.get(_CONFIGURATION)
        if configuration is not None:
            settings = json.loads(base64.b64decode(configuration)) | {"context": CHILD + name}
            os.environ[_CONFIGURATION] = base64.b64encode(json.dumps(settings).encode()).decode()
        try:
            return (yield)
        finally:
            current.switch_context("")

    @pytest.hookimpl(wrapper=True)
    def pytest_fixture_setup(self, fixturedef: pytest.FixtureDef[object]) -> Generator[None, object, object]:
        current = coverage.Coverage.current()
        if current is None or fixturedef.scope == "function":
            return (yield)
        outer = self._context
        self._context = outer if outer.startswith(SHARED) else SHARED + outer
        current.switch_context(self._context)
        try:
            return (yield)
        finally:
            self._context = outer
            current.switch_context(outer)

    def pytest_runtest_logreport(self, report: pytest.TestReport) -> None:
        name = _name(report.nodeid)
        self._seconds[name] += report.duration
        if not report.passed:
            self._failed.add(name)

    def pytest_sessionfinish(self) -> None:
        if self._writes:
            passed = {name: seconds for name, seconds in self._seconds.items() if name not in self._failed}
            self._path.write_text(json.dumps(passed))


def _name(nodeid: str) -> str:
    """A test's name without the group that pytest-xdist puts behind it."""
    name, at, _ = nodeid.rpartition("@")
    return name if at else nodeid

"""A run over a sample: what is known is kept, what is not is tried, in as many trees as there are jobs."""

from __future__ import annotations

import json
import queue
import threading
import time
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import NamedTuple

from tools.mutants.mutant import Mutant
from tools.mutants.selection import Selection
from tools.mutants.tree import Tree

# Seconds: to start pytest and import what the tests need, however busy the machine is.
_START = 40.0
# A mutant that makes its tests take this many times as long is killed.
_SLOWER = 3.0
_NO_TESTS = 5  # pytest's exit code


class Result(NamedTuple):
    """What became of a mutant."""

    killed: bool
    # How many tests it was shown to, and the state that they were in.
    tests: int
    recording: str
    seconds: float
    # The end of what the tests printed.
    output: str


class Session:
    """The results of one sample, in a file that is read again when the sample is."""

    def __init__(self, path: Path, recording: str) -> None:
        self._path = path
        self._recording = recording
        self._lock = threading.Lock()
        self._results: dict[str, Result] = {}
        if path.exists():
            for line in path.read_text().splitlines():
                key, *fields = json.loads(line)
                self._results[key] = Result(*fields)

    def result(self, key: str) -> Result | None:
        """What is known of a mutant: nothing, where it survived tests that are others now."""
        result = self._results.get(key)
        return result if result and (result.killed or result.recording == self._recording) else None

    def run(
        self,
        mutants: Sequence[tuple[str, Mutant, str]],
        selection: Selection,
        trees: Sequence[Tree],
        report: Callable[[Mutant, Result], None],
    ) -> None:
        """Tries mutants, given by key, mutant and the source of its file."""
        free: queue.SimpleQueue[Tree] = queue.SimpleQueue()
        for tree in trees:
            free.put(tree)
        stopped = threading.Event()

        def attempt(key: str, mutant: Mutant, source: str) -> None:
            if stopped.is_set():
                return
            tree = free.get()
            try:
                result = self._try(mutant, source, selection, tree)
            finally:
                free.put(tree)
            if not stopped.is_set():
                self._keep(key, result)
                report(mutant, result)

        with ThreadPoolExecutor(len(trees)) as pool:
            futures = [pool.submit(attempt, *mutant) for mutant in mutants]
            try:
                for future in futures:
                    future.result()
            except BaseException:
                # The tests of an interrupted run are ended, and their mutants tried again.
                stopped.set()
                pool.shutdown(wait=False, cancel_futures=True)
                for tree in trees:
                    tree.stop()
                raise

    def _try(self, mutant: Mutant, source: str, selection: Selection, tree: Tree) -> Result:
        begin = time.monotonic()
        killed, count, output = False, 0, "no test reaches it"
        code = mutant.code(source)
        assert code is not None
        with tree.mutated(mutant.file, code):
            for tests, seconds in selection.batches(mutant):
                count += len(tests)
                outcome = tree.test(tests, _START + _SLOWER * seconds)
                killed, output = outcome.exit_code not in (0, _NO_TESTS), outcome.output[-3000:]
                if outcome.exit_code is None:
                    output += "\ntook too long"
                if killed:
                    break
        return Result(killed, count, self._recording, round(time.monotonic() - begin, 1), output)

    def _keep(self, key: str, result: Result) -> None:
        with self._lock:
            self._results[key] = result
            with self._path.open("a") as file:
                file.write(json.dumps([key, *result]) + "\n")

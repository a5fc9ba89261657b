"""Changes the product on purpose, a line at a time, and lists the changes that no test notices.

    python -m tools.mutants [--sample 300] [--seed N] [--file PATH] [--jobs 2] [--list | --show N] [--fail-under 90]

Run by `make mutants`. The sample is chosen by chance; the same seed gives the same one, and goes on where it was left.
The first run records which test runs which lines, which takes some minutes. Everything is kept in build/mutants.
"""

from __future__ import annotations

import argparse
import contextlib
import random
import sys
import time
from collections.abc import Mapping, Sequence

from tools.mutants.equivalents import Equivalents
from tools.mutants.mutant import Mutant, sample
from tools.mutants.project import PRODUCT, Project
from tools.mutants.recording import Recording
from tools.mutants.selection import Selection
from tools.mutants.session import Result, Session
from tools.mutants.tree import Tree, alone


def main(arguments: Sequence[str] | None = None, project: Project = PRODUCT) -> int:
    """Runs, and gives the exit code."""
    options = _parser().parse_args(arguments)
    seed = random.randrange(1_000_000) if options.seed is None else options.seed  # noqa: S311 - no secret
    mutants = sample(project, options.sample, seed, options.file)
    print(f"{len(mutants)} mutants, --seed {seed}", flush=True)
    sources = {mutant.file: (project.root / mutant.file).read_text() for mutant in mutants}
    if options.list:
        for number, mutant in enumerate(mutants):
            print(f"\n{number}: {mutant.diff(sources[mutant.file])}")
        return 0
    if options.show is not None:
        mutant = mutants[options.show]
        session = Session(project.build / f"{seed}.jsonl", Recording(project).digest())
        result = session.result(mutant.key(sources[mutant.file]))
        print(mutant.diff(sources[mutant.file]))
        print(
            f"{_word(result)} by {result.tests} tests in {result.seconds} s\n{result.output}" if result else "not tried"
        )
        return 0
    with alone(project):
        share = _run(project, mutants, sources, seed, options.jobs)
    return int(share < options.fail_under)


def _run(project: Project, mutants: Sequence[Mutant], sources: Mapping[str, str], seed: int, jobs: int) -> float:
    with contextlib.ExitStack() as stack:
        trees = [stack.enter_context(contextlib.closing(Tree(project, number))) for number in range(jobs)]
        return _tried(project, mutants, sources, seed, trees)


def _tried(
    project: Project, mutants: Sequence[Mutant], sources: Mapping[str, str], seed: int, trees: Sequence[Tree]
) -> float:
    """Tries what is not known yet, and lists what survives; gives the percentage that is killed."""
    recording = Recording(project)
    if stale := recording.stale():
        print(f"Recording which lines {len(stale)} test files run.", flush=True)
        print(recording.update(trees[0], stale, len(trees)), flush=True)
    session = Session(project.build / f"{seed}.jsonl", recording.digest())
    equivalents = Equivalents(project.equivalents)
    judged = [mutant for mutant in mutants if equivalents.reason(mutant, sources[mutant.file]) is None]
    keyed = [(mutant.key(sources[mutant.file]), mutant, sources[mutant.file]) for mutant in judged]
    waiting = [entry for entry in keyed if session.result(entry[0]) is None]
    session.run(waiting, Selection(project, recording), trees, _Progress(len(waiting)))
    results = [session.result(key) for key, *_ in keyed]
    survivors = [mutant for mutant, result in zip(judged, results, strict=True) if result and not result.killed]
    for mutant in sorted(survivors):
        print(f"\n{mutants.index(mutant)}: {mutant.diff(sources[mutant.file])}")
    killed = len(judged) - len(survivors)
    share = 100 * killed / max(1, len(judged))
    print(
        f"\n--seed {seed}: {killed} of {len(judged)} killed ({share:.1f} %), {len(survivors)} survived;"
        f" {len(mutants) - len(judged)} more are equivalent"
    )
    return share


class _Progress:
    """Prints a line for each mutant."""

    def __init__(self, count: int) -> None:
        self._left = count
        self._killed = 0
        self._tried = 0
        self._begin = time.monotonic()

    def __call__(self, mutant: Mutant, result: Result) -> None:
        self._left -= 1
        self._tried += 1
        self._killed += result.killed
        place = f"{mutant.file}:{mutant.line} {mutant.operator}"
        minutes = (time.monotonic() - self._begin) / 60
        print(
            f"{_word(result)} in {result.seconds} s: {place}; {self._left} left,"
            f" {self._killed} of {self._tried} killed, {minutes:.1f} min",
            flush=True,
        )


def _word(result: Result) -> str:
    return "killed" if result.killed else "SURVIVED"


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--sample", type=int, default=300, help="how many mutants [default: 300]")
    parser.add_argument("--seed", type=int, help="which sample [default: by chance]")
    parser.add_argument("--file", action="append", default=[], metavar="PATH", help="only of this file; again for more")
    parser.add_argument("--jobs", type=int, default=2, help="mutants at a time [default: 2]")
    parser.add_argument("--list", action="store_true", help="print the sample and try nothing")
    parser.add_argument("--show", type=int, metavar="N", help="print mutant N of the sample and what its tests said")
    parser.add_argument("--fail-under", type=float, default=0.0, metavar="PERCENT", help="exit with 1 below it")
    return parser


if __name__ == "__main__":
    sys.exit(main())

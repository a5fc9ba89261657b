"""Which tests are asked about a mutant: those that run its line, in memory, near and quick ones first."""

from __future__ import annotations

import functools
import re
from collections import defaultdict
from collections.abc import Iterable, Iterator
from pathlib import Path, PurePosixPath

from cosmic_ray.ast import get_ast
from parso.python.tree import Class, ExprStmt, Function
from parso.tree import NodeOrLeaf

from tools.mutants.mutant import Mutant
from tools.mutants.plugin import CHILD, MARKS, unmarked
from tools.mutants.project import Project
from tools.mutants.recording import Recording, file_of

# Seconds of tests: a mutant that the first do not kill is shown to the others too, and at last to the near ones that
# start processes.
BUDGETS = (5.0, 20.0, 60.0)
# Seconds that a file's first test takes longer: to import what it needs, or to start servers.
_FILE_SECONDS = {False: 0.5, True: 5.0}


class Selection:
    """The tests of each mutant, from what was recorded."""

    def __init__(self, project: Project, recording: Recording) -> None:
        self._root = project.root
        self._modules = project.modules()
        self._runs = recording.runs
        self._by_line: dict[str, dict[int, set[str]]] = defaultdict(lambda: defaultdict(set))
        tests_of_file: dict[str, set[str]] = defaultdict(set)
        for test in self._runs:
            tests_of_file[file_of(test)].add(test)
        for test, run in self._runs.items():
            for name, lines in run.lines.items():
                # A started process, or what a fixture made, may have served any test of the file.
                tests = tests_of_file[file_of(test)] if name.startswith(MARKS) else {test}
                by_line = self._by_line[unmarked(name)]
                for line in lines:
                    by_line[line] |= tests
        self._tests_of_file = tests_of_file
        self._starts_processes = {
            file_of(test) for test, run in self._runs.items() if any(name.startswith(CHILD) for name in run.lines)
        }

    def batches(self, mutant: Mutant) -> Iterator[tuple[list[str], float]]:
        """Tests to run one after the other, and the seconds that each batch took when it was recorded."""
        ordered, near = self._ordered(mutant)
        for budget in BUDGETS:
            if budget == BUDGETS[-1]:
                ordered.sort(key=lambda test: file_of(test) not in near)
            batch: list[str] = []
            files: set[str] = set()
            seconds = 0.0
            while ordered:
                file = file_of(ordered[0])
                cost = self._runs[ordered[0]].seconds
                cost += 0.0 if file in files else _FILE_SECONDS[file in self._starts_processes]
                if batch and seconds + cost > budget:
                    break
                seconds += cost
                files.add(file)
                batch.append(ordered.pop(0))
            if batch:
                yield batch, seconds

    def _ordered(self, mutant: Mutant) -> tuple[list[str], set[str]]:
        """The tests, and the files of those near to the mutant."""
        node = self._tree(mutant.file).get_leaf_for_position((mutant.line, mutant.column))
        statement = _statement(node)
        tests = set(self._at(mutant.file, [mutant.line]))
        tests = tests or self._at(mutant.file, range(statement.start_pos[0], mutant.line + 1))
        near = {file for file in self._tests_of_file if _is_mirror(mutant.file, file)}
        told: set[str] = set()
        if not _is_in_function(node):
            # What a test file takes when it is imported, no test of it is seen to run.
            names = {owner} if (owner := _class(statement)) else _names(statement)
            told = {file for file in self._tests_of_file if _mentions(self._text(file), names)}
            tests |= self._users(mutant.file, statement)
            if isinstance(statement, Function):
                # Whoever calls a function needs its decorators and defaults.
                near |= {file_of(test) for test in self._at(mutant.file, _lines(statement))}
            tests |= {test for file in told | near for test in self._tests_of_file[file]}
        if not tests:
            tests = {test for file in near for test in self._tests_of_file[file]}
            tests = tests or self._at(mutant.file, list(self._by_line[mutant.file]))
            folder = f"tests/{PurePosixPath(mutant.file).parent}/"
            tests = tests or {test for test in self._runs if test.startswith(folder)}
        by_file: dict[str, list[str]] = defaultdict(list)
        for test in sorted(tests, key=lambda test: (self._runs[test].seconds, test)):
            by_file[file_of(test)].append(test)

        def rank(file: str) -> tuple[bool, int, float]:
            nearness = 0 if file in near else 1 if file in told else 2
            return file in self._starts_processes, nearness, sum(self._runs[test].seconds for test in by_file[file])

        return [test for file in sorted(by_file, key=rank) for test in by_file[file]], near

    def _users(self, file: str, statement: NodeOrLeaf) -> set[str]:
        """The tests of what uses a name that is bound when its module is imported."""
        tests: set[str] = set()
        waiting, done = [(file, statement)], set[tuple[str, int]]()
        while waiting:
            place, bound = waiting.pop()
            if (place, bound.start_pos[0]) in done:
                continue
            done.add((place, bound.start_pos[0]))
            if isinstance(bound, (Function, Class)):
                tests |= self._at(place, _lines(bound))
            names = _names(bound)
            owner = _class(bound)
            for name in self._modules if names else ():
                if owner is not None and name != place and not _mentions(self._text(name), {owner}):
                    continue
                for number, line in enumerate(self._text(name).splitlines(), start=1):
                    if not _mentions(line, names):
                        continue
                    if users := self._at(name, [number]):
                        tests |= users
                    elif owner is None and (node := self._top_level(name, number)) is not None:
                        waiting.append((name, node))
        return tests

    def _top_level(self, file: str, line: int) -> NodeOrLeaf | None:
        """The statement of a line that runs when its module is imported."""
        text = self._text(file).splitlines()[line - 1]
        node = self._tree(file).get_leaf_for_position((line, len(text) - len(text.lstrip())))
        return None if node is None or _is_in_function(node) else _statement(node)

    def _at(self, file: str, lines: Iterable[int]) -> set[str]:
        by_line = self._by_line[file]
        return {test for line in lines if line in by_line for test in by_line[line]}

    @functools.cache  # noqa: B019 - one selection a process
    def _text(self, file: str) -> str:
        return (self._root / file).read_text()

    @functools.cache  # noqa: B019 - one selection a process
    def _tree(self, file: str) -> NodeOrLeaf:
        return get_ast(self._text(file))


def _statement(node: NodeOrLeaf) -> NodeOrLeaf:
    """The innermost statement that a node is in; a function where it is in its head or decorator."""
    while node.parent is not None and node.parent.type not in {"suite", "simple_stmt", "file_input"}:
        node = node.parent
    if node.type in {"decorated", "async_stmt"}:
        node = node.children[-1]
    return node.children[-1] if node.type == "async_funcdef" else node


def _lines(node: NodeOrLeaf) -> range:
    return range(node.start_pos[0], node.end_pos[0] + 1)


def _is_in_function(node: NodeOrLeaf) -> bool:
    """Whether a node runs when a function is called, rather than when its module is imported."""
    while node.parent is not None:
        if isinstance(node.parent, Function) and node is node.parent.children[-1]:
            return True
        node = node.parent
    return False


def _names(statement: NodeOrLeaf) -> set[str]:
    """The names that a statement binds."""
    if isinstance(statement, (Function, Class)):
        return {statement.name.value}
    if isinstance(statement, ExprStmt):
        return {name.value for name in statement.get_defined_names()}
    return set()


def _class(statement: NodeOrLeaf) -> str | None:
    """The class whose body a statement is in."""
    node = statement.parent
    while node is not None:
        if isinstance(node, Class):
            name: str = node.name.value
            return name
        node = node.parent
    return None


def _mentions(text: str, names: Iterable[str]) -> bool:
    return any(name in text and re.search(rf"\b{re.escape(name)}\b", text) for name in names)


def _is_mirror(file: str, test: str) -> bool:
    """Whether a test file is the one beside a module: in its folder or above, and called by its name."""
    folder = Path(test).parent.relative_to("tests")
    module = Path(file)
    named = Path(test).stem == f"test_{module.stem}" or Path(test).stem.startswith(f"test_{module.stem}_")
    return named and folder in (module.parent, *module.parent.parents)

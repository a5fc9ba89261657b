"""One change to one line of the product."""

from __future__ import annotations

import difflib
import hashlib
import random
from collections import Counter
from collections.abc import Iterator, Sequence
from typing import NamedTuple

from cosmic_ray.ast import ast_nodes, get_ast
from cosmic_ray.mutating import mutate_code
from parso.python.tree import Function, IfStmt
from parso.tree import NodeOrLeaf

from tools.mutants.operators import OPERATORS
from tools.mutants.project import Project

# Where an operator's sign is one of arithmetic, not of `*args`, `**options` or a keyword-only parameter.
_ARITHMETIC = {"arith_expr", "term", "expr", "and_expr", "xor_expr", "shift_expr", "power"}
# Arguments that are texts for people or for the type checker, or guard a program against its authors or tune it,
# without another result.
_SILENT_KEYWORDS = {
    "help", "short_help", "show_default", "metavar", "epilog", "encoding", "slots", "frozen", "strict", "stacklevel",
    "bound",
}  # fmt: skip


class Mutant(NamedTuple):
    """Which operator is applied to which of its places in a file."""

    file: str
    line: int
    column: int
    operator: str
    occurrence: int

    def code(self, source: str) -> str | None:
        """The mutated file, or None where the result is no Python."""
        # The first operator that cosmic-ray would apply alters its own tree only.
        try:
            mutated: str | None = mutate_code(source, OPERATORS[self.operator], self.occurrence)
        except AttributeError:  # of `except module.Error`: ExceptionReplacer takes names without a dot only
            return None
        if mutated is None or mutated == source:
            return None
        try:
            compile(mutated, self.file, "exec", dont_inherit=True)
        except (SyntaxError, ValueError):
            return None
        return mutated

    def diff(self, source: str) -> str:
        """The change, with one line around it."""
        mutated = self.code(source) or source
        names = {"fromfile": f"{self.file}:{self.line}", "tofile": f"{self.file}:{self.line} {self.operator}"}
        lines = difflib.unified_diff(source.splitlines(), mutated.splitlines(), n=1, lineterm="", **names)
        return "\n".join(line for line in lines if not line.startswith("@@"))

    def key(self, source: str) -> str:
        """What a result is kept under: it is void once the file changes."""
        text = f"{self.file}\0{self.operator}\0{self.occurrence}\0{source}"
        return hashlib.sha256(text.encode()).hexdigest()[:16]


def mutants_of(file: str, source: str) -> Iterator[Mutant]:
    """Every mutant of a file, in cosmic-ray's order."""
    occurrences: Counter[str] = Counter()
    for node in ast_nodes(get_ast(source)):
        for name, operator in OPERATORS.items():
            for (line, column), _ in operator.mutation_positions(node):
                occurrence = occurrences[name]
                occurrences[name] += 1
                if name.startswith("ReplaceBinaryOperator") and node.parent.type not in _ARITHMETIC:
                    continue
                if not _has_no_effect(node):
                    yield Mutant(file, line, column, name, occurrence)


def _has_no_effect(node: NodeOrLeaf) -> bool:
    """Whether a node is in an annotation, in one of those arguments, or in `if TYPE_CHECKING`."""
    while (parent := node.parent) is not None:
        if isinstance(parent, Function) and node is parent.annotation:
            return True
        if (parent.type, parent.children.index(node)) in {("tfpdef", 2), ("annassign", 1)}:
            return True
        if isinstance(node, IfStmt) and node.children[1].get_code().strip() == "TYPE_CHECKING":
            return True
        if node.type == "argument" and node.children[0].get_code().strip() in _SILENT_KEYWORDS:
            return True
        node = parent
    return False


def sample(project: Project, size: int, seed: int, files: Sequence[str] = ()) -> list[Mutant]:
    """Mutants by chance: the same for the same seed and the same product."""
    sources = {name: (project.root / name).read_text() for name in files or project.modules()}
    mutants = [mutant for name, source in sources.items() for mutant in mutants_of(name, source)]
    random.Random(seed).shuffle(mutants)  # noqa: S311 - no secret
    chosen: list[Mutant] = []
    for mutant in mutants:
        if len(chosen) == size:
            break
        if mutant.code(sources[mutant.file]) is not None:
            chosen.append(mutant)
    return chosen

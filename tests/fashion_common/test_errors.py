"""The trees at the heads of the errors' modules are what the modules have."""

from __future__ import annotations

import importlib
import inspect
import re

import pytest

from fashion_common.errors import (
    EXIT_FAILED,
    EXIT_USAGE,
    BasePathError,
    EvidenceError,
    FashionError,
    LabelsError,
    MisplacedModelError,
    TokenFileError,
    UnreadableBasePathError,
)

MODULES = ("fashion_common.errors", "training.errors", "serving.errors", "serving.launch.errors", "client.errors")
# A class, alone or two spaces before what is said of it, behind the branches that lead to it.
_NODE = re.compile(r"^([ │├└─]*)([A-Z]\w+)(?:  .*)?$", re.MULTILINE)


def drawn(text: str) -> dict[str, str]:
    """The classes of the tree in a docstring, each with the class that it hangs from: none for the root."""
    parents: dict[str, str] = {}
    branch: list[tuple[int, str]] = []
    for indent, name in _NODE.findall(text):
        branch = [(depth, parent) for depth, parent in branch if depth < len(indent)]
        parents[name] = branch[-1][1] if branch else ""
        branch.append((len(indent), name))
    return parents


@pytest.mark.parametrize("name", MODULES)
def test_the_tree_is_what_the_module_has(name: str) -> None:
    """Every class and its one base; all are FashionErrors, of exit code 1 or 2."""
    module = importlib.import_module(name)
    classes = [value for value in vars(module).values() if inspect.isclass(value) and value.__module__ == name]
    errors = {
        value.__name__: value for value in classes if issubclass(value, Exception) and not issubclass(value, Warning)
    }
    tree = drawn(module.__doc__ or "")
    root = next(iter(tree))

    assert errors.keys() == tree.keys() - ({"FashionError"} - errors.keys())
    for error in errors.values():
        assert issubclass(error, FashionError)
        assert error.exit_code in (EXIT_FAILED, EXIT_USAGE)
        assert error.__name__ == root or [base.__name__ for base in error.__bases__] == [tree[error.__name__]]


def test_exit_codes_are_those_of_every_command_line() -> None:
    """1: it failed; 2: it was asked wrongly."""
    assert (EXIT_FAILED, EXIT_USAGE) == (1, 2)
    wrong = (BasePathError, UnreadableBasePathError, MisplacedModelError, TokenFileError, EvidenceError)
    assert {error.exit_code for error in wrong} == {EXIT_USAGE}
    assert {error.exit_code for error in (FashionError, LabelsError)} == {EXIT_FAILED}

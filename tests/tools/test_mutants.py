"""`make mutants`, on a product of two lines: what survives is listed, what is known is not tried again."""

from __future__ import annotations

import json
import subprocess
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import coverage
import pytest

from tools.mutants.__main__ import main
from tools.mutants.mutant import Mutant, mutants_of
from tools.mutants.plugin import CHILD
from tools.mutants.project import Project
from tools.mutants.recording import Run, combined
from tools.mutants.selection import Selection

SOURCE = "LIMIT = 10\n\n\ndef is_allowed(size: int) -> bool:\n    return size <= LIMIT\n"
# 11 is left out: a limit of 11 passes.
TESTS = "from toy.sizes import is_allowed\n\n\ndef test_limit():\n    assert is_allowed(10) and not is_allowed(12)\n"
# The first test, which coverage sees make what both share, notices nothing.
SHARED_TESTS = """\
import pytest

from toy.sizes import LIMIT, is_allowed

FIRST_TOO_MUCH = LIMIT + 1

@pytest.fixture(scope="module")
def allowed():
    return [size for size in range(20) if is_allowed(size)]


def test_some(allowed):
    assert allowed


def test_all(allowed):
    assert allowed == list(range(11)) and FIRST_TOO_MUCH == 11
"""
EQUIVALENT = {"file": "toy/sizes.py", "line": "LIMIT = 10", "mutant": "LIMIT = 11", "reason": "nobody has 11"}


@pytest.fixture
def toy(tmp_path: Path) -> Project:
    """A product with one limit, and a test of it that leaves a gap."""
    init = ["git", "init", "--quiet", str(tmp_path)]
    subprocess.run(init, check=True)
    (tmp_path / ".gitignore").write_text("/build/\n__pycache__/\n")
    (tmp_path / "toy").mkdir()
    (tmp_path / "toy/__init__.py").touch()
    (tmp_path / "toy/sizes.py").write_text(SOURCE)
    (tmp_path / "tests").mkdir()
    (tmp_path / "tests/test_sizes.py").write_text(TESTS)
    return Project(tmp_path, packages=("toy",), unmutated=(), unasked=())


def test_a_survivor_is_listed_and_what_is_known_is_not_tried_again(
    toy: Project, capsys: pytest.CaptureFixture[str]
) -> None:
    """Then the gap in the test is closed, and only the survivor is tried again."""
    assert main(["--seed", "7", "--fail-under", "90"], toy) == 1
    first = capsys.readouterr().out
    assert "4 mutants, --seed 7" in first
    assert first.count("killed in") == 3
    assert "-LIMIT = 10\n+LIMIT = 11\n" in first
    assert "3 of 4 killed (75.0 %), 1 survived; 0 more are equivalent" in first
    assert (toy.root / "toy/sizes.py").read_text() == SOURCE

    assert main(["--seed", "7"], toy) == 0
    second = capsys.readouterr().out
    assert " in " not in second
    assert "3 of 4 killed" in second

    (toy.root / "tests/test_sizes.py").write_text(TESTS.replace("12", "11"))
    assert main(["--seed", "7"], toy) == 0
    third = capsys.readouterr().out
    assert third.count("killed in") == 1
    assert "4 of 4 killed (100.0 %), 0 survived" in third


def test_all_that_share_a_fixture_are_asked(toy: Project, capsys: pytest.CaptureFixture[str]) -> None:
    """And all whose file takes a constant when it is imported."""
    (toy.root / "tests/test_sizes.py").write_text(SHARED_TESTS)
    main(["--seed", "7", "--jobs", "1"], toy)
    assert "4 of 4 killed (100.0 %), 0 survived" in capsys.readouterr().out


def test_what_is_near_is_asked_however_much_else_there_is(toy: Project) -> None:
    """The tests beside a module, even those that start processes."""
    runs = {f"tests/test_far.py::test_{number}": Run(10, {"toy/sizes.py": [5]}) for number in range(20)}
    runs["tests/test_sizes.py::test_limit"] = Run(30, {f"{CHILD}toy/sizes.py": [5]})
    mutant = next(mutant for mutant in mutants_of("toy/sizes.py", SOURCE) if mutant.line == 5)
    recording: Any = SimpleNamespace(runs=runs)
    asked = [tests for tests, _ in Selection(toy, recording).batches(mutant)]
    assert [len(tests) for tests in asked[:2]] == [1, 1]
    assert asked[2][0] == "tests/test_sizes.py::test_limit"


def test_an_equivalent_mutant_is_counted_apart(toy: Project, capsys: pytest.CaptureFixture[str]) -> None:
    """It is neither tried nor a survivor."""
    toy.equivalents.write_text(json.dumps([EQUIVALENT]))
    main(["--seed", "7", "--fail-under", "90"], toy)
    assert "3 of 3 killed (100.0 %), 0 survived; 1 more are equivalent" in capsys.readouterr().out


def test_a_sample_is_the_same_for_the_same_seed(toy: Project, capsys: pytest.CaptureFixture[str]) -> None:
    """It is listed without running anything."""
    listings = []
    for _ in range(2):
        main(["--seed", "3", "--sample", "2", "--list"], toy)
        listings.append(capsys.readouterr().out)
    assert listings[0] == listings[1]
    assert listings[0].count("+++") == 2
    assert not toy.build.exists()


def test_half_a_file_of_coverage_is_left_out(tmp_path: Path) -> None:
    """A process that was killed while it wrote leaves one; what the others ran is known all the same."""
    data = coverage.CoverageData(str(tmp_path / "data"), suffix="whole")
    data.set_context("tests/test_sizes.py::test_limit")
    data.add_lines({str(tmp_path / "toy/sizes.py"): [1, 5]})
    data.write()
    whole = (tmp_path / "data.whole").read_bytes()
    (tmp_path / "data.half").write_bytes(whole[: len(whole) // 2])
    assert combined(tmp_path / "data", tmp_path) == {"tests/test_sizes.py::test_limit": {"toy/sizes.py": [1, 5]}}


def test_a_change_that_cannot_be_made_is_no_mutant() -> None:
    """Of several exceptions, one of another module."""
    source = "try:\n    f()\nexcept (module.Error, ValueError):\n    pass\n"
    codes = [mutant.code(source) for mutant in mutants_of("toy.py", source) if mutant.operator == "ExceptionReplacer"]
    assert None in codes


@pytest.mark.parametrize(
    ("source", "mutated"),
    [
        ("async def f():\n    await close()\n", ["    pass"]),
        ("self.open = True\n", ["pass", "self.open = False"]),
        ("del names[0]\n", ["pass", "del names[ 1]", "del names[ -1]"]),
        ("raise error\n", ["pass"]),
        ("f(x, y=z)\n", ["pass", "f(x, **{})"]),
        ("@cached(size=z)\ndef f(): ...\n", ["def f(): ...", "@cached(**{})"]),
        ("z = x in y\n", ["z = x not in y"]),
        ("z = x not in y\n", ["z = x in y"]),
        ("z = x < y\n", ["z = x <= y", "z = x >= y"]),
        # Neither annotations nor texts for people, nor what is no arithmetic.
        ("x: int | None = y\n", []),
        ("def f(x: int | str, *y, **z) -> A | B: ...\n", []),
        ("if TYPE_CHECKING:\n    limit = 3\n", []),
        ("z = zip(x, strict=True)\n", []),
    ],
)  # fmt: skip
def test_what_is_mutated(source: str, mutated: list[str]) -> None:
    """Each line that takes the place of one, in any order."""
    assert sorted(_changed(mutant, source) for mutant in mutants_of("toy.py", source)) == sorted(mutated)


def _changed(mutant: Mutant, source: str) -> str:
    lines = mutant.diff(source).splitlines()[2:]
    return next(
        (line[1:] for line in lines if line.startswith("+")), next((line[1:] for line in lines if line[0] == " "), "")
    )

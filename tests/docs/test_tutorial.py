"""docs/tutorial.md: every block runs, in order, and prints the output below it."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.support.pages import Block, Terminal, blocks, run_python
from training.data.dataset import Dataset

TUTORIAL = Path(__file__).parents[2] / "docs" / "tutorial.md"
_PICTURE = re.compile(r"^!\[.+\]\((\w+\.svg)\)$", re.MULTILINE)


def texts(picture: Path) -> list[str]:
    """What is written in an SVG of Matplotlib's, which draws the letters and leaves their text in comments."""
    return re.findall(r"<!-- (.+) -->", picture.read_text())


@pytest.fixture
def terminal(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Terminal]:
    """A terminal in an empty directory."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("COLUMNS", "80")  # Keras's tables are as wide as the terminal
    instance = Terminal(tmp_path)
    yield instance
    instance.close()


@pytest.mark.timeout(900)  # it trains three models and serves one, on a machine that others may use
def test_every_block_runs_and_prints_the_output_below_it(
    real_data: Dataset, terminal: Terminal, tmp_path: Path
) -> None:
    """From top to bottom, in one Python and one directory; the page's pictures are those that its blocks draw."""
    namespace: dict[str, Any] = {"__name__": "tutorial"}
    for block in blocks(TUTORIAL):
        if block.language == "python":
            run_python(block, namespace)
        else:
            assert block.language == "console", f"line {block.line}: {block.language} is not run"
            terminal.run(block)
    pictures = _PICTURE.findall(TUTORIAL.read_text())
    assert pictures
    for picture in pictures:
        assert texts(tmp_path / picture) == texts(TUTORIAL.with_name(picture)) != []


def test_a_wrong_output_is_noticed() -> None:
    """The comparison can fail."""
    with pytest.raises(AssertionError, match=r"line 3:\n\s*expected\n\s*2\n"):
        run_python(Block("tutorial.md", 3, "python", "print(1 + 2)", "2\n"), {})

"""docs/your-model.md: three models that are none of ours, from training to figures, on LiteRT and in a container."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from tests.support.containers import BuiltImage
from tests.support.pages import Terminal, blocks, run_python

PAGE = Path(__file__).parents[2] / "docs" / "your-model.md"

# Three models are trained, exported, served and measured, on a machine that others may use.
pytestmark = pytest.mark.timeout(900)


@pytest.fixture(autouse=True)
def _directory(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The page's files are in a directory of their own."""
    monkeypatch.chdir(tmp_path)


def walk(directory: Path, backend: str = "") -> None:
    """Runs the page from top to bottom, in one Python and one directory. backend: as in `Terminal`."""
    terminal = Terminal(directory, backend)
    namespace: dict[str, Any] = {"__name__": "your_model"}
    try:
        for block in blocks(PAGE):
            if block.language == "python":
                run_python(block, namespace)
            else:
                assert block.language == "console", f"line {block.line}: {block.language} is not run"
                terminal.run(block)
    finally:
        terminal.close()


def test_every_block_runs_and_prints_the_output_below_it(tmp_path: Path) -> None:
    """As it stands: with the light server."""
    walk(tmp_path)


def test_the_same_with_every_server_in_a_container(engine: str, light_image: BuiltImage, tmp_path: Path) -> None:
    """The same versions, the same answers."""
    walk(tmp_path, f"--backend container --engine {engine} --image {light_image.name}")

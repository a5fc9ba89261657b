"""What README and the pages under docs name is there."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from client.cli import fashion

ROOT = Path(__file__).parents[2]
PAGES = [ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md"))]
README = PAGES[0].read_text()
EACH_PAGE = pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)


@pytest.mark.parametrize("target", sorted(set(re.findall(r"`make ([a-z-]+)|\$ make ([a-z-]+) ?([a-z-]*)", README))))
def test_every_make_target_is_in_the_makefile(target: tuple[str, ...]) -> None:
    """Whether it is named in the text or in a code block."""
    makefile = (ROOT / "Makefile").read_text()
    for name in filter(None, target):
        assert re.search(rf"^{name}:.*## ", makefile, re.MULTILINE), name


@EACH_PAGE
def test_every_command_and_option_is_in_the_command_line(page: Path) -> None:
    """`fashion X --option` exists as it is written."""
    context = fashion.make_context("fashion", [], resilient_parsing=True)
    known_commands = fashion.list_commands(context)
    for name, rest in re.findall(r"\bfashion ([a-z]+)\b([^`\n|]*)", page.read_text()):
        if name not in known_commands:
            assert not rest.strip().startswith("-"), name
            continue
        command = fashion.get_command(context, name)
        assert command is not None
        known = {option for parameter in command.params for option in parameter.opts}
        assert set(re.findall(r"(?<!\S)--[a-z-]+", rest)) <= known, (name, rest)


def test_readme_names_every_command() -> None:
    """By its name, in code."""
    context = fashion.make_context("fashion", [], resilient_parsing=True)
    text = re.sub(r"`fashion ", "`", README)
    for name in fashion.list_commands(context):
        assert re.search(rf"`{name}[ `]", text), name


@EACH_PAGE
def test_every_linked_file_is_there(page: Path) -> None:
    """Pictures and pages."""
    for target in re.findall(r"\]\((?!https?:)([^)#]+)", page.read_text()):
        assert (page.parent / target).is_file(), target

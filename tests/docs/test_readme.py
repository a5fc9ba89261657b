"""README, the other pages and docs name only targets, commands, options and files that exist."""

from __future__ import annotations

import dataclasses
import pkgutil
import re
from pathlib import Path

import pytest

from client.cli import fashion
from serving.embedded.flags import Flags

ROOT = Path(__file__).parents[2]
PAGES = [*sorted(ROOT.glob("*.md")), *sorted((ROOT / "docs").glob("*.md"))]
README = (ROOT / "README.md").read_text()
SERVER_FLAGS = {field.name for field in dataclasses.fields(Flags)}
EACH_PAGE = pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)


@EACH_PAGE
def test_every_make_target_is_in_the_makefile(page: Path) -> None:
    """Named in the text or in a code block."""
    makefile = (ROOT / "Makefile").read_text()
    named = re.findall(r"`make ([a-z-]+)|\$ make ([a-z-]+) ?([a-z-]*)", page.read_text())
    for name in sorted({name for names in named for name in names if name}):
        assert re.search(rf"^{name}:.*## ", makefile, re.MULTILINE), name


@EACH_PAGE
def test_every_command_and_option_is_in_the_command_line(page: Path) -> None:
    """`fashion X --option` exists as it is written, and so does the server's flag in `fashion serve -- --flag`."""
    context = fashion.make_context("fashion", [], resilient_parsing=True)
    known_commands = fashion.list_commands(context)
    for name, rest in re.findall(r"\bfashion ([a-z]+)\b([^`\n|]*)", page.read_text()):
        if name not in known_commands:
            assert not rest.strip().startswith("-"), name
            continue
        command = fashion.get_command(context, name)
        assert command is not None
        known = {option for parameter in command.params for option in parameter.opts}
        own, _, server = rest.partition(" -- ")
        assert set(re.findall(r"(?<!\S)--[a-z-]+", own)) <= known, (name, own)
        assert set(re.findall(r"(?<!\S)--(\w+)", server)) <= SERVER_FLAGS, (name, server)


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


@EACH_PAGE
def test_every_file_and_module_of_the_project_is_there(page: Path) -> None:
    """`serving/config/models.config`, `training.fit.models.build`."""
    folders = "benchmarks|client|docker|docs|fashion_common|serving|tests|tools|training"
    for name in re.findall(rf"`((?:{folders})[./][\w./]*\w)", page.read_text()):
        if "/" in name:
            assert (ROOT / name).exists(), name
        else:
            assert pkgutil.resolve_name(name), name

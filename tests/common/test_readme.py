"""What README names is there."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from client.cli import fashion

ROOT = Path(__file__).parents[2]
README = (ROOT / "README.md").read_text()


@pytest.mark.parametrize("target", sorted(set(re.findall(r"`make ([a-z-]+)|\$ make ([a-z-]+) ?([a-z-]*)", README))))
def test_every_make_target_is_in_the_makefile(target: tuple[str, ...]) -> None:
    """Whether it is named in the text or in a code block."""
    makefile = (ROOT / "Makefile").read_text()
    for name in filter(None, target):
        assert re.search(rf"^{name}:.*## ", makefile, re.MULTILINE), name


def test_every_command_and_option_is_in_the_command_line() -> None:
    """`fashion X --option` in README exists as it is written."""
    named = re.findall(r"fashion (train|export|serve|predict|status|[a-z]+)\b([^`\n|]*)", README)
    assert {"train", "export", "serve", "predict", "status"} <= {name for name, _ in named}
    for name, rest in named:
        context = fashion.make_context("fashion", [], resilient_parsing=True)
        command = fashion.get_command(context, name)
        if command is None:
            assert not rest.strip().startswith("-"), name
            continue
        known = {option for parameter in command.params for option in parameter.opts}
        assert set(re.findall(r"(?<!\S)--[a-z-]+", rest)) <= known, (name, rest)


def test_every_linked_file_is_there() -> None:
    """Pictures and pages."""
    for target in re.findall(r"\]\((?!https?:)([^)#]+)", README):
        assert (ROOT / target).is_file(), target

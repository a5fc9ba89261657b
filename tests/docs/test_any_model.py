"""What docs/operations.md and docs/client.md show of calls of any model is what a server answers."""

from __future__ import annotations

import os
import re
import subprocess
from pathlib import Path

import pytest

from tests.support.console import FASHION

DOCS = Path(__file__).parents[2] / "docs"


def _section(page: str, heading: str) -> str:
    return (DOCS / page).read_text().split(f"\n## {heading}\n")[1].split("\n## ")[0]


def test_the_console_of_fashion_call(any_models: dict[str, str]) -> None:
    """Each command prints what the page has under it."""
    [block] = re.findall(r"```console\n(.*?)```", _section("operations.md", "Calling any model"), re.DOTALL)
    exchanges = [text.partition("\n") for text in block.removeprefix("$ ").split("\n$ ")]
    assert len(exchanges) == 4
    path = f"{Path(FASHION).parent}:{os.environ['PATH']}"
    environment = {**os.environ, "PATH": path, "FASHION_SERVER": any_models["grpc"]}
    for command, _, printed in exchanges:
        done = subprocess.run(
            ["/bin/sh", "-c", f"{command} 2>&1"],
            env=environment,
            capture_output=True,
            text=True,
            check=False,
            timeout=60,
        )
        assert done.stdout.rstrip("\n") == printed.rstrip("\n"), command


def test_the_example_of_infer(any_models: dict[str, str], capsys: pytest.CaptureFixture[str]) -> None:
    """As it stands, but for the server's address."""
    code = re.findall(r"```python\n(.*?)```", _section("client.md", "Any model"), re.DOTALL)[0]
    assert "grpc://127.0.0.1:8500" in code
    exec(code.replace("grpc://127.0.0.1:8500", any_models["grpc"]), {})  # noqa: S102 - the subject
    assert capsys.readouterr().out == "[3.5  4.25]\n"

"""docs/tutorial.md: every block runs, in order, and prints the output below it."""

from __future__ import annotations

import contextlib
import doctest
import io
import linecache
import os
import re
import signal
import socket
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

import pytest

from training.data.dataset import Dataset

TUTORIAL = Path(__file__).parents[2] / "docs" / "tutorial.md"
FASHION = Path(sys.executable).with_name("fashion")
_PICTURE = re.compile(r"^!\[.+\]\((\w+\.svg)\)$", re.MULTILINE)
_FENCE = re.compile(r"^```(\w+)\n(.*?)^```$", re.MULTILINE | re.DOTALL)
_ELLIPSIS = doctest.ELLIPSIS | doctest.NORMALIZE_WHITESPACE


class Block(NamedTuple):
    """One fenced block; `expected` is the text block right behind a Python one."""

    line: int
    language: str
    content: str
    expected: str


def blocks() -> list[Block]:
    """The page's blocks in order, outputs joined to what prints them."""
    page = TUTORIAL.read_text()
    result: list[Block] = []
    for match in _FENCE.finditer(page):
        language, content = match.groups()
        line = page[: match.start()].count("\n") + 1
        if language == "text":
            assert result, f"line {line}: an output without a program"
            assert result[-1].language == "python", f"line {line}: an output without a program"
            assert not result[-1].expected, f"line {line}: a second output"
            result[-1] = result[-1]._replace(expected=content)
        else:
            result.append(Block(line, language, content, ""))
    return result


def assert_printed(block: Block, expected: str, output: str) -> None:
    """Equal but for `...`."""
    same = doctest.OutputChecker().check_output(expected, output, _ELLIPSIS)
    assert same, f"docs/tutorial.md, line {block.line}:\nexpected\n{expected}\nprinted\n{output}"


def run_python(block: Block, namespace: dict[str, Any]) -> None:
    """Runs the block in the page's namespace."""
    output = io.StringIO()
    name = f"<tutorial.md:{block.line}>"
    lines = block.content.splitlines(keepends=True)
    linecache.cache[name] = (len(block.content), None, lines, name)  # tf.function reads the source, as in a notebook
    with contextlib.redirect_stdout(output):
        exec(compile(block.content, name, "exec"), namespace)  # noqa: S102 - our own page
    assert_printed(block, block.expected, output.getvalue())


def texts(picture: Path) -> list[str]:
    """What is written in an SVG of Matplotlib's, which draws the letters and leaves their text in comments."""
    return re.findall(r"<!-- (.+) -->", picture.read_text())


class Terminal:
    """Runs console blocks; a command that ends in `&` keeps running until the terminal is closed."""

    def __init__(self, directory: Path) -> None:
        grpc, rest = (free_port() for _ in range(2))
        self._directory = directory
        self._environment = {
            **os.environ,
            "PATH": f"{FASHION.parent}{os.pathsep}{os.environ['PATH']}",
            "FASHION_SERVE_PORT": str(grpc),
            "FASHION_SERVE_REST_PORT": str(rest),
            "FASHION_SERVER": f"grpc://127.0.0.1:{grpc}",
        }
        self._background: list[subprocess.Popen[str]] = []

    def run(self, block: Block) -> None:
        """Each `$ command` and the lines that it prints."""
        for command, expected in re.findall(r"^\$ (.*)\n((?:(?!\$ ).*\n)*)", block.content, re.MULTILINE):
            output = self._begin(command) if command.endswith(" &") else self._complete(command)
            assert_printed(block, expected, output)

    def _complete(self, command: str) -> str:
        process = subprocess.run(
            command.split(),
            cwd=self._directory,
            env=self._environment,
            capture_output=True,
            text=True,
            timeout=120,
            check=False,
        )
        assert process.returncode == 0, (command, process.stdout, process.stderr)
        return process.stdout

    def _begin(self, command: str) -> str:
        process = subprocess.Popen(
            command.removesuffix(" &").split(),
            cwd=self._directory,
            env=self._environment,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )
        self._background.append(process)
        assert process.stdout is not None
        output = ""
        for line in process.stdout:
            output += line
            if "Ctrl-C" in line:
                return output
        pytest.fail(f"{command} ended: {output}")

    def close(self) -> None:
        """Stops the commands in the background."""
        for process in self._background:
            process.send_signal(signal.SIGTERM)
            process.communicate(timeout=60)


def free_port() -> int:
    """A port that nothing listens on now."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


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
    for block in blocks():
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
        run_python(Block(3, "python", "print(1 + 2)", "2\n"), {})

"""Pages of the documentation that are run as they stand: Python, and commands of a terminal, with what they print."""

from __future__ import annotations

import contextlib
import doctest
import io
import linecache
import os
import re
import shlex
import signal
import subprocess
from pathlib import Path
from typing import Any, NamedTuple

import pytest

from tests.support.console import FASHION
from tests.support.live import free_port

_FENCE = re.compile(r"^```(\w+)\n(.*?)^```$", re.MULTILINE | re.DOTALL)
_ELLIPSIS = doctest.ELLIPSIS | doctest.NORMALIZE_WHITESPACE


class Block(NamedTuple):
    """One fenced block; `expected` is the text block right behind a Python one."""

    page: str
    line: int
    language: str
    content: str
    expected: str


def blocks(path: Path) -> list[Block]:
    """The page's blocks in order, outputs joined to what prints them."""
    page = path.read_text()
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
            result.append(Block(path.name, line, language, content, ""))
    return result


def assert_printed(block: Block, expected: str, output: str) -> None:
    """Equal but for `...`."""
    same = doctest.OutputChecker().check_output(expected, output, _ELLIPSIS)
    assert same, f"docs/{block.page}, line {block.line}:\nexpected\n{expected}\nprinted\n{output}"


def run_python(block: Block, namespace: dict[str, Any]) -> None:
    """Runs the block in the page's namespace."""
    output = io.StringIO()
    name = f"<{block.page}:{block.line}>"
    lines = block.content.splitlines(keepends=True)
    linecache.cache[name] = (len(block.content), None, lines, name)  # tf.function reads the source, as in a notebook
    with contextlib.redirect_stdout(output):
        exec(compile(block.content, name, "exec"), namespace)  # noqa: S102 - our own page
    assert_printed(block, block.expected, output.getvalue())


class Terminal:
    """Runs console blocks; a command that ends in `&` keeps running until `kill %1`, or until the terminal is closed.

    backend: the arguments of `fashion serve` in place of the page's, from --backend on; what it prints is then its own.
    """

    def __init__(self, directory: Path, backend: str = "") -> None:
        grpc, rest = (free_port() for _ in range(2))
        self._directory = directory
        self._backend = backend
        self._environment = {
            **os.environ,
            "PATH": f"{Path(FASHION).parent}{os.pathsep}{os.environ['PATH']}",
            "FASHION_SERVE_PORT": str(grpc),
            "FASHION_SERVE_REST_PORT": str(rest),
            "FASHION_SERVER": f"grpc://127.0.0.1:{grpc}",
        }
        self._background: list[subprocess.Popen[str]] = []

    def run(self, block: Block) -> None:
        """Each `$ command` and the lines that it prints."""
        for command, expected in re.findall(r"^\$ (.*)\n((?:(?!\$ ).*\n)*)", block.content, re.MULTILINE):
            if command == "kill %1":
                self.close()
            elif not command.endswith(" &"):
                assert_printed(block, expected, self._complete(command))
            elif self._backend:
                self._begin(re.sub("--backend .*", f"{self._backend} &", command))
            else:
                assert_printed(block, expected, self._begin(command))

    def _complete(self, command: str) -> str:
        process = subprocess.run(
            shlex.split(command),
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
            shlex.split(command.removesuffix(" &")),
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
        while self._background:
            process = self._background.pop()
            process.send_signal(signal.SIGTERM)
            process.communicate(timeout=60)

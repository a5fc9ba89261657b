"""Logs that never hold anybody up: full disks, pipes that nobody reads, closed descriptors."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from serving.apis.status import Code
from serving.embedded.access.tokens import FOR_ANYONE
from serving.embedded.observe.access_log import AccessLog
from serving.embedded.observe.calls import Call, Interceptor, Operation
from serving.embedded.observe.log_writer import LogWriter
from tests.support.live import wait_until

LINE = "x" * 99 + "\n"


@pytest.fixture
def pipe() -> Iterator[tuple[int, int]]:
    """The two ends of a pipe."""
    ends = os.pipe()
    yield ends
    for end in ends:
        os.close(end)


def notice(count: int) -> str:
    """A line that stands for so many."""
    return f"{count} dropped\n"


def lines_of(path: Path) -> list[str]:
    """The lines of a file."""
    return path.read_text().splitlines()


def test_lines_arrive_in_their_order(tmp_path: Path) -> None:
    """All of them, at the latest when the writer is closed."""
    path = tmp_path / "log"
    with path.open("wb") as file:
        writer = LogWriter(file.fileno(), notice)
        for number in range(1000):
            print(number, file=writer)
        writer.close()

    assert lines_of(path) == list(map(str, range(1000)))


def test_a_pipe_that_nobody_reads(pipe: tuple[int, int]) -> None:
    """Writing to it takes no time and bounded memory; what was dropped is told in its place once somebody reads."""
    reading, writing = pipe
    writer = LogWriter(writing, notice, max_bytes=10_000)

    begin = time.monotonic()
    for _ in range(5000):
        writer.write(LINE)
    assert time.monotonic() - begin < 1
    assert writer._size <= 10_000
    text = b""
    while b"dropped" not in text:
        text += os.read(reading, 2**16)
    writer.write("after\n")
    while not text.endswith(b"after\n"):
        text += os.read(reading, 2**16)
    writer.close()

    *lines, count, after = text.decode().splitlines(keepends=True)
    assert set(lines) == {LINE}
    assert count == notice(5000 - len(lines))
    assert after == "after\n"


def test_closing_is_bounded(pipe: tuple[int, int]) -> None:
    """Nobody reads the last lines: the end comes all the same."""
    writer = LogWriter(pipe[1], notice)
    for _ in range(2000):
        writer.write(LINE)

    begin = time.monotonic()
    writer.close()

    assert time.monotonic() - begin < 2


def test_a_full_disk(tmp_path: Path) -> None:
    """Nothing fails; once there is room, a line says how many are missing, even if no other follows."""
    path = tmp_path / "log"
    with Path("/dev/full").open("wb", buffering=0) as full, path.open("wb") as file:
        writer = LogWriter(full.fileno(), notice)
        writer.write(LINE * 3)
        wait_until(lambda: writer._dropped == 3)
        os.dup2(file.fileno(), writer.fileno())
        wait_until(lambda: lines_of(path) == ["3 dropped"])
        writer.close()


def test_a_reader_that_has_gone(tmp_path: Path) -> None:
    """Nothing fails, and whoever closes the descriptor does not make the log write to another file."""
    reading, writing = os.pipe()
    writer = LogWriter(writing, notice)
    os.close(reading)
    os.close(writing)
    with (tmp_path / "other").open("wb"), (tmp_path / "another").open("wb"):
        assert writer.write(LINE) == len(LINE)
        wait_until(lambda: writer._dropped == 1)
        writer.close()

    assert lines_of(tmp_path / "other") == lines_of(tmp_path / "another") == []


def test_a_descriptor_that_does_not_block(pipe: tuple[int, int]) -> None:
    """Whoever shares it may have made it so: nothing is lost while there is room in memory."""
    reading, writing = pipe
    os.set_blocking(writing, False)
    writer = LogWriter(writing, notice)
    for _ in range(2000):
        writer.write(LINE)
    text = b""
    while len(text) < 2000 * len(LINE):
        text += os.read(reading, 2**16)
    writer.close()

    assert text == LINE.encode() * 2000


@pytest.mark.parametrize("character", ["x", "\0"])
def test_what_clients_choose_is_cut(tmp_path: Path, character: str) -> None:
    """A path of any length, and a model's name, leave a line that fits a pipe in one piece, and is JSON."""
    path = tmp_path / "log"
    with path.open("wb") as file:
        log = AccessLog(file.fileno())
        call = Call(Interceptor(list), Operation("REST", "X", FOR_ANYONE), character * 2**16, lambda: "127.0.0.1:1", "")
        call.model, call.code = character * 2**16, Code.NOT_FOUND
        log.write(call)
        log.close()

    (line,) = lines_of(path)
    assert len(line) <= 4096
    assert json.loads(line)["path"] in (character * 1024, character * 128)


def test_a_process_without_standard_streams(tmp_path: Path) -> None:
    """Its first file does not become its stdout or stderr."""
    path = tmp_path / "file"
    program = (
        "import sys\n"
        "from serving.embedded.observe.log_writer import open_standard_streams\n"
        "open_standard_streams()\n"
        f"file = open({str(path)!r}, 'w')\n"
        "print('lost'); print('lost', file=sys.stderr)\n"
        "file.write(str(file.fileno() > 2))"
    )

    ended = subprocess.run(["/bin/sh", "-c", 'exec "$0" -c "$1" <&- >&- 2>&-', sys.executable, program], check=False)

    assert ended.returncode == 0
    assert path.read_text() == "True"

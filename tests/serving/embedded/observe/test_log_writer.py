"""Logs that never hold anybody up: full disks, pipes that nobody reads, closed descriptors."""

from __future__ import annotations

import contextlib
import datetime as dt
import json
import os
import re
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
from serving.embedded.observe.log_writer import LogWriter, stderr_never_blocks
from tests.support.live import wait_until
from tests.support.records import TRACEPARENT

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


@contextlib.contextmanager
def held_up(max_bytes: int = 2**20) -> Iterator[tuple[LogWriter, int]]:
    """A writer to a pipe that is full, whose thread waits with its first line; and the end to read from.

    Each read gives what was written at once.
    """
    reading, writing = os.pipe2(os.O_DIRECT | os.O_NONBLOCK)
    with contextlib.suppress(BlockingIOError):
        while True:
            os.write(writing, bytes(4096))
    os.set_blocking(writing, True)
    writer = LogWriter(writing, notice, max_bytes)
    writer.write("first\n")
    wait_until(lambda: writer._size == 0)
    yield writer, reading
    writer.close()
    os.close(reading)
    os.close(writing)


def written_at_once(reading: int, size: int) -> list[str]:
    """The pieces of so many bytes that come behind the first line."""
    pieces: list[str] = []

    def are_enough() -> bool:
        with contextlib.suppress(BlockingIOError):
            while piece := os.read(reading, 2**16).decode().lstrip("\0"):
                pieces.append(piece)
        return sum(map(len, pieces)) >= size + len("first\n")

    wait_until(are_enough)
    assert pieces.pop(0) == "first\n"
    return pieces


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


def test_it_is_a_stream_of_text_over_a_descriptor_of_its_own(tmp_path: Path) -> None:
    """What UTF-8 does not have is escaped; closed, it has no descriptor, and what comes then is dropped."""
    path = tmp_path / "log"
    with path.open("wb") as file:
        writer = LogWriter(file.fileno(), notice)
        own = writer.fileno()
        assert own != file.fileno()
        assert writer.writable()
        assert writer.write("\u00e9\ud800\n") == 3
        writer.flush()
        writer.close()
        with pytest.raises(OSError, match="Bad file descriptor"):
            os.fstat(own)
        writer.close()
        assert writer.write("late\n") == 5
        assert os.fstat(file.fileno())
    assert path.read_text() == "\u00e9\\ud800\n"


def test_what_waits_may_be_as_large_as_is_said() -> None:
    """To the byte; what does not fit is counted by its lines, in its place."""
    with held_up(max_bytes=10) as (writer, reading):
        writer.write("123456789\n")
        writer.write("a\nb\n")
        writer.write("c\n")
        writer.write("")
        assert writer._size == 10
        assert "".join(written_at_once(reading, 20)) == "123456789\n3 dropped\n"
        wait_until(lambda: writer._size == 0 and not writer._dropped)
        writer.write("after\n")
        assert os_text(reading, 6) == "after\n"


def os_text(reading: int, size: int) -> str:
    """So many bytes of a pipe, as soon as they are there."""
    text = ""

    def is_whole() -> bool:
        nonlocal text
        with contextlib.suppress(BlockingIOError):
            text += os.read(reading, 2**16).decode()
        return len(text) >= size

    wait_until(is_whole)
    return text


def test_a_mebibyte_may_wait_unless_it_is_said_otherwise(tmp_path: Path) -> None:
    """One byte more is dropped."""
    path = tmp_path / "log"
    with path.open("wb") as file:
        writer = LogWriter(file.fileno(), notice)
        writer.write("x" * 2**20)
        wait_until(lambda: path.stat().st_size == 2**20)
        writer.write("x" * 2**20 + "\n")
        wait_until(lambda: path.stat().st_size > 2**20)
        writer.close()
    assert path.read_text() == "x" * 2**20 + "1 dropped\n"


def test_lines_are_written_together_as_long_as_nothing_can_come_between() -> None:
    """4,096 bytes, in whole lines; a longer one goes alone."""
    lines = [f"{number}" * 1023 + "\n" for number in range(8)]
    with held_up() as (writer, reading):
        for line in (*lines, "short\n", "y" * 4096 + "\n", "end\n"):
            writer.write(line)
        pieces = written_at_once(reading, 8 * 1024 + 6 + 4097 + 4)
    assert pieces[:3] == ["".join(lines[:4]), "".join(lines[4:]), "short\n"]
    assert "".join(pieces[3:]) == "y" * 4096 + "\nend\n"


def test_a_line_that_was_cut_off_is_ended_by_the_next(tmp_path: Path) -> None:
    """Its reader went away in its midst: it counts as dropped, and what follows begins a line of its own."""
    reading, writing = os.pipe()
    path = tmp_path / "log"
    with path.open("wb") as file:
        writer = LogWriter(writing, notice)
        writer.write("x" * 200_000 + "\n")
        assert os.read(reading, 1) == b"x"
        os.close(reading)
        wait_until(lambda: writer._dropped == 1)
        os.dup2(file.fileno(), writer.fileno())
        wait_until(lambda: path.read_text() == "\n1 dropped\n")
        writer.write("after\n")
        writer.close()
    os.close(writing)
    assert path.read_text() == "\n1 dropped\nafter\n"


def test_what_python_says_on_stderr_holds_nobody_up(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """It goes through a writer for so long, and what is too much is told; then stderr is what it was."""
    path = tmp_path / "stderr"
    with path.open("w") as stream:
        monkeypatch.setattr(sys, "stderr", stream)
        with stderr_never_blocks():
            writer = sys.stderr
            assert isinstance(writer, LogWriter)
            print("one", file=sys.stderr)
            wait_until(lambda: path.read_text() == "one\n")
            sys.stderr.write("x" * 2**20 + "\n")
        assert sys.stderr is stream
        assert writer.fileno() == -1
    assert path.read_text() == (
        "one\n1 lines of this log were dropped: nobody read them, or there was no room for them\n"
    )


def test_a_pipe_that_nobody_reads(pipe: tuple[int, int]) -> None:
    """Writing to it takes no time and bounded memory; what was dropped is told in its place once somebody reads."""
    reading, writing = pipe
    writer = LogWriter(writing, notice, max_bytes=10_000)

    begin = time.monotonic()
    for _ in range(5000):
        writer.write(LINE)
    assert time.monotonic() - begin < 1
    assert writer._size <= 10_000
    text, dropped = b"", [0]
    # A line that comes before the writer has got rid of these would be dropped too.
    while text.count(LINE.encode()) + sum(dropped) < 5000:
        text += os.read(reading, 2**16)
        dropped = [int(count) for count in re.findall(rb"^(\d+) dropped$", text, re.MULTILINE)]
    writer.write("after\n")
    while not text.endswith(b"after\n"):
        text += os.read(reading, 2**16)
    writer.close()

    lines = text.decode().splitlines(keepends=True)
    assert set(lines) == {LINE, "after\n", *map(notice, dropped)}
    assert lines.count(LINE) + sum(dropped) == 5000
    assert lines[0] == LINE
    assert sum(dropped) > 4000


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


@pytest.fixture
def ended(monkeypatch: pytest.MonkeyPatch) -> Call:
    """A call that has ended after 1.2346 ms."""
    monkeypatch.setattr(time, "perf_counter", lambda: 100.0)
    call = Call(
        Interceptor(list), Operation("REST", "X", FOR_ANYONE), "/p", lambda: "127.0.0.1:1", "id",
        metadata={b"traceparent": TRACEPARENT.encode()}, caller="ann",
    )  # fmt: skip
    call.model, call.code = "m", Code.NOT_FOUND
    monkeypatch.setattr(time, "perf_counter", lambda: 100.0012346)
    return call


def logged(path: Path, call: Call) -> str:
    """The line of a call."""
    with path.open("wb") as file:
        log = AccessLog(file.fileno())
        log.write(call)
        log.close()
    return path.read_text()


def test_a_line_of_the_access_log(tmp_path: Path, ended: Call) -> None:
    """All that it has; who asked only where callers have names."""
    line = logged(tmp_path / "log", ended)
    fields = json.loads(line)
    assert line == json.dumps(fields) + "\n"
    time_of = dt.datetime.fromisoformat(fields["time"])
    assert re.fullmatch(r"[-\d]{10}T[:\d]{8}\.\d{3}\+00:00", fields.pop("time"))
    assert abs(time_of - dt.datetime.now(dt.timezone.utc)) < dt.timedelta(minutes=1)
    assert fields == {
        "request_id": "id",
        "trace_id": TRACEPARENT.split("-")[1],
        "protocol": "REST",
        "path": "/p",
        "model": "m",
        "code": "NOT_FOUND",
        "duration_ms": 1.235,
        "peer": "127.0.0.1:1",
        "caller": "ann",
    }
    ended.caller = ""
    assert "caller" not in json.loads(logged(tmp_path / "other", ended))


def test_a_line_of_the_access_log_may_be_as_long_as_fits_a_pipe(tmp_path: Path, ended: Call) -> None:
    """4,096 bytes; in one that would be longer, what clients choose is cut to 128 characters."""
    ended.path = ended.model = ""
    base = len(logged(tmp_path / "log", ended))
    escaped, plain = divmod(4096 - base - 500, 6)
    for more, lengths in ((0, (escaped, plain + 500)), (1, (128, 128))):
        ended.path, ended.model = "\0" * escaped, "x" * (plain + 500 + more)
        line = logged(tmp_path / "log", ended)
        fields = json.loads(line)
        assert (len(fields["path"]), len(fields["model"])) == lengths
        assert (len(line) == 4096) is not bool(more)
    ended.path, ended.model = "p" * 1025, "m" * 1025
    fields = json.loads(logged(tmp_path / "log", ended))
    assert (fields["path"], fields["model"]) == ("p" * 1024, "m" * 1024)


def test_lines_that_were_dropped_have_a_line_of_json(tmp_path: Path, ended: Call) -> None:
    """With their number, and when."""
    with Path("/dev/full").open("wb", buffering=0) as full, (tmp_path / "log").open("wb") as file:
        log = AccessLog(full.fileno())
        writer = log._writer
        log.write(ended)
        wait_until(lambda: writer._dropped == 1)
        os.dup2(file.fileno(), writer.fileno())
        log.close()
    (line,) = lines_of(tmp_path / "log")
    fields = json.loads(line)
    assert re.fullmatch(r"[-\d]{10}T[:\d]{8}\.\d{3}\+00:00", fields.pop("time"))
    assert fields == {"dropped": 1}

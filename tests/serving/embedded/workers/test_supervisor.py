"""The parent of worker processes, with workers that are only small programs."""

from __future__ import annotations

import fcntl
import os
import shutil
import signal
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from serving.apis.messages import ModelServerConfig
from serving.embedded.workers import supervisor
from serving.embedded.workers.configuration import Record, record_path
from serving.embedded.workers.supervisor import Supervisor, Times, Worker
from serving.errors import ServerConfigError
from tests.support.live import wait_until

# A worker that is ready at once and beats; what else it does comes after.
WORKER = """
import sys, time
sys.stderr.write("Running gRPC ModelServer at 1 ...\\n\\0ready\\n")
sys.stderr.flush()
"""
LIVES = f"{WORKER}while True: sys.stderr.write('\\0\\n'); sys.stderr.flush(); time.sleep(0.05)"
HANGS = f"{WORKER}time.sleep(600)"
DIES = "import sys; sys.exit(3)"
STUBBORN = f"import signal\nsignal.signal(signal.SIGTERM, signal.SIG_IGN)\n{LIVES}"


class Running:
    """A supervisor that runs in a thread."""

    def __init__(self, supervisor_: Supervisor) -> None:
        self.supervisor = supervisor_
        self.codes: list[int] = []
        self.thread = threading.Thread(target=lambda: self.codes.append(supervisor_.run()))
        self.thread.start()

    @property
    def pids(self) -> list[int]:
        """Of the workers."""
        return [slot.worker.process.pid for slot in self.supervisor._slots]

    @property
    def directory(self) -> Path:
        """What the workers share."""
        return self.supervisor._directory

    def is_ready(self) -> bool:
        """Whether all workers are."""
        slots = self.supervisor._slots
        return len(slots) == 2 and all(
            slot.worker.ready.is_set() and slot.worker.process.poll() is None for slot in slots
        )


@pytest.fixture
def run(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Iterator[Callable[..., Running]]:
    """What runs two workers of a kind, until the test is over."""
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    stopping = threading.Event()
    started: list[Running] = []

    def start(program: str, *, silence: float = 60.0, grace: float = 0.0) -> Running:
        monkeypatch.setattr(supervisor, "module_command", lambda _: [sys.executable, "-c", program])
        monkeypatch.setattr(supervisor, "_END_SECONDS", 1.0)
        started.append(Running(Supervisor([], 2, Record(ModelServerConfig()), Times(silence, grace), stopping)))
        return started[-1]

    yield start
    stopping.set()
    for running in started:
        running.thread.join(30)
        assert not running.thread.is_alive()


@pytest.mark.parametrize("how", [signal.SIGSTOP, None], ids=["stopped", "hanging"])
def test_a_worker_without_a_sign_of_life(
    run: Callable[..., Running], how: signal.Signals | None, caplog: pytest.LogCaptureFixture
) -> None:
    """It is killed and replaced; the other one lives on."""
    running = run(LIVES if how else HANGS, silence=1.5)
    wait_until(running.is_ready)
    first, second = running.pids
    if how:
        os.kill(first, how)
    wait_until(lambda: running.pids[0] != first and running.is_ready())

    assert "worker 0 gave no sign of life for --worker_timeout_seconds=1.5: it is killed" in caplog.text
    assert (running.pids[1] == second) == (how is not None)


def test_a_machine_that_was_suspended(run: Callable[..., Running]) -> None:
    """Time that the supervisor did not have either does not count."""
    running = run(LIVES)
    wait_until(running.is_ready)
    worker = running.supervisor._slots[0].worker
    worker._beaten.clear()

    assert worker.silence(3600.0) < 5


def test_a_worker_that_starts_has_more_time(tmp_path: Path) -> None:
    """Ten times as long without a sign of life as one that serves."""
    worker = Worker([sys.executable, "-c", "import time; time.sleep(600)"], tmp_path)
    try:
        silence = [worker.silence(0.3) for _ in range(3)]
        worker.ready.set()
        assert [*silence, worker.silence(0.3)] == pytest.approx([0.03, 0.06, 0.09, 1.2])
    finally:
        worker.kill()
        worker.process.wait()


def test_workers_that_do_not_end(run: Callable[..., Running], caplog: pytest.LogCaptureFixture) -> None:
    """After the grace they are killed, stopped ones too."""
    running = run(STUBBORN)
    wait_until(running.is_ready)
    os.kill(running.pids[0], signal.SIGSTOP)

    begin = time.monotonic()
    running.supervisor._stopping.set()
    running.thread.join(30)

    assert time.monotonic() - begin < 20
    assert running.codes == [-signal.SIGKILL]
    assert caplog.text.count("did not end in its time: it is killed") == 2


def test_deaths_in_a_row(run: Callable[..., Running], caplog: pytest.LogCaptureFixture) -> None:
    """Each is followed by a longer pause."""
    running = run(LIVES)
    wait_until(running.is_ready)
    for pause in (1, 2):
        old = running.pids[0]
        os.kill(old, signal.SIGKILL)
        wait_until(lambda old=old: running.pids[0] != old and running.is_ready())  # type: ignore[misc]
        assert f"worker 0 ended with exit code -9: it is started again in {pause} s" in caplog.text

    # Those of one that has served for a while do not count.
    worker = running.supervisor._slots[0].worker
    assert worker.served_since is not None
    worker.served_since -= 3600
    os.kill(running.pids[0], signal.SIGKILL)
    wait_until(lambda: "ended with exit code -9: it is started again\n" in caplog.text)


@pytest.mark.parametrize(("served", "text"), [(10.0, " in 1 s"), (10.1, "")])
def test_a_worker_that_has_served_for_more_than_ten_seconds_has_recovered(
    served: float, text: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """What it dies of then is another matter."""
    dead = worker(tmp_path, "")
    dead.process.wait()
    dead.served_since = 1000.0
    parent = Supervisor([], 1, Record(ModelServerConfig()), Times(0, 0), threading.Event())
    monkeypatch.setattr(supervisor, "time", SimpleNamespace(monotonic=lambda: 1000.0 + served))
    monkeypatch.setattr(parent, "_worker", lambda _: dead)
    parent._slots.append(supervisor.Slot(dead))
    parent._replace_dead()
    assert caplog.messages == [f"worker 0 ended with exit code 0: it is started again{text}"]


def test_no_worker_is_left(run: Callable[..., Running], caplog: pytest.LogCaptureFixture) -> None:
    """Then none waits for long, however often each has died before."""
    running = run(LIVES)
    wait_until(running.is_ready)
    first, second = running.supervisor._slots
    first.deaths = second.deaths = 2000
    old = running.pids
    os.kill(old[0], signal.SIGKILL)
    wait_until(lambda: "worker 0 ended with exit code -9: it is started again in 60 s" in caplog.text)

    os.kill(old[1], signal.SIGKILL)
    begin = time.monotonic()
    wait_until(lambda: not set(running.pids) & set(old) and running.is_ready())

    assert time.monotonic() - begin < 30
    assert "worker 1 ended with exit code -9: it is started again in 1 s" in caplog.text


def test_workers_that_die_at_the_start(run: Callable[..., Running]) -> None:
    """The server does not start; its code is theirs."""
    running = run(DIES)
    running.thread.join(30)
    assert running.codes == [3]


def test_a_cleaned_temporary_directory(run: Callable[..., Running], caplog: pytest.LogCaptureFixture) -> None:
    """What the workers share is made again, with the newest configuration, and they are replaced in turn."""
    running = run(LIVES)
    wait_until(running.is_ready)
    newest = Record(ModelServerConfig(), ModelServerConfig(), "file").to_bytes()
    record_path(running.directory).write_bytes(newest)
    wait_until(lambda: running.supervisor._record == newest)
    pids = running.pids

    shutil.rmtree(running.directory)
    wait_until(lambda: not set(running.pids) & set(pids) and running.is_ready())

    assert record_path(running.directory).read_bytes() == newest
    assert running.directory.stat().st_mode & 0o777 == 0o700
    assert "was cleaned: the workers are started again" in caplog.text
    assert "it is started again in" not in caplog.text


def test_no_place_for_what_they_share(run: Callable[..., Any], monkeypatch: pytest.MonkeyPatch) -> None:
    """The start ends, with the reason."""
    full = OSError(28, "No space left on device")
    monkeypatch.setattr(supervisor, "write_whole", lambda *_: (_ for _ in ()).throw(full))
    with pytest.raises(ServerConfigError, match="cannot be written to: No space left on device"):
        Supervisor([], 2, Record(ModelServerConfig()), Times(0, 0), threading.Event()).run()


class Printed:
    """What goes to stderr."""

    def __init__(self, capsys: pytest.CaptureFixture[str]) -> None:
        self._capsys = capsys
        self._text = ""

    def text(self) -> str:
        """All of it until now."""
        self._text += self._capsys.readouterr().err
        return self._text


def worker(tmp_path: Path, program: str) -> Worker:
    """One that runs a small program."""
    return Worker([sys.executable, "-c", program], tmp_path)


def test_what_a_worker_writes_is_passed_on_but_for_what_is_for_its_parent(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Signs of life, and where it listens; what is no UTF-8 is replaced."""
    lines = (
        "Running gRPC ModelServer at a ...",
        "a line of its log",
        "Exporting HTTP/REST API at:b ...",
        "Exporting metrics at c ...",
        "\0ready",
        "\0",
        "another \\xff",
    )
    program = (
        f"import os, sys\nfor line in {lines!r}: os.write(2, line.encode().replace(rb'\\xff', bytes([255])) + b'\\n')"
    )
    printed = Printed(capsys)
    one = worker(tmp_path, program)
    assert not one.serves
    assert one.process.wait(30) == 0
    wait_until(lambda: "another" in printed.text())
    assert printed.text() == "a line of its log\nanother \ufffd\n"
    assert one.listening == [f"{line}\n" for line in (lines[0], lines[2], lines[3])]
    assert one.served_since is not None
    assert not one.serves
    assert one.silence(100.0) == 0.4


def test_a_worker_serves_once_it_is_ready_and_while_it_lives(tmp_path: Path) -> None:
    """It is told where all workers of the server keep their metrics."""
    file = tmp_path / "directory"
    program = f"import os\nopen({str(file)!r}, 'w').write(os.environ['PROMETHEUS_MULTIPROC_DIR'])\n{LIVES}"
    one = worker(tmp_path, program)
    try:
        wait_until(lambda: one.serves)
        assert file.read_text() == str(tmp_path)
        assert one.served_since is not None
        assert 0 <= time.monotonic() - one.served_since < 30
        one.ready.clear()
        assert not one.serves
    finally:
        one.kill()
        one.process.wait(30)
    # Of one that has gone, the end is no error.
    one.kill()


def test_silence_begins_anew_with_each_sign_of_life(tmp_path: Path) -> None:
    """And with its end: the next one has its time."""
    one = worker(tmp_path, "import time; time.sleep(600)")
    one.ready.set()
    try:
        assert [one.silence(0.1), one.silence(0.1)] == pytest.approx([0.1, 0.2])
        one._beaten.set()
        assert [one.silence(0.1), one.silence(0.1)] == pytest.approx([0.1, 0.2])
        assert one.silence(0.5) == pytest.approx(0.6)
    finally:
        one.kill()
        one.process.wait(30)
    assert one.silence(0.1) == pytest.approx(0.1)


@pytest.mark.parametrize(
    ("deaths", "seconds"), [(0, 0.0), (1, 1.0), (2, 2.0), (3, 4.0), (61, 2.0**60), (62, 2.0**60), (10_000, 2.0**60)]
)
def test_the_pause_after_deaths_in_a_row(deaths: int, seconds: float) -> None:
    """Twice as long each time."""
    assert supervisor._pause(deaths) == seconds


def test_each_worker_is_told_its_number_and_where_they_meet(
    run: Callable[..., Running], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """The first one's addresses are printed, once; the directory is theirs alone, and gone at the end."""
    program = f"import os, sys\nopen(f'{tmp_path}/{{os.getpid()}}', 'w').write(' '.join(sys.argv[1:]))\n{LIVES}"
    printed = Printed(capsys)
    running = run(program)
    wait_until(running.is_ready)
    wait_until(lambda: "Running" in printed.text())
    directory = running.directory
    assert directory.name.startswith("fashion-serving-")
    assert directory.stat().st_mode & 0o777 == 0o700
    assert [(tmp_path / str(pid)).read_text() for pid in running.pids] == [
        f"--worker_index={index} --worker_directory={directory}" for index in range(2)
    ]
    assert Record.from_bytes(record_path(directory).read_bytes()) == Record(ModelServerConfig())
    # What cleans the temporary directory by age passes a locked one over.
    descriptor = os.open(directory, os.O_RDONLY)
    with pytest.raises(BlockingIOError):
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    os.close(descriptor)
    running.supervisor._stopping.set()
    running.thread.join(30)
    assert running.codes == [0]
    assert not directory.exists()
    assert printed.text().count("Running gRPC ModelServer at 1 ...\n") == 1


def test_a_worker_that_fails_at_the_end_gives_its_code(run: Callable[..., Running]) -> None:
    """Of several, the first that is not 0; SIGTERM is an orderly end."""
    program = (
        "import signal, sys\n"
        "signal.signal(signal.SIGTERM, lambda *_: sys.exit(4 if '--worker_index=1' in sys.argv else 0))\n"
        f"{LIVES}"
    )
    running = run(program)
    wait_until(running.is_ready)
    running.supervisor._stopping.set()
    running.thread.join(30)
    assert running.codes == [4]


def test_a_worker_that_cannot_be_started_is_told_and_the_others_live_on(
    run: Callable[..., Running], monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """It is tried again a minute later."""
    running = run(LIVES)
    wait_until(running.is_ready)
    monkeypatch.setattr(supervisor, "module_command", lambda _: ["/no/such/program"])
    running.supervisor._slots[0].worker.served_since = -3600.0
    first, second = running.pids
    os.kill(first, signal.SIGKILL)
    text = "worker 0 cannot be started: [Errno 2] No such file or directory: '/no/such/program'"
    wait_until(lambda: text in caplog.messages)
    begin = time.monotonic()
    slots = running.supervisor._slots
    assert slots[0].next_start is not None
    assert 50 < slots[0].next_start - begin <= 60
    assert running.pids[1] == second
    assert slots[1].worker.serves


def test_a_directory_that_cannot_be_made_again_is_told(
    run: Callable[..., Running], monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """The workers live on."""
    running = run(LIVES)
    wait_until(running.is_ready)
    pids = running.pids

    def full(*_: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(supervisor, "write_whole", full)
    shutil.rmtree(running.directory)
    text = "the workers' directory is gone and cannot be made again: [Errno 28] No space left on device"
    wait_until(lambda: text in caplog.messages)
    assert running.pids == pids
    assert running.is_ready()

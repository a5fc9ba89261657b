"""Servers that outlive the command: `fashion serve --detach` and `--stop`.

What was started on a gRPC port is written down in the user's state directory. A process holds a lock on a file there
for as long as it lives, so that a process id that was given to another program is never taken for the server's.
"""

from __future__ import annotations

import json
import os
import signal
import subprocess
import time
from collections.abc import Sequence
from pathlib import Path
from typing import IO, Protocol

from fashion_common.errors import FashionError
from fashion_common.files import write_whole
from serving.launch.backends import STOP_SECONDS
from serving.launch.readiness import ServerEndedError

_POLL_SECONDS = 0.05
_KEPT_LINES = 20
_RECORD, _LOCK, _LOG = "server.json", "server.lock", "server.log"


class DetachedError(FashionError):
    """A detached server cannot be started or found."""


class Detached(Protocol):
    """A server in the background."""

    def alive(self) -> bool:
        """Whether it still runs."""

    def last_lines(self) -> Sequence[str]:
        """What it said last."""

    def stop(self) -> None:
        """Ends it, and returns when it has ended."""

    def log_hint(self) -> str:
        """How to read what it says."""


class Container:
    """A container, known to its engine by its name."""

    def __init__(self, engine: str, name: str) -> None:
        self._engine = engine
        self._name = name

    def alive(self) -> bool:
        """Whether the engine says that it runs."""
        return self._ask("inspect", "--format={{.State.Running}}", self._name).stdout.strip() == "true"

    def last_lines(self) -> Sequence[str]:
        """The end of the container's log."""
        said = self._ask("logs", f"--tail={_KEPT_LINES}", self._name)
        return [line for line in (said.stdout + said.stderr).splitlines() if line.strip()]

    def stop(self) -> None:
        """Ends the container, and removes it."""
        self._ask("stop", f"--time={STOP_SECONDS}", self._name)
        self._ask("rm", "--force", self._name)

    def log_hint(self) -> str:
        """The engine's command."""
        return f"{self._engine} logs --follow {self._name}"

    def _ask(self, *arguments: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            [self._engine, *arguments], capture_output=True, text=True, check=False, timeout=STOP_SECONDS * 3
        )


class Process:
    """A process that holds the lock in its directory."""

    def __init__(self, directory: Path, pid: int) -> None:
        self._directory = directory
        self._pid = pid

    def alive(self) -> bool:
        """Whether the lock is held."""
        with (self._directory / _LOCK).open("wb") as lock:
            return not _locked(lock)

    def last_lines(self) -> Sequence[str]:
        """The end of the log file."""
        text = (self._directory / _LOG).read_text(encoding="utf-8", errors="replace")
        return [line for line in text.splitlines() if line.strip()][-_KEPT_LINES:]

    def stop(self) -> None:
        """SIGTERM; SIGKILL when that is not followed within STOP_SECONDS."""
        for number in (signal.SIGTERM, signal.SIGKILL):
            give_up = time.monotonic() + STOP_SECONDS
            if self.alive():
                os.kill(self._pid, number)
            while self.alive() and time.monotonic() < give_up:
                time.sleep(_POLL_SECONDS)

    def log_hint(self) -> str:
        """Where the log file is."""
        return f"tail -f {self._directory / _LOG}"


def state_directory(port: int) -> Path:
    """Where the server on a gRPC port is written down: under XDG_STATE_HOME."""
    base = os.environ.get("XDG_STATE_HOME") or Path.home() / ".local" / "state"
    return Path(base) / "fashion-serving" / str(port)


def start_container(command: Sequence[str], engine: str, name: str, directory: Path) -> Detached:
    """Runs `docker run --detach ...`. Raises DetachedError with the engine's words."""
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode:
        said = (done.stderr.strip().splitlines() or ["it said nothing"])[-1]
        raise DetachedError(f"{engine} cannot start the container: {said}")
    _write(directory, {"engine": engine, "container": name})
    return Container(engine, name)


def start_process(command: Sequence[str], directory: Path) -> Detached:
    """Starts a process in a session of its own; its output goes to a file. Raises DetachedError, OSError."""
    directory.mkdir(parents=True, exist_ok=True)
    with (directory / _LOCK).open("wb") as lock, (directory / _LOG).open("wb") as log:
        if not _locked(lock):
            raise DetachedError(f"a server of this port runs already, see {directory / _LOG}: fashion serve --stop")
        process = subprocess.Popen(
            command,
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=log,
            start_new_session=True,
            pass_fds=[lock.fileno()],
        )
    # It is not waited for: whoever asks looks at the lock.
    process.returncode = 0
    _write(directory, {"pid": process.pid})
    return Process(directory, process.pid)


def stop(port: int) -> None:
    """Ends what was detached on a gRPC port.

    Raises DetachedError when nothing was; ServerEndedError, with its last line, when it had ended by itself.
    """
    directory = state_directory(port)
    try:
        record = json.loads((directory / _RECORD).read_text(encoding="utf-8"))
    except FileNotFoundError as error:
        raise DetachedError(
            f"no server was started with --detach on port {port}: `fashion serve --stop --port N` for another one"
        ) from error
    server: Detached
    server = (
        Container(record["engine"], record["container"]) if "engine" in record else Process(directory, record["pid"])
    )
    ran = server.alive()
    last = [] if ran else server.last_lines()
    end(server, directory)
    if not ran:
        raise ServerEndedError(f"the server had ended by itself: {last[-1] if last else 'it said nothing'}")


def end(server: Detached, directory: Path) -> None:
    """Ends a server that was started from here, and forgets it."""
    server.stop()
    (directory / _RECORD).unlink(missing_ok=True)


def _write(directory: Path, record: dict[str, object]) -> None:
    write_whole(directory / _RECORD, json.dumps(record) + "\n")


def _locked(lock: IO[bytes]) -> bool:
    """Takes the lock, unless another process has it."""
    import fcntl

    try:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True

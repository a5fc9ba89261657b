"""Servers that outlive the command: `fashion serve --detach` and `--stop`.

What was started on a gRPC port is recorded in the user's state directory. A process holds a lock on a file there
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
from typing import IO

from fashion_common.files import write_whole
from serving.launch.backends import BACKENDS, STOP_SECONDS, ServeOptions, container, stop_container
from serving.launch.errors import LaunchError, ServerEndedError
from serving.launch.log import last_line
from serving.launch.run import KEPT_LINES, POLL_SECONDS, print_end, print_failures, wait_until_available

_RECORD, _LOCK, _LOG = "server.json", "server.lock", "server.log"
_FIX = "XDG_STATE_HOME names another directory for what --detach keeps"


class _Container:
    """A container, known to its engine by its name."""

    def __init__(self, engine: str, name: str) -> None:
        self._engine = engine
        self._name = name

    def alive(self) -> bool:
        """Whether the engine says that it runs."""
        state = _run_engine([self._engine, "inspect", "--format={{.State.Running}}", self._name])
        return state.stdout.strip() == "true"

    def log(self) -> Sequence[str]:
        """The end of the container's log, without empty lines."""
        log = _run_engine([self._engine, "logs", f"--tail={KEPT_LINES}", self._name])
        return [line.strip() for line in (log.stdout + log.stderr).splitlines() if line.strip()]

    def stop(self) -> None:
        """Ends the container, and removes it."""
        _run_engine(stop_container(self._engine, self._name))
        _run_engine([self._engine, "rm", "--force", self._name])

    def log_command(self) -> str:
        """The engine's command."""
        return f"{self._engine} logs --follow {self._name}"


class _Process:
    """A process that holds the lock in its directory."""

    def __init__(self, directory: Path, pid: int) -> None:
        self._directory = directory
        self._pid = pid

    def alive(self) -> bool:
        """Whether the lock is held."""
        with (self._directory / _LOCK).open("wb") as lock:
            return not _locked(lock)

    def log(self) -> Sequence[str]:
        """The end of the log file, without empty lines."""
        text = (self._directory / _LOG).read_text(encoding="utf-8", errors="replace")
        return [line.strip() for line in text.splitlines() if line.strip()][-KEPT_LINES:]

    def stop(self) -> None:
        """SIGTERM; SIGKILL when that is not followed within STOP_SECONDS."""
        for number in (signal.SIGTERM, signal.SIGKILL):
            deadline = time.monotonic() + STOP_SECONDS
            if self.alive():
                os.kill(self._pid, number)
            while self.alive() and time.monotonic() < deadline:
                time.sleep(POLL_SECONDS)

    def log_command(self) -> str:
        """The log is a file."""
        return f"tail -f {self._directory / _LOG}"


def state_directory(port: int) -> Path:
    """Where the server on a gRPC port is recorded: under XDG_STATE_HOME, which a relative path does not count for.

    https://specifications.freedesktop.org/basedir-spec/latest/. Raises LaunchError without that and without a home.
    """
    base = Path(os.environ.get("XDG_STATE_HOME", ""))
    try:
        base = base if base.is_absolute() else Path.home() / ".local" / "state"
    except RuntimeError as error:
        raise LaunchError(
            f"a detached server has no place for its log, as you have no home directory: {_FIX}"
        ) from error
    return base / "fashion-serving" / str(port)


def new_directory(port: int) -> Path:
    """The state directory for a server that is to be started on a gRPC port.

    Raises LaunchError when it cannot be written, and when the files in it belong to a server that runs.
    """
    directory = state_directory(port)
    try:
        directory.mkdir(parents=True, exist_ok=True)
        (directory / _LOG).open("ab").close()
        server = _recorded(directory)
    except OSError as error:
        raise LaunchError(f"{directory} cannot be written: {error.strerror}. {_FIX}") from error
    if server is not None and server.alive():
        raise LaunchError(f"a server of port {port} runs already (`{server.log_command()}`): fashion serve --stop")
    return directory


def start(backend: str, options: ServeOptions, wait_seconds: float) -> str:
    """Starts a server that outlives us; returns when the model is AVAILABLE, with the command that follows its log.

    Raises LaunchError when it cannot be started; ServerEndedError, with the end of its log on stderr, when it ends or
    is not AVAILABLE within wait_seconds; ServeUsageError when it does not take its flags. Nothing is left running then.
    """
    directory = new_directory(options.port)
    server: _Container | _Process
    if backend == "container":
        server = _start_container(options, directory)
    else:
        server = _start_process(BACKENDS[backend](options), directory)
    try:
        print_failures(wait_until_available(server, options, wait_seconds), options)
    except BaseException as error:
        # Ctrl-C too: the user was not told yet how to stop it.
        if isinstance(error, LaunchError):
            print_end(server, error)
        _end(server, directory)
        raise
    return server.log_command()


def stop(port: int) -> None:
    """Ends what was detached on a gRPC port.

    Raises LaunchError when nothing was; ServerEndedError, with its last line, when it had ended by itself.
    """
    directory = state_directory(port)
    try:
        server = _recorded(directory)
    except OSError as error:
        raise LaunchError(f"{directory} cannot be read: {error.strerror}. {_FIX}") from error
    if server is None:
        raise LaunchError(
            f"no server was started with --detach on port {port}: `fashion serve --stop --port N` for another one"
        )
    failure = None
    if not server.alive():
        failure = ServerEndedError(f"the server had ended by itself: {last_line(server.log())}")
    _end(server, directory)
    if failure:
        raise failure


def _recorded(directory: Path) -> _Container | _Process | None:
    """The server that is recorded there, whether it runs or not. Raises OSError."""
    try:
        record = json.loads((directory / _RECORD).read_text(encoding="utf-8"))
    except (FileNotFoundError, NotADirectoryError):
        return None
    if "engine" in record:
        return _Container(record["engine"], record["container"])
    return _Process(directory, record["pid"])


def _start_container(options: ServeOptions, directory: Path) -> _Container:
    """Runs `docker run --detach ...`. Raises LaunchError with the engine's last line."""
    run = subprocess.run(container(options, detach=True), capture_output=True, text=True, check=False)
    if run.returncode:
        reason = last_line(run.stderr.strip().splitlines())
        raise LaunchError(f"{options.engine} cannot start the container: {reason}")
    _record(directory, {"engine": options.engine, "container": options.container_name})
    return _Container(options.engine, options.container_name)


def _start_process(command: Sequence[str], directory: Path) -> _Process:
    """Starts a process in a session of its own; its output goes to a file. Raises LaunchError, OSError."""
    with (directory / _LOCK).open("wb") as lock:
        if not _locked(lock):
            raise LaunchError(f"a server of this port runs already, see {directory / _LOG}: fashion serve --stop")
        with (directory / _LOG).open("wb") as log:
            process = subprocess.Popen(
                command,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                start_new_session=True,
                pass_fds=[lock.fileno()],
            )
    # It is not waited for, the lock says whether it lives: a Popen with an exit code does not warn about that.
    process.returncode = 0
    _record(directory, {"pid": process.pid})
    return _Process(directory, process.pid)


def _end(server: _Container | _Process, directory: Path) -> None:
    server.stop()
    (directory / _RECORD).unlink(missing_ok=True)


def _record(directory: Path, record: dict[str, object]) -> None:
    write_whole(directory / _RECORD, json.dumps(record) + "\n")


def _locked(lock: IO[bytes]) -> bool:
    """Takes the lock, unless another process has it."""
    import fcntl

    try:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True


def _run_engine(command: Sequence[str]) -> subprocess.CompletedProcess[str]:
    return subprocess.run(command, capture_output=True, text=True, check=False, timeout=STOP_SECONDS * 3)

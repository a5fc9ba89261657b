"""Servers that outlive the command: `fashion serve --detach` and `--stop`.

What was started on a gRPC port is recorded in the user's state directory. A process holds a lock on a file there
for as long as it lives, so that a process id that was given to another program is never taken for the server's.
"""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import time
from collections.abc import Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import IO, NamedTuple

from fashion_common.files import write_whole
from fashion_common.installation import CONFIG_FOLDER, state_directory
from fashion_common.running import forget
from serving.launch.access import environment
from serving.launch.backends import BACKENDS, STOP_SECONDS, ServeOptions, container, stop_container
from serving.launch.errors import LaunchError, ServerEndedError
from serving.launch.follow import start_follower
from serving.launch.log import last_line
from serving.launch.prepare import with_config
from serving.launch.run import KEPT_LINES, POLL_SECONDS, print_end, print_failures, wait_until_available
from serving.launch.session import start_session

_RECORD, _LOCK, _LOG = "server.json", "server.lock", "server.log"
_FIX = "XDG_STATE_HOME names another directory for what --detach keeps"


class _Container(NamedTuple):
    """A container, known to its engine by its name."""

    engine: str
    container: str

    def alive(self) -> bool:
        state = _run_engine([self.engine, "inspect", "--format={{.State.Running}}", self.container])
        return state.stdout.strip() == "true"

    def log(self) -> Sequence[str]:
        log = _run_engine([self.engine, "logs", f"--tail={KEPT_LINES}", self.container])
        return [line.strip() for line in (log.stdout + log.stderr).splitlines() if line.strip()]

    def stop(self) -> None:
        _run_engine(stop_container(self.engine, self.container))
        _run_engine([self.engine, "rm", "--force", self.container])

    def log_command(self) -> str:
        return f"{self.engine} logs --follow {self.container}"


class _Process(NamedTuple):
    """A process that holds the lock in its directory."""

    pid: int
    directory: Path

    def alive(self) -> bool:
        with (self.directory / _LOCK).open("wb") as lock:
            return not _locked(lock)

    def log(self) -> Sequence[str]:
        text = (self.directory / _LOG).read_text(encoding="utf-8", errors="replace")
        return [line.strip() for line in text.splitlines() if line.strip()][-KEPT_LINES:]

    def stop(self) -> None:
        """SIGTERM; SIGKILL when that is not followed within STOP_SECONDS."""
        for number in (signal.SIGTERM, signal.SIGKILL):
            deadline = time.monotonic() + STOP_SECONDS
            if self.alive():
                os.kill(self.pid, number)
            while self.alive() and time.monotonic() < deadline:
                time.sleep(POLL_SECONDS)

    def log_command(self) -> str:
        return f"tail -f {self.directory / _LOG}"


def port_directory(port: int) -> Path:
    """Where the server on a gRPC port is recorded. Raises LaunchError without XDG_STATE_HOME and without a home."""
    try:
        return state_directory() / str(port)
    except RuntimeError as error:
        raise LaunchError(
            f"a detached server has no place for its log, as you have no home directory: {_FIX}"
        ) from error


def start(options: ServeOptions, files: Mapping[str, str], wait_seconds: float) -> str:
    """Starts a server that outlives us; returns when the model is AVAILABLE, with the command that follows its log.

    files: the configuration to write for it, by name.
    Raises LaunchError when it cannot be started, for one that runs on this port already too; ServerEndedError, with the
    end of its log on stderr, when it ends or is not AVAILABLE within wait_seconds; ServeUsageError when it does not
    take its flags. Nothing is left running then.
    """
    directory = port_directory(options.port)
    try:
        directory.mkdir(parents=True, exist_ok=True)
        (directory / _LOG).open("ab").close()
        server = _recorded(directory)
    except OSError as error:
        raise LaunchError(f"{directory} cannot be written: {error.strerror}. {_FIX}") from error
    if server is not None and server.alive():
        raise LaunchError(
            f"a server of port {options.port} runs already (`{server.log_command()}`): fashion serve --stop"
        )
    options = with_config(options, files, directory / CONFIG_FOLDER)
    is_container = options.backend == "container"
    server = _start_container(options) if is_container else _start_process(options, directory)
    try:
        write_whole(directory / _RECORD, json.dumps(server._asdict(), default=str) + "\n")
        print_failures(wait_until_available(server, options, wait_seconds))
        start_follower(options, directory)
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
    directory = port_directory(port)
    try:
        server = _recorded(directory)
    except OSError as error:
        raise LaunchError(f"{directory} cannot be read: {error.strerror}. {_FIX}") from error
    if server is None:
        raise LaunchError(
            f"no server was started with --detach on port {port}: `fashion serve --stop --port N` for another one"
        )
    try:
        if not server.alive():
            raise ServerEndedError(f"the server had ended by itself: {last_line(server.log())}")
    finally:
        _end(server, directory)


def _recorded(directory: Path) -> _Container | _Process | None:
    """The server that is recorded there, whether it runs or not. Raises OSError."""
    try:
        record = json.loads((directory / _RECORD).read_text(encoding="utf-8"))
    except (FileNotFoundError, NotADirectoryError):
        return None
    return _Container(**record) if "engine" in record else _Process(record["pid"], directory)


def _start_container(options: ServeOptions) -> _Container:
    """Runs `docker run --detach ...`. Raises LaunchError with the engine's last line."""
    run = subprocess.run(container(options, detach=True), capture_output=True, text=True, check=False)
    if run.returncode:
        reason = last_line(run.stderr.strip().splitlines())
        raise LaunchError(f"{options.engine} cannot start the container: {reason}")
    return _Container(options.engine, options.container_name)


def _start_process(options: ServeOptions, directory: Path) -> _Process:
    """Starts a process in a session of its own; its output goes to a file. Raises LaunchError, OSError."""
    with (directory / _LOCK).open("wb") as lock:
        if not _locked(lock):
            raise LaunchError(f"a server of this port runs already, see {directory / _LOG}: fashion serve --stop")
        command = BACKENDS[options.backend](options)
        return _Process(start_session(command, lock, directory / _LOG, environment(options)), directory)


def is_alive(directory: Path) -> bool:
    """Whether the server that is recorded in a directory runs."""
    with suppress(OSError, ValueError, subprocess.TimeoutExpired):
        server = _recorded(directory)
        return server is not None and server.alive()
    return True


def _end(server: _Container | _Process, directory: Path) -> None:
    server.stop()
    forget(directory)
    shutil.rmtree(directory / CONFIG_FOLDER, ignore_errors=True)
    (directory / _RECORD).unlink(missing_ok=True)


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

"""A server in the foreground, from its start over AVAILABLE to its end: it ends with us, and we with it.

Readiness is asked over REST, whatever server it is.
"""

from __future__ import annotations

import collections
import re
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Sequence
from types import FrameType
from typing import IO, Protocol

from fashion_common.running import version_states
from serving.launch.access import environment
from serving.launch.backends import BACKENDS, ServeOptions, stop_container, usage_command
from serving.launch.errors import LaunchError, ServerEndedError, ServeUsageError
from serving.launch.log import is_about_flags, last_line, load_failures, wrong_flag

POLL_SECONDS = 0.05
_LOOK_SECONDS = 1.0
# How much of a server's log is kept, and how much of that is shown when it fails.
KEPT_LINES = 1000
_SHOWN_LINES = 20
_LISTENING = ("Running gRPC ModelServer at ", "Exporting HTTP/REST API at:", "Exporting metrics at:")
# What the embedded server's log says of every start and stop.
_ROUTINE = re.compile(
    "Successfully loaded servable version|Done unloading servable version| is served by | files are as signed with "
    "|Listening on .* without "
)
# Of a server that was asked to stop: ended well, or by a signal, as itself (-n) or as a container (128 + n).
_SIGNALS = (signal.SIGTERM, signal.SIGINT, 9)  # SIGKILL, which has no name on Windows
_STOPPED = frozenset({0, *(-number for number in _SIGNALS), *(128 + number for number in _SIGNALS)})


class Server(Protocol):
    """A server that was started."""

    def alive(self) -> bool:
        """Whether it still runs; once it does not, its whole log has been read."""

    def log(self) -> Sequence[str]:
        """Its last KEPT_LINES lines, without empty ones."""


def run_until_stopped(options: ServeOptions, wait_seconds: float, on_ready: Callable[[], None]) -> None:
    """Runs a server until SIGINT or SIGTERM; calls on_ready when the model is AVAILABLE.

    Raises ServerEndedError when it ends by itself, or the model is not AVAILABLE within wait_seconds; ServeUsageError
    when it does not take its flags.
    """
    # The embedded server's log is meant for the user; TensorFlow Serving's is for when something is wrong.
    show_log = options.backend == "embedded" or options.verbose
    server = _Process(options, show_log=show_log)
    signals: list[int] = []

    def forward(number: int, _: FrameType | None) -> None:
        signals.append(number)
        server.stop()

    handlers = {number: signal.signal(number, forward) for number in (signal.SIGINT, signal.SIGTERM)}
    failure: LaunchError
    try:
        failures = wait_until_available(server, options, wait_seconds)
        if not show_log:
            print_failures(failures)
        server.serving = True
        on_ready()
        code = server.wait()
        failure = ServerEndedError(f"the server ended with exit code {code}: {last_line(server.log())}")
    except LaunchError as error:
        server.stop()
        code = server.wait()
        failure = error
    finally:
        for number, handler in handlers.items():
            signal.signal(number, handler)
    if signals and code in _STOPPED:
        return
    if not show_log:
        print_end(server, failure)
    raise failure


def server_usage(options: ServeOptions) -> str:
    """The flags of the server, as it prints them. Raises ServerEndedError when it prints none."""
    # The exit code does not count: TF Serving's is that of a failure.
    process = subprocess.run(usage_command(options), capture_output=True, text=True, check=False)
    if "usage: " not in process.stdout:
        raise ServerEndedError(f"the server prints no usage: {last_line(process.stderr.strip().splitlines())}")
    return process.stdout.rstrip()


def wait_until_available(server: Server, options: ServeOptions, seconds: float) -> Sequence[str]:
    """Returns when a version is AVAILABLE and none is still being loaded; says which failed, and why, newest first.

    Raises ServerEndedError with the reason when the server ends, cannot load the model, or takes longer;
    ServeUsageError when it does not take its flags.
    """
    deadline = time.monotonic() + seconds
    was_available = False
    while True:
        # In this order: a server that is AVAILABLE has logged what it does not take, one that has ended has logged all.
        states, alive, log = version_states(options.status_url, options.own_token), server.alive(), server.log()
        complaint = wrong_flag(log, ended=not alive)
        if complaint is not None:
            raise ServeUsageError(f"the server does not take what comes after --: {complaint}")
        failures = load_failures(log, options.model_name) | {
            version: status["status"]["error_message"]
            for version, status in states.items()
            if status["state"] == "END" and status["status"]["error_code"] != "OK"
        }
        reasons = [
            f"version {version} of {options.model_name} cannot be loaded: {failures[version]}"
            for version in sorted(failures, reverse=True)
        ]
        others = {status["state"] for version, status in states.items() if version not in failures}
        is_available = alive and "AVAILABLE" in others and not others & {"START", "LOADING"}
        # At the second look: what it logged before may still have been on its way at the first.
        if is_available and was_available:
            return reasons
        was_available = is_available
        reason = "; ".join(reasons)
        if failures and failures.keys() >= (set(states) or set(options.versions)):
            raise ServerEndedError(reason)
        if not alive:
            raise ServerEndedError(f"the server ended before the model was AVAILABLE: {reason or last_line(log)}")
        if time.monotonic() > deadline:
            raise ServerEndedError(
                f"{options.model_name} is not AVAILABLE after {seconds:g} s (--wait takes more): "
                f"{reason or last_line(log)}"
            )
        time.sleep(POLL_SECONDS)


def print_failures(failures: Sequence[str]) -> None:
    """Says which versions are not served although another one is."""
    for failure in failures:
        print(f"Note: {failure}", file=sys.stderr, flush=True)


def print_end(server: Server, failure: LaunchError) -> None:
    """Shows the end of a server's log, unless that is the usage that a wrong flag is answered with."""
    if not isinstance(failure, ServeUsageError):
        print(*server.log()[-_SHOWN_LINES:], sep="\n", file=sys.stderr, flush=True)


class _Process:
    """A running server. Its log is read all the time: shown, or kept for when it fails.

    serving: whether versions that come and go are news, and stdout is the user's.
    """

    def __init__(self, options: ServeOptions, *, show_log: bool) -> None:
        self.serving = False
        self._show_log = show_log
        self._container = (options.engine, options.container_name) if options.backend == "container" else None
        self._lines: collections.deque[str] = collections.deque(maxlen=KEPT_LINES)
        self._process = subprocess.Popen(
            BACKENDS[options.backend](options),
            env=environment(options),
            # TensorFlow Serving writes its usage and some errors there, the embedded server only the access log.
            stdout=None if options.backend == "embedded" else subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            errors="replace",
        )
        streams = [stream for stream in (self._process.stderr, self._process.stdout) if stream is not None]
        self._readers = [threading.Thread(target=self._read, args=(stream,), daemon=True) for stream in streams]
        for reader in self._readers:
            reader.start()

    def alive(self) -> bool:
        if self._process.poll() is None:
            return True
        self.wait()
        return False

    def log(self) -> Sequence[str]:
        return list(self._lines)

    def stop(self) -> None:
        """Asks it to drain and end; does not wait."""
        self.serving = False
        if self._process.poll() is not None:
            return
        if self._container:
            # SIGTERM alone does not end every entry point.
            subprocess.Popen(stop_container(*self._container), stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        self._process.send_signal(signal.SIGTERM)

    def wait(self) -> int:
        """The exit code, once it has ended and its whole log has been read."""
        for reader in self._readers:
            # With a look: a signal that another thread takes wakes this one, which runs its handler, not up.
            while reader.is_alive():
                reader.join(_LOOK_SECONDS)
        return self._process.wait()

    def _read(self, stream: IO[str]) -> None:
        with stream:
            for line in stream:
                if any(text in line for text in _LISTENING):
                    continue
                if self.serving and stream is self._process.stdout:
                    print(line, end="", flush=True)
                    continue
                if line.strip():
                    self._lines.append(line.strip())
                if not self.serving and is_about_flags(line):
                    # Pages of usage follow; the error will say what is wrong.
                    self._show_log = False
                if self._show_log and (self.serving or not _ROUTINE.search(line)):
                    print(line, end="", file=sys.stderr, flush=True)

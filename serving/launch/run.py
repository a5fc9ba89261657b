"""A server in the foreground, from its start over AVAILABLE to its end: it ends with us, and we with it.

Readiness is asked over REST, whatever server it is: https://www.tensorflow.org/tfx/serving/api_rest#model_status_api
"""

from __future__ import annotations

import collections
import http.client
import json
import signal
import subprocess
import sys
import threading
import time
import urllib.request
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from types import FrameType
from typing import Protocol

from serving.launch.backends import ServeOptions
from serving.launch.errors import ServerEndedError, last_line

POLL_SECONDS = 0.05
# How much of a server's log is kept for when it fails.
KEPT_LINES = 20
_STATUS_SECONDS = 2
_LISTENING = ("Running gRPC ModelServer at ", "Exporting HTTP/REST API at:")
# Of a server that was asked to stop: ended well, or by a signal, as itself (-n) or as a container (128 + n).
_SIGNALS = (signal.SIGTERM, signal.SIGINT, 9)  # SIGKILL, which has no name on Windows
_STOPPED = frozenset({0, *(-number for number in _SIGNALS), *(128 + number for number in _SIGNALS)})
# Not over a proxy: the server is on this machine.
_OPENER = urllib.request.build_opener(urllib.request.ProxyHandler({}))


class Server(Protocol):
    """A server that was started."""

    def alive(self) -> bool:
        """Whether it still runs."""

    def last_lines(self) -> Sequence[str]:
        """The end of its log, without empty lines."""


def run_until_stopped(
    command: Sequence[str],
    options: ServeOptions,
    wait_seconds: float,
    on_ready: Callable[[], None],
    *,
    stop_command: Sequence[str] = (),
    show_log: bool,
) -> None:
    """Runs a server until SIGINT or SIGTERM; calls on_ready when the model is AVAILABLE.

    stop_command: what ends it besides SIGTERM. show_log: whether the server's log goes to stderr at once, or only its
    end and only when it fails.
    Raises ServerEndedError when it ends by itself, or the model is not AVAILABLE within wait_seconds.
    """
    server = _Process(command, stop_command, show_log=show_log)
    with _forwarded_signals(server) as signals:
        try:
            wait_until_available(server, options, wait_seconds)
            on_ready()
            code = server.wait()
            failure = ServerEndedError(f"the server ended with exit code {code}: {last_line(server.last_lines())}")
        except ServerEndedError as error:
            server.stop()
            code = server.wait()
            failure = error
    if signals and code in _STOPPED:
        return
    if not show_log:
        print(*server.last_lines(), sep="\n", file=sys.stderr, flush=True)
    raise failure


def wait_until_available(server: Server, options: ServeOptions, seconds: float) -> None:
    """Returns when a version is AVAILABLE, and none is still being loaded.

    Raises ServerEndedError with the server's last line when it ends, cannot load the model, or takes longer.
    """
    deadline = time.monotonic() + seconds
    while not _is_available(options):
        if not server.alive():
            raise ServerEndedError(f"the server ended before the model was AVAILABLE: {last_line(server.last_lines())}")
        if time.monotonic() > deadline:
            raise ServerEndedError(
                f"{options.model_name} is not AVAILABLE after {seconds:g} s (--wait takes more): "
                f"{last_line(server.last_lines())}"
            )
        time.sleep(POLL_SECONDS)


def _is_available(options: ServeOptions) -> bool:
    """Raises ServerEndedError when every version has failed to load."""
    try:
        with _OPENER.open(options.status_url, timeout=_STATUS_SECONDS) as answer:
            versions = json.load(answer)["model_version_status"]
    except (OSError, http.client.HTTPException, ValueError, KeyError):
        # OSError has urllib's own errors: nobody listens yet, or the model is not known yet.
        return False
    states = {version["state"] for version in versions}
    if states & {"START", "LOADING"}:
        return False
    if "AVAILABLE" in states:
        return True
    failures = [version for version in versions if version["status"]["error_code"] != "OK"]
    if failures and len(failures) == len(versions):
        version, status = failures[0]["version"], failures[0]["status"]
        raise ServerEndedError(f"version {version} of {options.model_name} cannot be loaded: {status['error_message']}")
    return False


class _Process:
    """A running server. Its stderr is read all the time: shown, or kept for when it fails.

    stop_command: what ends it besides SIGTERM.
    """

    def __init__(self, command: Sequence[str], stop_command: Sequence[str], *, show_log: bool) -> None:
        self._show_log = show_log
        self._stop_command = stop_command
        self._lines: collections.deque[str] = collections.deque(maxlen=KEPT_LINES)
        self._process = subprocess.Popen(command, stderr=subprocess.PIPE, text=True, errors="replace")
        self._reader = threading.Thread(target=self._read, name="server's stderr", daemon=True)
        self._reader.start()

    def alive(self) -> bool:
        """Whether it still runs; once it does not, its whole log has been read."""
        if self._process.poll() is None:
            return True
        self._reader.join()
        return False

    def last_lines(self) -> Sequence[str]:
        """The end of its log, without empty lines."""
        return list(self._lines)

    def stop(self) -> None:
        """Asks it to drain and end; does not wait."""
        if self._process.poll() is not None:
            return
        if self._stop_command:
            subprocess.Popen(self._stop_command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        self._process.send_signal(signal.SIGTERM)

    def wait(self) -> int:
        """The exit code, once it has ended and its whole log has been read."""
        code = self._process.wait()
        self._reader.join()
        return code

    def _read(self) -> None:
        assert self._process.stderr is not None
        with self._process.stderr as stderr:
            for line in stderr:
                if line.startswith(_LISTENING):
                    continue
                if line.strip():
                    self._lines.append(line.strip())
                if self._show_log:
                    print(line, end="", file=sys.stderr, flush=True)


@contextmanager
def _forwarded_signals(server: _Process) -> Iterator[list[int]]:
    """Hands SIGINT and SIGTERM to the server, which drains and ends; gives the list of the signals so far."""
    signals: list[int] = []

    def forward(number: int, _: FrameType | None) -> None:
        signals.append(number)
        server.stop()

    handlers = {number: signal.signal(number, forward) for number in (signal.SIGINT, signal.SIGTERM)}
    try:
        yield signals
    finally:
        for number, handler in handlers.items():
            signal.signal(number, handler)

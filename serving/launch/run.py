"""A server in the foreground: it ends with us, and we with it."""

from __future__ import annotations

import collections
import signal
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from types import FrameType

from serving.launch.backends import ServeOptions
from serving.launch.readiness import ServerEndedError, wait_until_available

_KEPT_LINES = 20
_LISTENING = ("Running gRPC ModelServer at ", "Exporting HTTP/REST API at:")
# Of a server that was asked to stop: ended well, or by a signal, as itself (-n) or as a container (128 + n).
_SIGNALS = (signal.SIGTERM, signal.SIGINT, 9)  # SIGKILL, which has no name on Windows
_STOPPED = frozenset({0, *(-number for number in _SIGNALS), *(128 + number for number in _SIGNALS)})


class Process:
    """A running server. Its stderr is read all the time: passed on, or kept for when it fails.

    stop_command: what ends it besides SIGTERM.
    """

    def __init__(self, command: Sequence[str], stop_command: Sequence[str], *, pass_on: bool) -> None:
        self._pass_on = pass_on
        self._stop_command = stop_command
        self._lines: collections.deque[str] = collections.deque(maxlen=_KEPT_LINES)
        self.process = subprocess.Popen(command, stderr=subprocess.PIPE, text=True, errors="replace")
        self._reader = threading.Thread(target=self._read, name="server's stderr", daemon=True)
        self._reader.start()

    def alive(self) -> bool:
        """Whether it still runs; once it does not, all that it said has been read."""
        if self.process.poll() is None:
            return True
        self._reader.join()
        return False

    def last_lines(self) -> Sequence[str]:
        """What it said last."""
        return list(self._lines)

    def stop(self) -> None:
        """Asks it to drain and end; does not wait."""
        if self.process.poll() is not None:
            return
        if self._stop_command:
            subprocess.Popen(self._stop_command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        self.process.send_signal(signal.SIGTERM)

    def wait(self) -> int:
        """The exit code, once it has ended and all that it said has been read."""
        code = self.process.wait()
        self._reader.join()
        return code

    def show_last_lines(self) -> None:
        """Writes to stderr what was kept back."""
        if not self._pass_on:
            print(*self._lines, sep="\n", file=sys.stderr, flush=True)

    def _read(self) -> None:
        assert self.process.stderr is not None
        with self.process.stderr as stderr:
            for line in stderr:
                if line.startswith(_LISTENING):
                    continue
                if line.strip():
                    self._lines.append(line.strip())
                if self._pass_on:
                    print(line, end="", file=sys.stderr, flush=True)


def run(
    command: Sequence[str],
    options: ServeOptions,
    wait_seconds: float,
    on_ready: Callable[[], None],
    *,
    stop_command: Sequence[str] = (),
    pass_on: bool,
) -> None:
    """Runs a server until it is asked to stop; calls on_ready when the model is AVAILABLE.

    stop_command: what ends it besides SIGTERM. pass_on: whether what the server says goes to stderr at once, or only
    when it fails.
    Raises ServerEndedError when it ends by itself, or does not get the model AVAILABLE within wait_seconds.
    """
    server = Process(command, stop_command, pass_on=pass_on)
    with _forwarded_signals(server) as asked:
        try:
            wait_until_available(server, options, wait_seconds)
            on_ready()
        except ServerEndedError:
            server.stop()
            code = server.wait()
            if asked and code in _STOPPED:
                return
            server.show_last_lines()
            raise
        code = server.wait()
    if not (asked and code in _STOPPED):
        server.show_last_lines()
        last = server.last_lines()
        raise ServerEndedError(f"the server ended with exit code {code}: {last[-1] if last else 'it said nothing'}")


@contextmanager
def _forwarded_signals(server: Process) -> Iterator[list[int]]:
    """Hands SIGINT and SIGTERM to the server, which drains and ends; gives the list of those that came."""
    came: list[int] = []

    def forward(number: int, _: FrameType | None) -> None:
        came.append(number)
        server.stop()

    before = {number: signal.signal(number, forward) for number in (signal.SIGINT, signal.SIGTERM)}
    try:
        yield came
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)

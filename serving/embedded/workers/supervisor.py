"""The parent of several worker processes: starts them, replaces those that die or hang, and stops them together."""

from __future__ import annotations

import contextlib
import fcntl
import logging
import os
import re
import signal
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

from fashion_common.errors import EXIT_FAILED
from fashion_common.files import write_whole
from fashion_common.installation import module_command
from serving.embedded.workers.configuration import Record, record_path
from serving.embedded.workers.heartbeat import BEAT, READY
from serving.errors import ServerConfigError

log = logging.getLogger(__name__)

_LISTENING = re.compile("Running gRPC ModelServer at|Exporting (HTTP/REST API|metrics) at")
_LOOK_SECONDS = 0.2
# While it starts a worker may be silent for so much longer: libraries of a gigabyte are read from a cold disk.
_START_FACTOR = 10
# Between two deaths in a row: 1 s, then twice as long each time, for the sake of the workers that serve. While none
# does there is nobody to spare.
_MAX_PAUSE_SECONDS = 60.0
_OUTAGE_PAUSE_SECONDS = 1.0
# A worker that has served for so long has recovered.
_HEALTHY_SECONDS = 10.0
# On top of the grace for requests: for the end of all else.
_END_SECONDS = 10.0


class Times(NamedTuple):
    """silence: after so many seconds without a sign of life a worker is killed; 0 = never. grace: after SIGTERM."""

    silence: float
    grace: float


class Worker:
    """One worker process. Its stderr is passed on, except for where it listens: the supervisor prints that once."""

    def __init__(self, command: Sequence[str], directory: Path) -> None:
        environment = {**os.environ, "PROMETHEUS_MULTIPROC_DIR": str(directory)}
        self.process = subprocess.Popen(command, stderr=subprocess.PIPE, text=True, errors="replace", env=environment)
        self.listening: list[str] = []
        self.ready = threading.Event()
        # Since when it serves, by `time.monotonic`.
        self.served_since: float | None = None
        self._beaten = threading.Event()
        self._silence = 0.0
        threading.Thread(target=self._read, daemon=True).start()

    @property
    def serves(self) -> bool:
        """Whether it answers requests, unless it hangs."""
        return self.served_since is not None and self.ready.is_set() and self.process.poll() is None

    def silence(self, elapsed: float) -> float:
        """For how long there was no sign of life. elapsed: since the last call."""
        if self._beaten.is_set():
            self._beaten.clear()
            self._silence = 0.0
        # A machine that was suspended, or is too busy for the supervisor, says nothing of its workers.
        self._silence += min(elapsed, 2 * _LOOK_SECONDS)
        return self._silence / (1 if self.ready.is_set() else _START_FACTOR)

    def kill(self) -> None:
        """Ends it even when it is stopped."""
        with contextlib.suppress(ProcessLookupError):
            self.process.kill()
        self._silence = 0.0

    def _read(self) -> None:
        assert self.process.stderr is not None
        with self.process.stderr as lines:
            for line in lines:
                if line == BEAT:
                    self._beaten.set()
                elif line == READY:
                    self.served_since = time.monotonic()
                    self.ready.set()
                elif _LISTENING.search(line):
                    self.listening.append(line)
                else:
                    sys.stderr.write(line)
        # It has ended, or is about to.
        self.process.wait()
        self.ready.set()


class Slot:
    """One worker's place: who is in it, and when the next one may start."""

    def __init__(self, worker: Worker) -> None:
        self.worker = worker
        # Deaths in a row.
        self.deaths = 0
        self.next_start: float | None = None
        # Whether it has to be replaced although nothing is wrong with it.
        self.stale = False


class Supervisor:
    """Runs `count` workers until `stopping` is set. first: their configuration when they begin."""

    def __init__(
        self, arguments: Sequence[str], count: int, first: Record, times: Times, stopping: threading.Event
    ) -> None:
        self._arguments = list(arguments)
        self._count = count
        self._times = times
        self._stopping = stopping
        self._record = first.to_bytes()
        self._slots: list[Slot] = []
        self._directory = Path()
        self._looked = time.monotonic()

    def run(self) -> int:
        """Starts the workers, says where they listen, and keeps them running. Gives the exit code.

        Raises ServerConfigError when there is no place for what they share.
        """
        # For sockets, metrics and the configuration; only this user may open it.
        with tempfile.TemporaryDirectory(prefix="fashion-serving-", ignore_cleanup_errors=True) as name:
            self._directory = Path(name)
            # What cleans the temporary directory by age passes a locked one over: man tmpfiles.d.
            lock = os.open(self._directory, os.O_RDONLY)
            try:
                fcntl.flock(lock, fcntl.LOCK_SH)
                return self._run()
            finally:
                os.close(lock)

    def _run(self) -> int:
        try:
            write_whole(record_path(self._directory), self._record)
        except OSError as error:
            raise ServerConfigError(
                f"--workers: {self._directory} cannot be written to: {error.strerror}: set TMPDIR to another place"
            ) from error
        self._slots = [Slot(self._worker(index)) for index in range(self._count)]
        for slot in self._slots:
            while not slot.worker.ready.wait(_LOOK_SECONDS) and not self._stopping.is_set():
                self._kill_silent()
        if not self._stopping.is_set() and any(slot.worker.process.poll() is not None for slot in self._slots):
            return self._stop() or EXIT_FAILED
        for line in self._slots[0].worker.listening:
            sys.stderr.write(line)
        while not self._stopping.wait(_LOOK_SECONDS):
            self._kill_silent()
            self._replace_dead()
            self._keep_directory()
        return self._stop()

    def _kill_silent(self) -> None:
        now = time.monotonic()
        elapsed, self._looked = now - self._looked, now
        for index, slot in enumerate(self._slots):
            if slot.worker.silence(elapsed) > self._times.silence > 0:
                log.error(
                    "worker %d gave no sign of life for --worker_timeout_seconds=%g: it is killed",
                    index, self._times.silence,
                )  # fmt: skip
                slot.worker.kill()

    def _replace_dead(self) -> None:
        now = time.monotonic()
        is_outage = not any(slot.worker.serves for slot in self._slots)
        most = _OUTAGE_PAUSE_SECONDS if is_outage else _MAX_PAUSE_SECONDS
        for index, slot in enumerate(self._slots):
            code = slot.worker.process.poll()
            if code is None:
                continue
            if slot.next_start is None:
                is_healthy = slot.stale or now - (slot.worker.served_since or now) > _HEALTHY_SECONDS
                slot.deaths = 0 if is_healthy else slot.deaths + 1
                pause = min(_pause(slot.deaths), most)
                slot.next_start = now + pause
                log.error(
                    "worker %d ended with exit code %d: it is started again%s",
                    index, code, f" in {pause:g} s" if pause else "",
                )  # fmt: skip
            slot.next_start = min(slot.next_start, now + most)
            if now >= slot.next_start:
                try:
                    slot.worker, slot.next_start, slot.stale = self._worker(index), None, False
                except OSError as error:
                    # No process, memory or descriptor to be had: others live on.
                    log.error("worker %d cannot be started: %s", index, error)  # noqa: TRY400 - no fault of ours
                    slot.next_start = now + _MAX_PAUSE_SECONDS

    def _keep_directory(self) -> None:
        """Makes what the workers share anew when somebody has cleaned the temporary directory."""
        path = record_path(self._directory)
        with contextlib.suppress(FileNotFoundError):
            self._record = path.read_bytes()
            self._restart_stale()
            return
        try:
            self._directory.mkdir(mode=0o700, exist_ok=True)
            if self._directory.stat().st_uid != os.getuid():
                raise PermissionError(f"{self._directory} is another user's")
            write_whole(path, self._record)
        except OSError as error:
            log.error("the workers' directory is gone and cannot be made again: %s", error)  # noqa: TRY400
            return
        log.error("%s was cleaned: the workers are started again, one after the other", self._directory)
        for slot in self._slots:
            slot.stale = True

    def _restart_stale(self) -> None:
        """Ends the next worker that has to be replaced, while all others serve."""
        if all(slot.worker.serves for slot in self._slots):
            for slot in self._slots:
                if slot.stale:
                    slot.worker.process.terminate()
                    slot.worker.ready.clear()
                    return

    def _worker(self, index: int) -> Worker:
        own = [f"--worker_index={index}", f"--worker_directory={self._directory}"]
        return Worker([*module_command("serving.embedded"), *self._arguments, *own], self._directory)

    def _stop(self) -> int:
        """Stops every worker; gives the first exit code that is not 0."""
        workers = [slot.worker for slot in self._slots]
        for worker in workers:
            with contextlib.suppress(ProcessLookupError):
                worker.process.terminate()
        last = time.monotonic() + self._times.grace + _END_SECONDS
        for index, worker in enumerate(workers):
            try:
                worker.process.wait(max(0.0, last - time.monotonic()))
            except subprocess.TimeoutExpired:
                log.error("worker %d did not end in its time: it is killed", index)  # noqa: TRY400 - expected
                worker.kill()
        codes = [worker.process.wait() for worker in workers]
        # A worker that was only just started may not have its signal handlers yet.
        return next((code for code in codes if code not in (0, -signal.SIGTERM)), 0)


def _pause(deaths: int) -> float:
    """Seconds before the next start after so many deaths in a row, unless that is too long."""
    # There may be more of them than a float has room for.
    return 2.0 ** min(deaths - 1, 60) if deaths else 0.0

"""The parent of several worker processes: starts them, starts one that died again, and stops them together."""

from __future__ import annotations

import contextlib
import logging
import os
import re
import signal
import subprocess
import sys
import tempfile
import threading
from collections.abc import Sequence
from pathlib import Path

from fashion_common.errors import EXIT_FAILED
from fashion_common.installation import module_command

log = logging.getLogger(__name__)

_LISTENING = re.compile(r"(Running gRPC ModelServer at|Exporting HTTP/REST API at)")


class Worker:
    """One worker process. Its stderr is passed on, except for where it listens: the supervisor prints that once."""

    def __init__(self, command: Sequence[str], directory: Path) -> None:
        environment = {**os.environ, "PROMETHEUS_MULTIPROC_DIR": str(directory)}
        self.process = subprocess.Popen(command, stderr=subprocess.PIPE, text=True, env=environment)
        self.listening: list[str] = []
        self.ready = threading.Event()
        threading.Thread(target=self._read, daemon=True).start()

    def _read(self) -> None:
        assert self.process.stderr is not None
        for line in self.process.stderr:
            if line == "\n":
                self.ready.set()
            elif _LISTENING.match(line):
                self.listening.append(line)
            else:
                print(line, end="", file=sys.stderr, flush=True)
        self.ready.set()


class Supervisor:
    """Runs `count` workers until `stopping` is set."""

    def __init__(self, arguments: Sequence[str], count: int, stopping: threading.Event) -> None:
        self._arguments = list(arguments)
        self._count = count
        self._stopping = stopping
        self._workers: list[Worker] = []

    def run(self) -> int:
        """Starts the workers, says where they listen, and keeps them running. Gives the exit code."""
        # For sockets and metrics; only this user may open it.
        with tempfile.TemporaryDirectory(prefix="fashion-serving-") as name:
            directory = Path(name)
            self._workers = [self._worker(directory, index) for index in range(self._count)]
            for worker in self._workers:
                while not worker.ready.wait(0.2) and not self._stopping.is_set():
                    pass
            if not self._stopping.is_set() and any(worker.process.poll() is not None for worker in self._workers):
                return self._stop() or EXIT_FAILED
            for line in self._workers[0].listening:
                print(line, end="", file=sys.stderr, flush=True)
            while not self._stopping.wait(0.2):
                self._replace_dead(directory)
            return self._stop()

    def _replace_dead(self, directory: Path) -> None:
        for index, worker in enumerate(self._workers):
            code = worker.process.poll()
            if code is not None:
                log.error("worker %d ended with exit code %d: it is started again", index, code)
                self._workers[index] = self._worker(directory, index)

    def _worker(self, directory: Path, index: int) -> Worker:
        own = [f"--worker_index={index}", f"--worker_directory={directory}"]
        return Worker([*module_command("serving.embedded"), *self._arguments, *own], directory)

    def _stop(self) -> int:
        """Stops every worker; gives the first exit code that is not 0."""
        for worker in self._workers:
            with contextlib.suppress(ProcessLookupError):
                worker.process.terminate()
        codes = [worker.process.wait() for worker in self._workers]
        # A worker that was only just started may not have its signal handlers yet.
        return next((code for code in codes if code not in (0, -signal.SIGTERM)), 0)

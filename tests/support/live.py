"""Live servers in processes of their own, on free ports, probed for readiness."""

from __future__ import annotations

import contextlib
import ctypes
import re
import secrets
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import IO, Any, NamedTuple

KITCHEN = Path(__file__).parents[1] / "contract" / "models" / "kitchen"
START_SECONDS = 90
# Below what systems choose themselves: Linux from 32,768 on, others from 49,152.
_LEAST_PORT, _PORTS = 15_000, 15_000
# The last of two equal flags counts.
_FREE_PORTS = ("--port=0", "--rest_api_port=0")
_LISTENING = re.compile(r"Running gRPC ModelServer at (\S+) \.\.\.\nExporting HTTP/REST API at:(\S+) \.\.\.")


class Server(NamedTuple):
    """Where a server listens, its process, and the file that its stderr goes to."""

    grpc: str
    rest: str
    process: subprocess.Popen[bytes]
    log: Path


@contextlib.contextmanager
def running(
    *flags: str, program: Sequence[str] = ("-m", "serving.embedded"), stdout: IO[bytes] | int | None = None
) -> Iterator[Server]:
    """A server with these flags; SIGTERM ends it. Fails with the log's tail when it does not come up.

    program: what Python is called with before the flags. stdout: where its access log goes.
    """
    with tempfile.TemporaryDirectory() as directory:
        log = Path(directory) / "stderr"
        command = [sys.executable, *program, *_FREE_PORTS, *flags]
        with log.open("wb") as stderr, subprocess.Popen(command, stdout=stdout, stderr=stderr) as process:
            try:
                grpc, rest = wait_until_listening(process, log)
                yield Server(grpc, rest, process, log)
            finally:
                process.terminate()


@contextlib.contextmanager
def recorded_server(directory: Path, kitchen: Path, *flags: str) -> Iterator[Server]:
    """The recorded server of these models. directory: for its configuration."""
    config = directory / "models.config"
    config.write_text(f"""
model_config_list {{ config {{
  name: 'kitchen' base_path: '{kitchen}' model_platform: 'tensorflow'
  model_version_policy {{ specific {{ versions: 1 versions: 2 }} }}
  version_labels {{ key: 'stable' value: 1 }} version_labels {{ key: 'canary' value: 2 }}
}} }}
""")
    with running(f"--model_config_file={config}", "--allow_version_labels_for_unavailable_models", *flags) as made:
        yield made


def wait_until_listening(process: subprocess.Popen[bytes], log: Path) -> Sequence[str]:
    """The gRPC and REST addresses that a server names in its log."""
    end = time.monotonic() + START_SECONDS
    while time.monotonic() < end:
        ended = process.poll()
        if found := _LISTENING.search(log.read_text()):
            return found.groups()
        if ended is not None:
            break
        time.sleep(0.05)
    raise AssertionError(f"the server did not start (exit code {process.poll()}): {log.read_text()[-2000:]}")


def free_port() -> int:
    """A port that nothing listens on, and that no system gives anybody meanwhile who asks for any."""
    while True:
        # Not by `random`, which pytest-randomly seeds alike in all processes.
        port = _LEAST_PORT + secrets.randbelow(_PORTS)
        with contextlib.suppress(OSError), socket.create_server(("127.0.0.1", port)):
            return port


def wait_until(condition: Callable[[], object]) -> None:
    """Probes until the condition holds."""
    end = time.monotonic() + 60
    while not condition():
        assert time.monotonic() < end, "it did not happen in time"
        time.sleep(0.1)


def signal_another_thread(process: subprocess.Popen[Any], number: signal.Signals) -> None:
    """Sends a signal that another thread than the main one takes, as the kernel may have it."""
    threads = [int(task.name) for task in Path(f"/proc/{process.pid}/task").iterdir()]
    other = next(thread for thread in threads if thread != process.pid)
    assert ctypes.CDLL(None).tgkill(process.pid, other, number) == 0

"""The servers of one model that are measured beside each other, each a process of its own on free ports."""

from __future__ import annotations

import contextlib
import shutil
import socket
import ssl
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple
from urllib.request import urlopen

from fashion_common.layout import version_directories
from tests.support.limited_process import Memory
from tests.support.live import free_port

HERE = Path(__file__).parent
START_SECONDS = 120
MODEL_SERVER = "tensorflow_model_server"
BATCHING = "batching"
_PAUSE_SECONDS = 0.005
_UNVERIFIED = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
_UNVERIFIED.check_hostname = False
_UNVERIFIED.verify_mode = ssl.CERT_NONE
_ECHO_BYTES = 134  # what our model's answer to one image has


class Contender(NamedTuple):
    """One server.

    command: what starts it, with its ports in the place of {grpc} and {rest}. apis: those that it answers. single: it
    is only asked for one image. folder: where it starts. probe: a URL that is answered once it serves, with {rest};
    the model's status without.
    """

    name: str
    command: list[str]
    apis: tuple[str, ...] = ("gRPC", "REST")
    single: bool = False
    folder: Path = HERE.parent
    probe: str = ""

    @property
    def serves(self) -> bool:
        """Whether it answers TF Serving's API."""
        return len(self.apis) > 1


class Running(NamedTuple):
    """A contender that answers. ports: by API. seconds: until its model was AVAILABLE, or its port open."""

    contender: Contender
    process: subprocess.Popen[bytes]
    ports: dict[str, int]
    seconds: float

    def memory(self) -> float:
        """Resident MiB."""
        return Memory(self.process.pid).resident() / 2**20


def yardsticks(base: Path) -> list[Contender]:
    """What others know: a bare echo server, a FastAPI program, and TF Serving itself where it is installed."""
    versions = version_directories(base)
    fastapi = [sys.executable, str(HERE / "server_fastapi.py"), "{rest}", str(versions[max(versions)])]
    echo = [sys.executable, str(HERE / "server_echo.py"), "{grpc}", str(_ECHO_BYTES)]
    real = [MODEL_SERVER, *_model(base), "--grpc_max_threads=256"]
    return [
        Contender("echo", echo, ("gRPC",), single=True),
        Contender("FastAPI", fastapi, ("REST",), single=True),
        *(_settings("TF Serving", real) if shutil.which(MODEL_SERVER) else []),
    ]


def embedded(name: str, base: Path, checkout: Path, *flags: str) -> list[Contender]:
    """The embedded server of this checkout, or of another that has a .venv of its own, without batching and with."""
    python = sys.executable if checkout == HERE.parent else str(checkout / ".venv" / "bin" / "python")
    return _settings(name, [python, "-m", "serving.embedded", *_model(base), *flags], checkout)


def _settings(name: str, command: list[str], folder: Path = HERE.parent) -> list[Contender]:
    file = HERE.parent / "serving" / "config" / "batching.config"
    batching = [*command, "--enable_batching", f"--batching_parameters_file={file}"]
    return [
        Contender(name, command, folder=folder),
        Contender(f"{name}, {BATCHING}", batching, single=True, folder=folder),
    ]


def _model(base: Path) -> list[str]:
    return ["--model_name=fashion_mnist", f"--model_base_path={base}", "--port={grpc}", "--rest_api_port={rest}"]


@contextlib.contextmanager
def running(contender: Contender) -> Iterator[Running]:
    """Starts a contender, waits until it answers, and ends it."""
    ports = {"gRPC": free_port(), "REST": free_port()}
    command = [part.format(grpc=ports["gRPC"], rest=ports["REST"]) for part in contender.command]
    start = time.monotonic()
    process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, cwd=contender.folder)
    try:
        while not _answers(contender, ports):
            if process.poll() is not None or time.monotonic() - start > START_SECONDS:
                raise RuntimeError(f"{contender.name} does not answer: {' '.join(command)}")
            time.sleep(_PAUSE_SECONDS)
        yield Running(contender, process, ports, time.monotonic() - start)
    finally:
        process.kill()
        process.wait()


def _answers(contender: Contender, ports: dict[str, int]) -> bool:
    with contextlib.suppress(OSError):
        if contender.probe:
            with urlopen(contender.probe.format(rest=ports["REST"]), timeout=5, context=_UNVERIFIED):  # noqa: S310 - http[s]
                return True
        if contender.serves:
            with urlopen(f"http://127.0.0.1:{ports['REST']}/v1/models/fashion_mnist", timeout=5) as answer:
                return b'"AVAILABLE"' in answer.read()
        with socket.create_connection(("127.0.0.1", ports[contender.apis[0]]), 0.2):
            return True
    return False

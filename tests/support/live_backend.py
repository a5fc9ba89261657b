"""A live server of one backend, started by `fashion serve` as a user does, or one that runs already."""

from __future__ import annotations

import re
import shutil
import subprocess
import time
from dataclasses import dataclass, field
from pathlib import Path

from client import connect
from client.connection import Connection
from client.types import ModelSpec
from tests.support.road import FASHION

START_SECONDS = 120
STOP_SECONDS = 5
_LISTENING = re.compile(
    r"gRPC  grpc://127\.0\.0\.1:(\d+)\nREST  http://127\.0\.0\.1:(\d+)/v1/models/\S+\nTry .*\nStop "
)


def listening(text: str) -> dict[str, str]:
    """The addresses that `fashion serve` prints, by API; none when it has not yet."""
    found = _LISTENING.search(text)
    return {"grpc": f"grpc://127.0.0.1:{found[1]}", "rest": f"http://127.0.0.1:{found[2]}"} if found else {}


@dataclass
class Live:
    """Where a server listens, and what it serves from. directory: None for a server that is not ours."""

    backend: str
    servers: dict[str, str]
    directory: Path | None = None
    arguments: tuple[str, ...] = ()
    engine: str = ""
    start_seconds: float = 0.0
    process: subprocess.Popen[bytes] | None = field(default=None, repr=False)

    @property
    def models(self) -> Path:
        """The model base path."""
        assert self.directory is not None
        return self.directory / "models/fashion_mnist"

    @property
    def port(self) -> str:
        """The gRPC port."""
        return self.servers["grpc"].rpartition(":")[2]

    @property
    def container(self) -> str:
        """The name of its container."""
        return f"fashion-serving-{self.port}"

    def command(self, *more: str) -> list[str]:
        """`fashion serve` with this backend, on the ports that it has, or on free ones at first."""
        ports = {api: self.servers.get(api, ":0").rpartition(":")[2] for api in ("grpc", "rest")}
        where = ("--port", ports["grpc"], "--rest-port", ports["rest"])
        return [FASHION, "serve", "--backend", self.backend, *where, *self.arguments, *more]

    def start(self) -> None:
        """Starts the server; returns when it says where it listens, which is when the model is AVAILABLE."""
        assert self.directory is not None
        log = self.directory / "serve.log"
        began = time.monotonic()
        with log.open("wb") as output:
            self.process = subprocess.Popen(self.command(), cwd=self.directory, stdout=output, stderr=subprocess.STDOUT)
        while not (servers := listening(log.read_text())):
            assert self.process.poll() is None, log.read_text()[-4000:]
            assert time.monotonic() - began < START_SECONDS, log.read_text()[-4000:]
            time.sleep(0.05)
        self.start_seconds = time.monotonic() - began
        self.servers = servers

    def stop(self) -> tuple[int, float]:
        """SIGTERM. Gives the exit code, and the seconds until the end."""
        assert self.process is not None
        began = time.monotonic()
        self.process.terminate()
        code = self.process.wait(timeout=30)
        return code, time.monotonic() - began

    def connect(self, api: str = "grpc", **spec: object) -> Connection:
        """A client of this server; spec: version, version_label."""
        return connect(self.servers[api], model=ModelSpec(**spec))  # type: ignore[arg-type]

    def add_version(self, version: int) -> None:
        """Another version, aside and renamed as the export does."""
        aside = self.models / f".{version}"
        shutil.copytree(self.models / "1", aside)
        aside.rename(self.models / str(version))

    def wait_for(self, version: int, seconds: float = 30) -> None:
        """Returns when the version is AVAILABLE."""
        give_up = time.monotonic() + seconds
        with self.connect() as connection:
            while (version, "AVAILABLE") not in [(one.version, one.state) for one in connection.status()]:
                assert time.monotonic() < give_up, connection.status()
                time.sleep(0.1)

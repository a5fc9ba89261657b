"""A live server of one backend, started by `fashion serve` as a user does, or one that runs already."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import time
from dataclasses import dataclass, field
from pathlib import Path

from client import connect
from client.connection import Connection
from tests.support.console import FASHION

START_SECONDS = 120
STOP_SECONDS = 5
_LISTENING = re.compile(
    r"gRPC  grpc://127\.0\.0\.1:(\d+)\nREST  http://127\.0\.0\.1:(\d+)/v1/models/\S+\nTry .*\nStop "
)


def addresses(text: str) -> dict[str, str]:
    """The addresses that `fashion serve` has printed, by API; none as long as it has not."""
    match = _LISTENING.search(text)
    return {"grpc": f"grpc://127.0.0.1:{match[1]}", "rest": f"http://127.0.0.1:{match[2]}"} if match else {}


@dataclass
class LiveBackend:
    """Where a server listens, and what it serves from. directory: None for a server that was running before."""

    backend: str
    servers: dict[str, str] = field(default_factory=dict)
    directory: Path | None = None
    arguments: tuple[str, ...] = ()
    engine: str = ""
    process: subprocess.Popen[bytes] | None = field(default=None, repr=False)

    @property
    def models(self) -> Path:
        """The model base path."""
        return self._directory / "models/fashion_mnist"

    @property
    def log(self) -> Path:
        """What the command prints, to both streams."""
        return self._directory / "serve.log"

    @property
    def port(self) -> str:
        """The gRPC port."""
        return self.servers["grpc"].rpartition(":")[2]

    @property
    def container(self) -> str:
        """The name of its container."""
        return f"fashion-serving-{self.port}"

    @property
    def _directory(self) -> Path:
        assert self.directory is not None
        return self.directory

    def command(self, *more: str) -> list[str]:
        """`fashion serve` with this backend, on the ports that it has, or on free ones at first."""
        ports = {api: self.servers.get(api, ":0").rpartition(":")[2] for api in ("grpc", "rest")}
        return [
            *(FASHION, "serve", "--backend", self.backend),
            *("--port", ports["grpc"], "--rest-port", ports["rest"]),
            *self.arguments,
            *more,
        ]

    @property
    def environment(self) -> dict[str, str]:
        """The server is recorded in its own directory."""
        return os.environ | {"XDG_STATE_HOME": str(self._directory / "state")}

    def call(self, *arguments: str) -> subprocess.CompletedProcess[str]:
        """A command that finds the server's models, and its record; what it prints, to both streams, is its stdout."""
        return subprocess.run(
            [FASHION, *arguments],
            cwd=self.directory,
            env=self.environment,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            check=False,
            timeout=120,
        )

    def fashion(self, *arguments: str) -> str:
        """The last line of such a command that succeeds."""
        done = self.call(*arguments)
        assert done.returncode == 0, done.stdout
        return done.stdout.splitlines()[-1]

    def start(self) -> None:
        """Starts the server; returns when it says where it listens, which is when the model is AVAILABLE."""
        began = time.monotonic()
        with self.log.open("wb") as output:
            self.process = subprocess.Popen(
                self.command(), cwd=self.directory, stdout=output, stderr=subprocess.STDOUT, env=self.environment
            )
        try:
            while not (servers := addresses(self.log.read_text())):
                assert self.process.poll() is None, self.log.read_text()[-4000:]
                assert time.monotonic() - began < START_SECONDS, self.log.read_text()[-4000:]
                time.sleep(0.05)
        except AssertionError:
            self.process.terminate()
            raise
        self.servers = servers

    def stop(self) -> tuple[int, float]:
        """SIGTERM. Gives the exit code, and the seconds until the end."""
        assert self.process is not None
        began = time.monotonic()
        self.process.terminate()
        code = self.process.wait(timeout=30)
        return code, time.monotonic() - began

    def connect(self, api: str = "grpc") -> Connection:
        """A client of this server."""
        return connect(self.servers[api])

    def add_version(self, version: int) -> None:
        """Another version, aside and renamed as the export does."""
        aside = self.models / f".{version}"
        shutil.copytree(self.models / "1", aside)
        aside.rename(self.models / str(version))

    def wait_for(self, version: int, seconds: float = 30) -> None:
        """Returns when the version is AVAILABLE."""
        end = time.monotonic() + seconds
        with self.connect() as connection:
            while (version, "AVAILABLE") not in [(status.version, status.state) for status in connection.status()]:
                assert time.monotonic() < end, connection.status()
                time.sleep(0.1)

"""A server that `fashion serve --detach` has started, and commands that find it."""

from __future__ import annotations

import re
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from subprocess import CompletedProcess

import pytest

from client import connect
from client.errors import ServerError
from client.types import ModelSpec
from tests.support.console import fashion

_LISTENING = re.compile(r"gRPC  grpc://(127\.0\.0\.1:(\d+))\nREST  (http://\S+)\n")


class DetachedServer:
    """An embedded server of a model base path, whose name is the model's.

    address: of gRPC. url: of the model's status.
    """

    def __init__(self, base: Path) -> None:
        self.base = base
        started = fashion(
            *("serve", "--backend=embedded", "--detach", "--model-base-path", base, "--model-name", base.name),
            *("--port=0", "--rest-port=0", "--", "--model_config_file_poll_wait_seconds=0.2"),
        )
        match = _LISTENING.search(started.stdout)
        assert match, started.stderr
        self.address, self.port, self.url = match.groups()

    def fashion(self, command: str, *arguments: object) -> CompletedProcess[str]:
        """A command on this model base path, as a user calls it."""
        return fashion(command, *arguments, "--model-base-path", self.base)

    def version(self, label: str) -> int | None:
        """The version that answers for a label; None where none does."""
        model = ModelSpec(self.base.name, version_label=label)
        with suppress(ServerError), connect(f"grpc://{self.address}", model=model) as connection:
            return connection.metadata().version
        return None


@contextmanager
def detached_server(base: Path, state: Path) -> Iterator[DetachedServer]:
    """One that is stopped at the end; nothing of it is recorded then. state: for what belongs to it."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("XDG_STATE_HOME", str(state))
        server = DetachedServer(base)
        try:
            yield server
        finally:
            stopped = fashion("serve", "--stop", "--port", server.port)
        assert stopped.returncode == 0, stopped.stderr
        assert not (state / "fashion-serving" / server.port / "running.json").exists()

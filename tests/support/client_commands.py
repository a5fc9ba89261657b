"""The client's commands, run in this process against the road's server, or against transports in memory."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
from click.testing import CliRunner, Result

from client.cli import fashion
from client.connection import Connection
from client.transports.fake import FakeTransport
from tests.support.road import Road

APIS = pytest.mark.parametrize("api", ["grpc", "rest"])
NOBODY = "grpc://127.0.0.1:1"


def run(road: Road, api: str, command: str, *arguments: object, stdin: bytes | None = None) -> Result:
    """The result of `fashion COMMAND --server SERVER ARGUMENTS...`; api: `grpc` or `rest`."""
    return CliRunner().invoke(fashion, [command, "--server", road.servers[api], *map(str, arguments)], input=stdin)


def answering(
    patch: pytest.MonkeyPatch, *transports: FakeTransport, asked: list[dict[str, Any]] | None = None
) -> Callable[..., Result]:
    """Runs commands as `fashion COMMAND ARGUMENTS...`, all of whose connections go to these transports.

    asked: gets what each connection was opened with, and the `servers`.
    """

    def connect(*servers: str, **settings: Any) -> Connection:
        if asked is not None:
            asked.append({"servers": servers, **settings})
        return Connection(transports, settings["model"], retry=settings["retry"])

    patch.setattr("client.connection.connect", connect)
    return lambda *arguments: CliRunner().invoke(fashion, list(map(str, arguments)))

"""The client's commands, run in this process against the road's server."""

from __future__ import annotations

import pytest
from click.testing import CliRunner, Result

from client.cli import fashion
from tests.support.road import Road

APIS = pytest.mark.parametrize("api", ["grpc", "rest"])
NOBODY = "grpc://127.0.0.1:1"


def run(road: Road, api: str, command: str, *arguments: object, stdin: bytes | None = None) -> Result:
    """The result of `fashion COMMAND --server SERVER ARGUMENTS...`; api: `grpc` or `rest`."""
    return CliRunner().invoke(fashion, [command, "--server", road.servers[api], *map(str, arguments)], input=stdin)

"""`fashion status`."""

from __future__ import annotations

import json
import time
from dataclasses import asdict
from typing import TYPE_CHECKING

import click

from client.commands.options import with_connection
from client.errors import ServerError
from fashion_common.errors import EXIT_FAILED

if TYPE_CHECKING:
    from client.connection import Connection
    from client.types import VersionStatus

_POLL_SECONDS = 0.2


@click.command(epilog="Example: fashion status --wait 60 --server http://127.0.0.1:8501")
@click.option(
    "--wait", type=click.FloatRange(min=0), metavar="SECONDS", help="Wait that long for a version to be AVAILABLE."
)
@click.option("--json", "as_json", is_flag=True, help="Print JSON: a list with an object for each version.")
@with_connection
def status(connection: Connection, wait: float | None, as_json: bool) -> None:
    """Print the state of the served model's versions; exit 0 when one is AVAILABLE, else 1."""
    versions = connection.status() if wait is None else _wait(connection, wait)
    if as_json:
        click.echo(json.dumps([asdict(version) for version in versions], indent=2))
    else:
        for version in versions:
            error = "" if version.error_code == "OK" else f"  {version.error_code}: {version.error_message}"
            runtime = version.runtime and f"  {version.runtime}"
            click.echo(f"{connection.model.name}  {version.version}  {version.state}{runtime}{error}")
    if not _available(versions):
        click.get_current_context().exit(EXIT_FAILED)


def _wait(connection: Connection, seconds: float) -> list[VersionStatus]:
    """The status once a version is AVAILABLE, or the last one at the end of the wait. Raises ServerError."""
    deadline = time.monotonic() + seconds
    while True:
        try:
            versions = connection.status()
        except ServerError:
            if time.monotonic() >= deadline:
                raise
        else:
            if _available(versions) or time.monotonic() >= deadline:
                return versions
        time.sleep(_POLL_SECONDS)


def _available(versions: list[VersionStatus]) -> bool:
    return any(version.state == "AVAILABLE" for version in versions)

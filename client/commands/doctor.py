"""`fashion doctor`."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

import click

from client.commands.options import with_connection
from fashion_common.errors import EXIT_FAILED

if TYPE_CHECKING:
    from client.connection import Connection

_MARKS = {"ok": "ok     ", "warning": "warning", "failed": "FAILED "}


@click.command(epilog="Example: fashion doctor --server grpc://127.0.0.1:8500")
@click.option("--json", "as_json", is_flag=True, help="Print JSON: a list with an object for each check.")
@with_connection
def doctor(connection: Connection, as_json: bool) -> None:
    """Check a server: reachable, serving this model, names and shapes as expected, answers sane, latency.

    Exit 0 when all is well (warnings included), 1 when a check failed.
    """
    from client.commands.diagnosis import diagnose

    findings = list(diagnose(connection))
    if as_json:
        click.echo(json.dumps([vars(finding) for finding in findings], indent=2))
    else:
        for finding in findings:
            click.echo(f"{_MARKS[finding.state]}  {finding.check:<10}  {finding.seen}")
            if finding.fix:
                click.echo(f"{'':<9}{'':<12}fix: {finding.fix}")
    if any(finding.state == "failed" for finding in findings):
        click.get_current_context().exit(EXIT_FAILED)

"""`fashion metadata`."""

from __future__ import annotations

import json
from dataclasses import asdict
from typing import TYPE_CHECKING

import click

from client.commands.options import as_json_option, with_connection

if TYPE_CHECKING:
    from client.connection import Connection


@click.command(epilog="Example: fashion metadata --json --server grpc://127.0.0.1:8500")
@as_json_option
@with_connection
def metadata(connection: Connection, as_json: bool) -> None:
    """Print the served model's signatures: names, dtypes and shapes of inputs and outputs."""
    model = connection.metadata()
    if as_json:
        click.echo(json.dumps(asdict(model), indent=2))
        return
    click.echo(f"{model.model_name}, version {model.version}")
    for name, signature in model.signatures.items():
        click.echo(f"\n{name}  ({signature.method_name})")
        for arrow, tensors in (("->", signature.inputs), ("<-", signature.outputs)):
            for tensor_name, info in tensors.items():
                click.echo(f"  {arrow} {tensor_name}  {info.dtype.removeprefix('DT_').lower()} {info}")

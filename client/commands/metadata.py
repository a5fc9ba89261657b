"""`fashion metadata`."""

from __future__ import annotations

import json
from dataclasses import asdict
from typing import TYPE_CHECKING

import click

from client.commands.options import as_json_option, with_connection

if TYPE_CHECKING:
    from client.connection import Connection


# Where a server's REST API is that is asked over gRPC.
_REST = "http://127.0.0.1:8501"


@click.command(epilog="Example: fashion metadata --openapi --server http://127.0.0.1:8501 > fashion_mnist.json")
@as_json_option
@click.option("--openapi", is_flag=True, help="Print the model's REST API as an OpenAPI 3.1 document.")
@with_connection
def metadata(connection: Connection, as_json: bool, openapi: bool) -> None:
    """Print the served model's signatures: names, dtypes and shapes of inputs and outputs."""
    model = connection.metadata()
    if openapi:
        from serving.apis.openapi import document

        urls = click.get_current_context().params["urls"]
        server = next((url for url in urls if url.startswith("http")), _REST)
        click.echo(json.dumps(document({model.model_name: model.signatures}, server), indent=2))
        return
    if as_json:
        click.echo(json.dumps(asdict(model), indent=2))
        return
    click.echo(f"{model.model_name}, version {model.version}")
    for name, signature in model.signatures.items():
        click.echo(f"\n{name}  ({signature.method_name})")
        for arrow, tensors in (("->", signature.inputs), ("<-", signature.outputs)):
            for tensor_name, info in tensors.items():
                click.echo(f"  {arrow} {tensor_name}  {info.dtype.removeprefix('DT_').lower()} {info}")

"""`fashion token`: a token for a client, and the line that lets its bearer in at the embedded server."""

from __future__ import annotations

import json
import os
from pathlib import Path

import click

from client.commands.options import FILE, as_json_option
from client.errors import ClientError, ClientUsageError
from fashion_common.tokens import NAME, SCOPES, entry, new_token, parse_entries


@click.command(epilog="Example: fashion token prometheus --scope read --file tokens > prometheus.token")
@click.argument("name")
@click.option(
    "--scope",
    "scopes",
    type=click.Choice(SCOPES),
    multiple=True,
    required=True,
    help="What it is for; again for more. predict: models and their metadata; read: status, metadata, metrics; "
    "admin: reload, profiler.",
)
@click.option("--file", type=FILE, help="The server's --token_file, to append the line to; it is made where it is not.")
@as_json_option
def token(name: str, scopes: tuple[str, ...], file: Path | None, as_json: bool) -> None:
    """Make a token of this NAME, and print it, once: the server's file has its digest only.

    The server takes the file over within a second. To withdraw a token, remove its line; two lines may have one name.
    """
    if not NAME.fullmatch(name):
        raise ClientUsageError(f"{name!r} is no name: letters, digits and . _ @ -, 64 at most, a letter or digit first")
    secret = new_token()
    line = entry(name, secret, scopes).line
    if file is not None:
        _append(file, line)
    else:
        click.echo(f"The line for the server's --token_file:\n{line}", err=True)
    click.echo(json.dumps({"name": name, "scopes": scopes, "token": secret, "line": line}) if as_json else secret)


def _append(file: Path, line: str) -> None:
    """Raises ClientError when it cannot be written, TokenFileError when a line of it is none."""
    try:
        # One write at its end: whoever appends at the same time loses nothing, and no reader sees half of it.
        descriptor = os.open(file, os.O_RDWR | os.O_APPEND | os.O_CREAT, 0o600)
        with os.fdopen(descriptor, "r+b", buffering=0) as stream:
            text = stream.read().decode()
            parse_entries(text, str(file))
            stream.write(f"{'' if text.endswith(chr(10)) or not text else chr(10)}{line}\n".encode())
            os.fsync(descriptor)
    except (OSError, UnicodeDecodeError) as error:
        raise ClientError(f"{file} cannot be written: {error}") from error

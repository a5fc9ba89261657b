"""`fashion web`."""

from __future__ import annotations

import os
import re
import subprocess
import sys
import threading
import webbrowser
from collections.abc import Iterator
from contextlib import contextmanager, nullcontext
from typing import IO
from urllib.parse import unquote

import click
from click.core import ParameterSource

from client.commands.options import Servers, with_servers
from client.errors import ClientError, ClientUsageError
from fashion_common.errors import EXIT_USAGE
from fashion_common.installation import module_command

_REST = re.compile(r"REST  (http://[^/]+)/v1/models/(.+)")


@click.command(epilog="Example: fashion web --server http://127.0.0.1:8501")
@click.option("--host", default="127.0.0.1", show_default=True, help="Address to listen on: this machine only.")
@click.option(
    "--port",
    type=click.IntRange(0, 65535),
    help="0 picks a free one.  [default: 8502, or a free one where that is taken]",
)
@click.option("--open/--no-open", "opens", default=None, help="Open the page.  [default: where there is a desktop]")
@with_servers
def web(servers: Servers, host: str, port: int | None, opens: bool | None) -> None:
    """Show what a served model answers as a page in the browser, until Ctrl-C.

    Without --server an embedded server is started, as `fashion serve` does, and ends with the page.
    """
    from client.web import server

    listener = server.listen(host, port)
    found = nullcontext((servers.urls, servers.model_name)) if servers.urls else _embedded_server(servers.model_name)
    with found as (urls, model_name):
        page = server.url(listener, host)
        click.echo(f"Page  {page}")
        if _has_desktop() if opens is None else opens:
            # The socket listens: a browser that is quicker than the page waits.
            threading.Thread(target=webbrowser.open, args=(page,), daemon=True).start()
        server.run(listener, host, urls, model_name, servers.timeout, servers.security)


def _has_desktop() -> bool:
    """Whether a browser would open a window, and not take the terminal."""
    if not sys.stdout.isatty():
        return False
    return sys.platform in ("darwin", "win32") or any(os.environ.get(name) for name in ("DISPLAY", "WAYLAND_DISPLAY"))


@contextmanager
def _embedded_server(model_name: str) -> Iterator[tuple[tuple[str, ...], str]]:
    """The address, and the model's name, of a server that lives as long as the block.

    model_name: as in the options; unless it was given, the server has one of its own. Raises ClientError when it does
    not start.
    """
    is_given = click.get_current_context().get_parameter_source("model_name") is not ParameterSource.DEFAULT
    name = ["--model-name", model_name] if is_given else []
    command = [
        *module_command("client.cli"),
        "serve",
        "--backend",
        "embedded",
        "--port",
        "0",
        "--rest-port",
        "0",
        *name,
    ]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=sys.stderr, text=True) as process:
        assert process.stdout is not None
        try:
            address, name_there = _rest_address(process, process.stdout)
            yield (address,), name_there
        finally:
            process.terminate()


def _rest_address(process: subprocess.Popen[str], stdout: IO[str]) -> tuple[str, str]:
    """Where the server answers REST, which has the metrics, and its model, once it does; its words are passed on."""
    address, name = "", ""
    for line in stdout:
        click.echo(line, nl=False)
        if match := _REST.fullmatch(line.strip()):
            address, name = match[1], unquote(match[2])
        if line.startswith("Stop"):
            threading.Thread(target=_pass_on, args=(stdout,), daemon=True).start()
            return address, name
    error = ClientUsageError if (code := process.wait()) == EXIT_USAGE else ClientError
    raise error(f"the embedded server ended with exit code {code}, as said above: --server names one that runs")


def _pass_on(stdout: IO[str]) -> None:
    for line in stdout:
        click.echo(line, nl=False)

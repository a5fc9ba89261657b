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

import click

from client.commands.options import Servers, with_servers
from client.errors import ClientError, ClientUsageError
from fashion_common.errors import EXIT_USAGE
from fashion_common.installation import module_command

_REST = re.compile(r"REST  (https?://[^/]+)/")


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
    with nullcontext(servers.urls) if servers.urls else _embedded_server(servers.model_name) as urls:
        page = server.url(listener, host)
        click.echo(f"Page  {page}")
        if _has_desktop() if opens is None else opens:
            # The socket listens: a browser that is quicker than the page waits.
            threading.Thread(target=webbrowser.open, args=(page,), daemon=True).start()
        server.run(listener, host, urls, servers.model_name, servers.timeout, servers.security)


def _has_desktop() -> bool:
    """Whether a browser would open a window, and not take the terminal."""
    if not sys.stdout.isatty():
        return False
    return sys.platform in ("darwin", "win32") or any(os.environ.get(name) for name in ("DISPLAY", "WAYLAND_DISPLAY"))


@contextmanager
def _embedded_server(model_name: str) -> Iterator[tuple[str]]:
    """The address of a server that lives as long as the block. Raises ClientError when it does not start."""
    command = [*module_command("client.cli"), "serve", "--backend", "embedded", "--model-name", model_name]
    command += ["--port", "0", "--rest-port", "0"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=sys.stderr, text=True) as process:
        assert process.stdout is not None
        try:
            yield (_rest_address(process, process.stdout),)
        finally:
            process.terminate()


def _rest_address(process: subprocess.Popen[str], stdout: IO[str]) -> str:
    """Where the server answers REST, which has the metrics, once it does; what it prints is passed on."""
    address = ""
    for line in stdout:
        click.echo(line, nl=False)
        if match := _REST.match(line):
            address = match[1]
        if line.startswith("Stop"):
            threading.Thread(target=_pass_on, args=(stdout,), daemon=True).start()
            return address
    error = ClientUsageError if (code := process.wait()) == EXIT_USAGE else ClientError
    raise error(f"the embedded server ended with exit code {code}, as said above: --server names one that runs")


def _pass_on(stdout: IO[str]) -> None:
    for line in stdout:
        click.echo(line, nl=False)

"""`fashion serve`: checks what is to be served, and runs a server in the foreground."""

from __future__ import annotations

import importlib.util
import re
import signal
import subprocess
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from types import FrameType

import click

from fashion_common.errors import EXIT_USAGE, FashionError
from serving.backends import BACKENDS, ServeOptions
from serving.embedded.source import check_base_path
from serving.errors import ServingError

_DEFAULTS = ServeOptions()
_GRPC_LINE = re.compile(r"Running gRPC ModelServer at (\S+) \.\.\.")
_REST_LINE = re.compile(r"Exporting HTTP/REST API at:(\S+) \.\.\.")


class ServeUsageError(FashionError):
    """The base path cannot be served."""

    exit_code = EXIT_USAGE


class ServerEndedError(FashionError):
    """The server ended by itself."""


@click.command(epilog="Example: fashion serve --rest-port 0")
@click.option(
    "--model-base-path",
    type=click.Path(path_type=Path),
    default=_DEFAULTS.model_base_path,
    show_default=True,
    help="Directory of numbered versions, as `fashion export` writes it.",
)
@click.option("--model-name", default=_DEFAULTS.model_name, show_default=True, help="The name clients ask for.")
@click.option(
    "--port", type=click.IntRange(0, 65535), default=_DEFAULTS.port, show_default=True, help="gRPC; 0 picks a free one."
)
@click.option(
    "--rest-port",
    type=click.IntRange(0, 65535),
    default=_DEFAULTS.rest_port,
    show_default=True,
    help="REST; 0 picks a free one.",
)
@click.option("--host", default=_DEFAULTS.host, show_default=True, help="Address to listen on: this machine only.")
@click.pass_context
def serve(ctx: click.Context, *, model_base_path: Path, model_name: str, port: int, rest_port: int, host: str) -> None:
    """Serve the newest version over gRPC and REST, in the foreground, until Ctrl-C or SIGTERM."""
    verbose = bool(ctx.find_root().meta.get("verbose"))
    options = ServeOptions(model_base_path, model_name, host, port, rest_port, verbose)
    check(options)
    ctx.exit(run(BACKENDS["embedded"](options), options))


def check(options: ServeOptions) -> None:
    """Raises ServeUsageError, with the fix, when there is nothing to serve or nothing to serve it with."""
    try:
        check_base_path(options.model_name, options.model_base_path)
    except ServingError as error:
        missing = not options.model_base_path.exists()
        raise ServeUsageError(
            f"{error}. `fashion export` writes the first version" if missing else str(error)
        ) from error
    if options.port == options.rest_port != 0:
        raise ServeUsageError(f"--port and --rest-port are both {options.port}: give each its own")
    if importlib.util.find_spec("tensorflow") is None:
        raise ServeUsageError("fashion serve needs the extra [embedded]: pip install 'fashion-mnist-serving[embedded]'")


def run(command: Sequence[str], options: ServeOptions) -> int:
    """Runs a server until it ends, and says where it listens. Gives the exit code: 0 when it was asked to stop.

    Raises ServerEndedError, with the server's last words, when it ended by itself.
    """
    click.echo(f"Loading {options.model_name} from {options.model_base_path} ...")
    click.echo("Waiting requests are merged, up to 128 rows a run (serving/config/batching.config)")
    with (
        subprocess.Popen(command, stderr=subprocess.PIPE, text=True, errors="replace") as process,
        _forwarded_signals(process) as asked,
    ):
        last = _follow(process, options)
        code = process.wait()
    if asked and code == 0:
        click.echo("Stopped.")
        return 0
    raise ServerEndedError(f"the server ended with exit code {code}: {last}")


def _follow(process: subprocess.Popen[str], options: ServeOptions) -> str:
    """Passes the server's stderr on; where it listens becomes text for the user. Gives its last line."""
    last = "it said nothing (--verbose shows more)"
    assert process.stderr is not None
    grpc_at = ""
    for line in process.stderr:
        last = line.strip() or last
        if found := _GRPC_LINE.search(line):
            grpc_at = found[1]
            click.echo(f"gRPC  grpc://{grpc_at}")
        elif found := _REST_LINE.search(line):
            click.echo(f"REST  http://{found[1]}/v1/models/{options.model_name}")
            click.echo(f"Try   fashion predict --server grpc://{grpc_at} IMAGE.png")
            click.echo("Stop  Ctrl-C")
        else:
            print(line, end="", file=sys.stderr, flush=True)
    return last


@contextmanager
def _forwarded_signals(process: subprocess.Popen[str]) -> Iterator[list[int]]:
    """Hands SIGINT and SIGTERM to the server, which drains and ends; gives the list of those that came."""
    came: list[int] = []

    def forward(number: int, _: FrameType | None) -> None:
        came.append(number)
        process.send_signal(signal.SIGTERM)

    before = {number: signal.signal(number, forward) for number in (signal.SIGINT, signal.SIGTERM)}
    try:
        yield came
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)

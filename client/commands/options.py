"""The options that several commands share; above all those that say which server and which model."""

from __future__ import annotations

import functools
import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, get_args

import click

from client import limits
from client.errors import ClientUsageError, ServerError
from client.transports.address import DEFAULT_SERVER
from client.types import Preprocess
from fashion_common.served_model import MODEL_NAME

if TYPE_CHECKING:
    from client.connection import Connection
    from client.transports.security import Security

FILE = click.Path(dir_okay=False, path_type=Path)
as_json_option = click.option("--json", "as_json", is_flag=True, help="Print JSON.")
signature_option = click.option(
    "--signature", "signature_name", help="The signature to run.  [default: serving_default]"
)
preprocess_option = click.option(
    "--preprocess",
    type=click.Choice(get_args(Preprocess)),
    default="auto",
    show_default=True,
    help="photo: as the data set was made; none: only gray and 28x28; auto: photo unless gray 28x28.",
)
data_dir_option = click.option(
    "--data-dir",
    type=click.Path(file_okay=False, path_type=Path),
    help="Where the test set's original t10k files lie.  [default: as in fashion evaluate]",
)
concurrency_option = click.option(
    "--concurrency",
    type=click.IntRange(1, limits.MAX_CONCURRENCY),
    default=limits.CONCURRENCY,
    show_default=True,
    help="Requests in flight.",
)

rate_option = click.option(
    "--rate",
    type=click.FloatRange(0, limits.MAX_RATE, min_open=True),
    help="Requests a second that are due, sent by --concurrency threads.",
)

arrivals_option = click.option(
    "--arrivals",
    type=click.Choice(["constant", "poisson"]),
    help="When the requests of --rate are due: evenly spaced, or by chance, every time the same.  [default: constant]",
)


def due_times(rate: float | None, arrivals: str | None) -> Iterator[float] | None:
    """When the requests of `--rate` and `--arrivals` are due; None without a rate. Raises click.UsageError."""
    from client.load import constant, poisson

    if rate is None:
        if arrivals:
            raise click.UsageError(f"--arrivals {arrivals} is for requests that are due at a rate: give --rate too")
        return None
    return poisson(rate) if arrivals == "poisson" else constant(rate)


def batch_size_option(default: int = limits.BATCH_SIZE) -> Callable[[Callable[..., None]], Callable[..., None]]:
    """The option `--batch-size`."""
    return click.option(
        "--batch-size", type=click.IntRange(1), default=default, show_default=True, help="Images a request."
    )


def figure_option(text: str) -> Callable[[Callable[..., None]], Callable[..., None]]:
    """The option `--save-figure` with this help; the name's ending is checked before any work is done."""

    def check(_ctx: click.Context, _option: click.Parameter, path: Path | None) -> Path | None:
        if path and path.suffix.lower() not in (".png", ".svg", ".pdf"):
            raise click.UsageError(f"{path}: a figure's name ends in .png, .svg or .pdf")
        return path

    return click.option("--save-figure", type=FILE, callback=check, help=text)


def _shared(option: str, *names: str, **settings: Any) -> Callable[[Callable[..., None]], Callable[..., None]]:
    """An option of all commands that ask a server: its variable has no command in its name, as FASHION_SERVER."""
    variable = f"FASHION_{option[2:].upper().replace('-', '_')}"
    return click.option(option, *names, envvar=variable, **settings)


@dataclass(frozen=True)
class Servers:
    """What the options say of servers: their URLs, the model there, and how it is asked."""

    urls: tuple[str, ...]
    model_name: str
    timeout: float
    security: Security

    @contextmanager
    def connection(
        self,
        model_version: int | None = None,
        version_label: str | None = None,
        *,
        url: str | None = None,
        retry: bool = True,
    ) -> Iterator[Connection]:
        """A connection to a version there, by default the newest.

        url: of another server. retry: as of `client.connect`. A ServerError that passes through it says what is wrong
        with the connection, where it is that.
        """
        from client.connection import connect
        from client.types import ModelSpec

        urls = (url,) if url else self.urls
        model = ModelSpec(self.model_name, model_version, version_label)
        with connect(*urls, model=model, timeout=self.timeout, security=self.security, retry=retry) as connection:
            try:
                yield connection
            except ServerError as error:
                raise explained(error, connection) from error


def with_servers(command: Callable[..., None]) -> Callable[..., None]:
    """Gives a command the options of connections but for the version, and calls it with the `servers`."""

    @_shared(
        "--server",
        "urls",
        multiple=True,
        show_envvar=True,
        metavar="URL",
        help=f"grpc[s]:// or http[s]://HOST:PORT, or unix:///PATH; several are balanced.  [default: {DEFAULT_SERVER}]",
    )
    @_shared("--model-name", default=MODEL_NAME, show_default=True, help="The served model.")
    @_shared(
        "--timeout",
        type=float,
        default=limits.TIMEOUT,
        show_default=True,
        metavar="SECONDS",
        help="Deadline of a request.",
    )
    @_shared(
        "--header",
        "headers",
        multiple=True,
        metavar="KEY=VALUE",
        help="A header for a gateway, such as authorization='Bearer TOKEN'; never printed.",
    )
    @_shared(
        "--token-file", type=FILE, help="The file with your token, sent over TLS or to this machine; or FASHION_TOKEN."
    )
    @_shared("--tls-ca", type=FILE, help="Certificate authorities to trust (PEM).")
    @_shared("--tls-certificate", type=FILE, help="Client certificate (PEM).")
    @_shared("--tls-key", type=FILE, help="Its key (PEM).")
    @_shared("--tls-server-name", help="The name in the server's certificate.")
    @functools.wraps(command)
    def wrapper(
        urls: tuple[str, ...],
        model_name: str,
        timeout: float,
        headers: tuple[str, ...],
        token_file: Path | None,
        tls_ca: Path | None,
        tls_certificate: Path | None,
        tls_key: Path | None,
        tls_server_name: str | None,
        **options: object,
    ) -> None:
        from client.transports.security import Security, parse_headers

        token = _token(token_file)
        security = Security(tls_ca, tls_certificate, tls_key, tls_server_name, parse_headers(headers), token)
        command(servers=Servers(urls, model_name, timeout, security), **options)

    return wrapper


def _token(file: Path | None) -> str:
    """That of --token-file, else of FASHION_TOKEN; empty without. Raises ClientUsageError for a file without one."""
    if file is None:
        return os.environ.get("FASHION_TOKEN", "").strip()
    try:
        token = file.read_text(encoding="utf-8").strip()
    except (OSError, UnicodeDecodeError) as error:
        raise ClientUsageError(f"--token-file {file} cannot be read: {error}") from error
    if not token:
        raise ClientUsageError(f"--token-file {file} is empty: it holds the token that `fashion token` printed")
    return token


def with_connection(command: Callable[..., None], *, retry: bool = True) -> Callable[..., None]:
    """Gives a command the options of a connection, and calls it with the open `connection`.

    retry: as of `client.connect`.
    """

    @_shared(
        "--model-version", type=click.IntRange(min=0), metavar="N", help="A version by its number; else the newest."
    )
    @_shared("--version-label", help="A version by its label, such as stable.")
    @with_servers
    @functools.wraps(command)
    def wrapper(servers: Servers, model_version: int | None, version_label: str | None, **options: object) -> None:
        if model_version is not None and version_label is not None:
            raise click.UsageError("--model-version and --version-label exclude each other: give one")
        with servers.connection(model_version, version_label, retry=retry) as connection:
            command(connection=connection, **options)

    return wrapper


# For commands that measure: an error that is tried again would not be counted.
with_connection_without_retry = functools.partial(with_connection, retry=False)


def explained(error: ServerError, connection: Connection) -> ServerError:
    """The error with a hint that says what is wrong with the connection, where the error may come from that."""
    may_be_connection = error.code in ("UNAVAILABLE", "DEADLINE_EXCEEDED", "UNIMPLEMENTED", "INTERNAL", "UNKNOWN")
    return error.with_hint(connection.diagnosis()) if may_be_connection else error

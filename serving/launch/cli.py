"""`fashion serve`: checks what is to be served, chooses a backend, and runs it."""

from __future__ import annotations

import shlex
from collections.abc import Callable, Mapping
from dataclasses import replace
from pathlib import Path

import click
from click.core import ParameterSource

from fashion_common.exposure import exposure
from fashion_common.installation import CONFIG_FOLDER, MODELS_FILE
from fashion_common.labels import STABLE
from fashion_common.layout import version_number
from fashion_common.served_model import MODEL_NAME
from serving.launch import detached
from serving.launch.access import check_access, check_backend
from serving.launch.backends import BACKENDS, MODEL_SERVER, ServeOptions
from serving.launch.choose import AUTO, ENGINES, choose
from serving.launch.errors import LaunchError
from serving.launch.follow import following
from serving.launch.offer import Offer
from serving.launch.page import check_page, page
from serving.launch.prepare import (
    check_readable,
    check_server_flags,
    config_files,
    keep_labels,
    served_labels,
    temporary_config,
    versions_to_serve,
    with_free_ports,
)
from serving.launch.remote import following_source, opened, pull_first
from serving.launch.run import run_until_stopped, server_usage
from serving.launch.tls import client_arguments, wants_client_certificate

_DEFAULTS = ServeOptions()
_PORT = click.IntRange(0, 65535)
_FILE = click.Path(dir_okay=False, path_type=Path)
_MODES = ("print_command", "detach", "stop", "web")
_OF_CONTAINER = ("engine", "image")
_EXAMPLES = """Example: fashion serve --rest-port 0

\b
fashion serve --backend container --detach
fashion serve --stop
fashion serve --print-command -- --rest_api_enable_cors_support
"""


def _labels(_ctx: click.Context, _option: click.Parameter, values: tuple[str, ...]) -> dict[str, int]:
    labels = {}
    for text in values:
        label, _, number = text.partition("=")
        version = version_number(number)
        if not label or version is None:
            raise click.BadParameter(f"{text}: expected LABEL=VERSION, such as stable=3")
        labels[label] = version
    return labels


@click.command(epilog=_EXAMPLES, context_settings={"show_default": True})
@click.option(
    "--model-base-path",
    default=str(_DEFAULTS.model_base_path),
    metavar="DIR|ADDRESS",
    help="Directory of numbered versions, as `fashion export` writes it, or an address of one, as in `fashion pull`.",
)
@click.option(
    "--pull-to",
    type=click.Path(file_okay=False, path_type=Path),
    show_default="the user's cache",
    metavar="DIR",
    help="Directory of models that versions of an address are pulled to.",
)
@click.option(
    "--model-name",
    show_default="the last part of --model-base-path",
    help="The name clients ask for.",
)
@click.option("--port", type=_PORT, default=_DEFAULTS.port, help="gRPC; 0 picks a free one.")
@click.option("--rest-port", type=_PORT, default=_DEFAULTS.rest_port, help="REST; 0 picks a free one.")
@click.option("--host", default=_DEFAULTS.host, help="Address to listen on: this machine only.")
@click.option(
    "--backend",
    type=click.Choice([AUTO, *BACKENDS]),
    default=AUTO,
    help="auto: container where an engine runs and the machine is amd64, else tensorflow_model_server, else embedded.",
)
@click.option(
    "--engine",
    type=click.Choice(ENGINES),
    envvar=["FASHION_SERVE_ENGINE", "ENGINE"],
    help="Default: the one that runs.",
)
@click.option(
    "--image",
    default="",
    show_default=False,
    envvar=["FASHION_SERVE_IMAGE", "SERVING_IMAGE"],
    help=f"Image of the container.  [default: {_DEFAULTS.image_name}]",
)
@click.option("--gpu", is_flag=True, help="Container with the GPU image and all GPUs.")
@click.option(
    "--label",
    "given",
    multiple=True,
    metavar="LABEL=VERSION",
    callback=_labels,
    help="Move a label first, as `fashion label` does; again for more.",
)
@click.option(
    "--require-signature",
    "public_keys",
    type=click.Path(dir_okay=False, path_type=Path),
    multiple=True,
    metavar="PUBLIC_KEY",
    help="Serve only versions that this key signed; again for more keys, one of which is enough.",
)
@click.option(
    "--tls-cert", type=_FILE, help="The server's certificate (PEM): TLS, over gRPC and where it can over REST."
)
@click.option("--tls-key", type=_FILE, help="Its key (PEM).")
@click.option("--tls-client-ca", type=_FILE, help="Serve only clients with a certificate that these signed (PEM).")
@click.option("--token-file", type=_FILE, help="Serve only who has a token of this file (`fashion token`).")
@click.option("--wait", type=click.FloatRange(min=0), default=120, help="Seconds to get AVAILABLE.")
@click.option("--print-command", is_flag=True, help="Print the exact command line and start nothing.")
@click.option("--detach", is_flag=True, help="Return when the model is AVAILABLE, and leave the server running.")
@click.option("--stop", is_flag=True, help="End what --detach started on this --port.")
@click.option("--web", is_flag=True, help="Show the model as a page too, as `fashion web` does.")
@click.argument("server_flags", nargs=-1, type=click.UNPROCESSED)
@click.pass_context
def serve(
    ctx: click.Context,
    /,
    *,
    model_base_path: str,
    pull_to: Path | None,
    public_keys: tuple[Path, ...],
    backend: str,
    engine: str | None,
    given: dict[str, int],
    wait: float,
    print_command: bool,
    detach: bool,
    stop: bool,
    web: bool,
    **settings: object,
) -> None:
    """Serve the newest version over gRPC and REST, in the foreground, until Ctrl-C or SIGTERM.

    SERVER_FLAGS, after --, go to the server as they are: those of tensorflow_model_server.
    """
    _check_contradictions(ctx)
    puller = None if stop else opened(model_base_path, pull_to, public_keys)
    base_path = puller.model_base_path if puller else Path(model_base_path)
    settings["model_name"] = settings["model_name"] or base_path.absolute().name
    options = ServeOptions(
        verbose=bool(ctx.find_root().meta.get("verbose")),
        model_base_path=base_path,
        address=model_base_path if puller else "",
        public_keys=public_keys,
        **settings,  # type: ignore[arg-type]
    )
    if stop:
        detached.stop(options.port)
        click.echo("Stopped.")
        return
    if "--help" in options.server_flags:
        click.echo(server_usage(choose(backend, options, engine)[0]))
        return
    check_server_flags(options)
    check_page(wanted=web)
    check_access(options, web=web)
    if not print_command:
        pull_first(puller)
    offer = Offer(options.public_keys)
    versions = versions_to_serve(options, offer)
    labels = served_labels(options, given, versions)
    options, reason = choose(backend, options, engine, only_show=print_command)
    check_backend(options)
    if 0 in (options.port, options.rest_port) or not print_command:
        options = with_free_ports(options)
    options = replace(options, versions=sorted({*labels.values(), max(versions)}))
    files = config_files(options, labels, versions)
    if print_command:
        _print_command(options, files)
        return
    if reason:
        click.echo(f"Backend {options.backend}: {reason}")
    if options.backend == "container":
        check_readable(options.model_base_path, versions[max(versions)])
        if not options.init:
            click.echo("Note: podman has no init process here (install catatonit): stopping may take 10 s", err=True)
    keep_labels(options, given, labels[STABLE])
    names = ", ".join(f"{label}={version}" for label, version in sorted(labels.items()))
    click.echo(f"Loading {options.model_name} from {options.model_base_path} ({names}) ...")
    # A signature that mixes rows would answer differently: it is never silent.
    click.echo("Waiting requests are merged into one run (serving/config/batching.config)")
    if detach:
        log_command = detached.start(options, files, wait)
        port = "" if options.port == _DEFAULTS.port else f" --port {options.port}"
        _echo_addresses(options, f"fashion serve --stop{port}")
        click.echo(f"Log   {log_command}")
        return
    with (
        temporary_config(options, files) as configured,
        following_source(puller),
        following(configured, _record_directory(options.port), offer),
        page(options, wanted=web) as start_page,
    ):
        run_until_stopped(configured, wait, lambda: _announce(options, start_page))
    click.echo("Stopped.")


def _check_contradictions(ctx: click.Context) -> None:
    """Raises click.UsageError for arguments that exclude each other. What the environment says is no argument."""
    arguments = {
        option.name: option.opts[0]
        for option in ctx.command.params
        if ctx.params.get(option.name) and ctx.get_parameter_source(option.name) is ParameterSource.COMMANDLINE
    }
    modes = [arguments[name] for name in _MODES if name in arguments]
    if len(modes) > 1:
        raise click.UsageError(f"{' and '.join(modes)} exclude each other: give one of them", ctx)
    of_container = [arguments[name] for name in _OF_CONTAINER if name in arguments]
    backend = ctx.params["backend"]
    if of_container and backend not in (AUTO, "container"):
        raise click.UsageError(f"{' and '.join(of_container)} is for --backend container, not {backend}", ctx)


def _print_command(options: ServeOptions, files: Mapping[str, str]) -> None:
    """Shows the command line, and on stderr what it reads that is not there yet: nothing is written."""
    directory = detached.port_directory(options.port) / CONFIG_FOLDER
    options = replace(options, config_dir=directory)
    models_file = directory / MODELS_FILE
    if not models_file.is_file() or models_file.read_text(encoding="utf-8") != files[MODELS_FILE]:
        content = " ".join(map(str.strip, files[MODELS_FILE].splitlines()))
        click.echo(f"Note: nothing was written. --detach would write {models_file}: {content}", err=True)
    click.echo(shlex.join(BACKENDS[options.backend](options)))


def _record_directory(port: int) -> Path | None:
    """Where the server on a port is recorded; None for a user without a home directory."""
    try:
        return detached.port_directory(port)
    except LaunchError:
        return None


def _announce(options: ServeOptions, start_page: Callable[[], None]) -> None:
    _echo_addresses(options, "Ctrl-C")
    start_page()


def _echo_addresses(options: ServeOptions, stop: str) -> None:
    click.echo(f"gRPC  {options.grpc_url}")
    click.echo(f"REST  {options.status_url}")
    server = client_arguments(options)
    garments = options.model_name == MODEL_NAME
    click.echo(
        f"Try   fashion predict --server {server} IMAGE.png"
        if garments
        else f"Try   fashion call --server {server} --model-name {shlex.quote(options.model_name)}"
    )
    click.echo(f"Stop  {stop}")
    if options.ssl_config_file and options.backend != "embedded":
        click.echo(f"Note  REST is not encrypted: {MODEL_SERVER} has no TLS for it (--backend embedded has)", err=True)
    asks = options.token_file is not None or wants_client_certificate(options)
    if line := exposure(options.host, encrypted=bool(options.ssl_config_file), asks=asks):
        click.echo(f"Note  {line}", err=True)
    if options.backend == "binary":
        click.echo(
            f"Note  {MODEL_SERVER} listens on all addresses of this machine: it cannot be told otherwise", err=True
        )

"""`fashion serve`: checks what is to be served, chooses a backend, and runs it."""

from __future__ import annotations

import shlex
import tempfile
from dataclasses import replace
from pathlib import Path

import click

from fashion_common.layout import version_number
from serving.launch import detached
from serving.launch.backends import BACKENDS, MODEL_SERVER, ServeOptions, stop_container
from serving.launch.choose import AUTO, ENGINES, Choice, choose, has_init
from serving.launch.prepare import check_readable, complete_labels, versions_to_serve, with_config, with_free_ports
from serving.launch.run import run_until_stopped

_DEFAULTS = ServeOptions()
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


@click.command(epilog=_EXAMPLES)
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
@click.option(
    "--backend",
    type=click.Choice([AUTO, *BACKENDS]),
    default=AUTO,
    show_default=True,
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
    envvar=["FASHION_SERVE_IMAGE", "SERVING_IMAGE"],
    help=f"Image of the container.  [default: {_DEFAULTS.image_name}]",
)
@click.option("--gpu", is_flag=True, help="Container with the GPU image and all GPUs.")
@click.option(
    "--label",
    "labels",
    multiple=True,
    metavar="LABEL=VERSION",
    callback=_labels,
    help="Name for an exact version; again for more.  [default: canary, the newest; stable, the one before]",
)
@click.option("--wait", type=click.FloatRange(min=0), default=120, show_default=True, help="Seconds to get AVAILABLE.")
@click.option("--print-command", is_flag=True, help="Print the exact command line and start nothing.")
@click.option("--detach", is_flag=True, help="Return when the model is AVAILABLE, and leave the server running.")
@click.option("--stop", is_flag=True, help="End what --detach started on this --port.")
@click.argument("server_flags", nargs=-1, type=click.UNPROCESSED)
@click.pass_context
def serve(
    ctx: click.Context,
    /,
    *,
    backend: str,
    engine: str | None,
    labels: dict[str, int],
    wait: float,
    print_command: bool,
    detach: bool,
    stop: bool,
    **settings: object,
) -> None:
    """Serve the newest version over gRPC and REST, in the foreground, until Ctrl-C or SIGTERM.

    SERVER_FLAGS, after --, go to the server as they are: those of tensorflow_model_server.
    """
    options = ServeOptions(verbose=bool(ctx.find_root().meta.get("verbose")), **settings)  # type: ignore[arg-type]
    if stop:
        detached.stop(options.port)
        click.echo("Stopped.")
        return
    versions = versions_to_serve(options)
    labels = complete_labels(labels, versions)
    choice = choose(backend, options, engine, fetch=not print_command)
    if 0 in (options.port, options.rest_port) or not print_command:
        options = with_free_ports(options)
    options = replace(options, engine=choice.engine, init=has_init(choice.engine))
    config_dir = detached.state_directory(options.port) / "config"
    if print_command:
        click.echo(shlex.join(BACKENDS[choice.backend](with_config(options, choice.backend, labels, config_dir))))
        return
    if choice.reason:
        click.echo(f"Backend {choice.backend}: {choice.reason}")
    if choice.backend == "container":
        check_readable(options.model_base_path, versions[max(versions)])
        if not options.init:
            click.echo("Note: podman has no init process here (install catatonit): stopping may take 10 s", err=True)
    click.echo(f"Loading {options.model_name} from {options.model_base_path} ...")
    # A signature that mixes rows would answer differently: it is never silent.
    click.echo("Waiting requests are merged into one run (serving/config/batching.config)")
    if detach:
        _detach(with_config(options, choice.backend, labels, config_dir), choice, wait)
        return
    with tempfile.TemporaryDirectory() as directory:
        # A temporary directory is open to its owner alone; the one in it can be mounted for a container's user.
        _run(with_config(options, choice.backend, labels, Path(directory) / "config"), choice, wait)
    click.echo("Stopped.")


def _run(options: ServeOptions, choice: Choice, wait: float) -> None:
    run_until_stopped(
        BACKENDS[choice.backend](options),
        options,
        wait,
        lambda: _echo_addresses(options, choice, "Ctrl-C"),
        stop_command=stop_container(options.engine, options.container_name) if choice.backend == "container" else (),
        # The embedded server's log is meant for the user; TensorFlow Serving's is for when something is wrong.
        show_log=choice.backend == "embedded" or options.verbose,
    )


def _detach(options: ServeOptions, choice: Choice, wait: float) -> None:
    log_command = detached.start(choice.backend, options, wait)
    port = "" if options.port == _DEFAULTS.port else f" --port {options.port}"
    _echo_addresses(options, choice, f"fashion serve --stop{port}")
    click.echo(f"Log   {log_command}")


def _echo_addresses(options: ServeOptions, choice: Choice, stop: str) -> None:
    click.echo(f"gRPC  {options.grpc_url}")
    click.echo(f"REST  {options.status_url}")
    click.echo(f"Try   fashion predict --server {options.grpc_url} IMAGE.png")
    click.echo(f"Stop  {stop}")
    if choice.backend == "binary":
        click.echo(
            f"Note  {MODEL_SERVER} listens on all addresses of this machine: it cannot be told otherwise", err=True
        )

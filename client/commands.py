"""The client's own commands: `fashion predict` and `fashion status`."""

from __future__ import annotations

import functools
import json
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

import click

from client.address import DEFAULT_SERVER
from fashion_common.errors import EXIT_FAILED

if TYPE_CHECKING:
    from client.connection import Connection, Prediction


def _with_connection(command: Callable[..., None]) -> Callable[..., None]:
    """Gives a command the options that say where and what the model is, and calls it with the open connection."""

    @click.option(
        "--server", default=DEFAULT_SERVER, show_default=True, metavar="URL", help="grpc:// or http://HOST:PORT."
    )
    @click.option("--model-name", default="fashion_mnist", show_default=True, help="The served model.")
    @click.option("--model-version", type=click.IntRange(min=0), help="A version by its number; else the newest.")
    @click.option("--version-label", help="A version by its label, such as stable.")
    @click.option("--timeout", default=10.0, show_default=True, metavar="SECONDS", help="Deadline of a request.")
    @functools.wraps(command)
    def connected(
        server: str,
        model_name: str,
        model_version: int | None,
        version_label: str | None,
        timeout: float,
        **options: object,
    ) -> None:
        from client.connection import connect
        from client.transport import ModelSpec

        if model_version is not None and version_label is not None:
            raise click.UsageError("--model-version and --version-label exclude each other: give one")
        model = ModelSpec(model_name, model_version, version_label)
        with connect(server, model=model, timeout=timeout) as connection:
            command(connection=connection, **options)

    return connected


@click.command(epilog="Example: fashion predict build/demo/*.png --server http://127.0.0.1:8501")
@click.argument("images", nargs=-1, required=True, metavar="IMAGE...", type=click.Path(path_type=Path))
@click.option("--json", "as_json", is_flag=True, help="Print JSON: a list with an object for each image.")
@_with_connection
def predict(connection: Connection, images: tuple[Path, ...], as_json: bool) -> None:
    """Print the class names of images: file, class name, probability."""
    from client.images import read_image

    arrays = [read_image(path) for path in images]
    predictions = connection.predict(arrays)
    click.echo(_as_json(images, predictions) if as_json else _as_table(images, predictions))


@click.command(epilog="Example: fashion status --server http://127.0.0.1:8501")
@click.option("--json", "as_json", is_flag=True, help="Print JSON: a list with an object for each version.")
@_with_connection
def status(connection: Connection, as_json: bool) -> None:
    """Print the state of the served model's versions; exit 0 when one is AVAILABLE."""
    versions = connection.status()
    if as_json:
        click.echo(json.dumps([vars(version) for version in versions], indent=2))
    else:
        for version in versions:
            trouble = "" if version.error_code == "OK" else f"  {version.error_code}: {version.error_message}"
            click.echo(f"{connection.model.name}  {version.version}  {version.state}{trouble}")
    if not any(version.state == "AVAILABLE" for version in versions):
        click.get_current_context().exit(EXIT_FAILED)


def _as_table(images: tuple[Path, ...], predictions: list[Prediction]) -> str:
    width = max(len(str(image)) for image in images)
    name_width = max(len(prediction.class_name) for prediction in predictions)
    return "\n".join(
        f"{image!s:<{width}}  {prediction.class_name:<{name_width}}  {prediction.probability:.4f}"
        for image, prediction in zip(images, predictions, strict=True)
    )


def _as_json(images: tuple[Path, ...], predictions: list[Prediction]) -> str:
    return json.dumps(
        [{"file": str(image), **vars(prediction)} for image, prediction in zip(images, predictions, strict=True)],
        indent=2,
    )

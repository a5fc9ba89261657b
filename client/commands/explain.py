"""`fashion explain`."""

from __future__ import annotations

import json
import os
import sys
from pathlib import Path
from typing import TYPE_CHECKING

import click

from client.commands.options import with_connection

if TYPE_CHECKING:
    from client.connection import Connection
    from client.pictures.images import Preprocess


@click.command(epilog="Example: fashion explain my-shirt.jpg --output what-the-model-saw.png")
@click.argument("image", type=click.Path(dir_okay=False, path_type=Path))
@click.option(
    "--preprocess",
    type=click.Choice(["auto", "photo", "none"]),
    default="auto",
    show_default=True,
    help="As in fashion predict.",
)
@click.option("--signature", "signature_name", help="The signature to run.  [default: serving_default]")
@click.option(
    "--output",
    type=click.Path(dir_okay=False, path_type=Path),
    help="Save what the model saw as PNG, ten times as large.",
)
@click.option("--json", "as_json", is_flag=True, help="Print JSON.")
@with_connection
def explain(
    connection: Connection,
    image: Path,
    preprocess: Preprocess,
    signature_name: str | None,
    output: Path | None,
    as_json: bool,
) -> None:
    """Show what the model saw of IMAGE, and why its answer may be wrong."""
    from client.commands.explanation import TRAINING_INK, TRAINING_MEAN
    from client.commands.explanation import explain as ask
    from client.commands.terminal import bar_lines, picture_lines, side_by_side
    from client.pictures.images import read_image, save_enlarged

    found = ask(connection, read_image(image, str(image), preprocess), signature_name)
    if output:
        save_enlarged(found.pixels, output)
    hints = found.hints()
    variants = {"as it is": found.as_it_is, "inverted": found.inverted, "trimmed": found.trimmed}
    if as_json:
        answers = {name: prediction._asdict() for name, prediction in variants.items()}
        click.echo(json.dumps({"mean": found.mean, "ink": found.ink, "answers": answers, "hints": hints}, indent=2))
        return
    colour = sys.stdout.isatty() and "NO_COLOR" not in os.environ
    click.echo(side_by_side(picture_lines(found.pixels, colour=colour), bar_lines(found.as_it_is)))
    click.echo(f"\nmean pixel  {found.mean:6.1f}   in the training set {TRAINING_MEAN:.1f}")
    click.echo(f"not black   {found.ink:6.1%}   in the training set {TRAINING_INK:.1%}\n")
    for name, prediction in variants.items():
        click.echo(f"{name:<10}  {prediction.class_name}  {prediction.probability:.4f}")
    for hint in hints:
        click.echo(f"hint: {hint}")

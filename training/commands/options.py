"""Options that several of training's commands have, and what is printed for them."""

from __future__ import annotations

import json
from pathlib import Path

import click

from fashion_common.layout import MODEL_BASE_PATH

model_base_path_option = click.option(
    "--model-base-path",
    type=click.Path(file_okay=False, path_type=Path),
    default=MODEL_BASE_PATH,
    show_default=True,
    help="Directory of the model's numbered versions.",
)
json_option = click.option("--json", "as_json", is_flag=True, help="Print the result as JSON.")


def print_json(value: object) -> None:
    """Prints the value as indented JSON; paths as text."""
    click.echo(json.dumps(value, indent=2, default=str))

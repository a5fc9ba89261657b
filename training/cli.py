"""The commands of training and export: options -> one call. TensorFlow is imported inside, so that help is instant."""

from __future__ import annotations

import json
from pathlib import Path

import click

DEFAULT_MODEL_BASE_PATH = Path("models/fashion_mnist")


@click.command(epilog="Example: fashion export runs/latest --model-base-path models/fashion_mnist")
@click.argument("run", type=click.Path(path_type=Path), default=Path("runs/latest"), required=False)
@click.option(
    "--model-base-path",
    type=click.Path(file_okay=False, path_type=Path),
    default=DEFAULT_MODEL_BASE_PATH,
    show_default=True,
    help="Where the numbered versions of the model lie.",
)
@click.option("--json", "as_json", is_flag=True, help="Print version and path as JSON.")
def export(run: Path, model_base_path: Path, as_json: bool) -> None:
    """Export RUN (default: runs/latest) as the next version of the served model, and print its path."""
    from training.export import export_saved_model

    exported = export_saved_model(run, model_base_path)
    if as_json:
        click.echo(json.dumps({"version": exported.version, "path": str(exported.path)}))
    else:
        click.echo(exported.path)

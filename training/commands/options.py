"""Options that several of training's commands have, and what is printed for them."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING

import click

from fashion_common.layout import MODEL_BASE_PATH

if TYPE_CHECKING:
    from training.export.server_config import NamedVersions

model_base_path_option = click.option(
    "--model-base-path",
    type=click.Path(file_okay=False, path_type=Path),
    default=MODEL_BASE_PATH,
    show_default=True,
    help="Directory of the model's numbered versions.",
)
model_config_file_option = click.option(
    "--model-config-file",
    type=click.Path(dir_okay=False, exists=True, path_type=Path),
    help="The server's model configuration, for its version labels.  [default: serving/config/models.config]",
)
json_option = click.option("--json", "as_json", is_flag=True, help="Print the result as JSON.")


def named_versions(model_config_file: Path | None, model_base_path: Path) -> NamedVersions:
    """The versions that the server's configuration, by default the one that comes with it, labels or pins."""
    from serving.apis import CONFIG_DIR
    from training.export.server_config import read_named_versions

    return read_named_versions(model_config_file or CONFIG_DIR / "models.config", model_base_path)


def print_json(value: object) -> None:
    """Prints the value as indented JSON; paths as text."""
    click.echo(json.dumps(value, indent=2, default=str))

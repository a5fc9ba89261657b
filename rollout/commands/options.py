"""The options that the commands about labels share."""

from __future__ import annotations

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
reason_option = click.option("--reason", default="", metavar="TEXT", help="Why, for the history.")
wait_option = click.option(
    "--wait",
    type=click.FloatRange(min=0),
    default=30,
    show_default=True,
    metavar="SECONDS",
    help="Seconds in which running servers must answer by it.",
)
dry_run_option = click.option("--dry-run", is_flag=True, help="Say what would change, and change nothing.")
json_option = click.option("--json", "as_json", is_flag=True, help="Print JSON.")
models_config_option = click.option(
    "--models-config",
    type=click.Path(dir_okay=False, exists=True, path_type=Path),
    help="Write the labels into this models.config too, as compose mounts it.",
)

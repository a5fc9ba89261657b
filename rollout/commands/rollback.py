"""`fashion rollback`."""

from __future__ import annotations

from pathlib import Path

import click

from fashion_common.labels import ROLLBACK, STABLE
from rollout.commands.label import apply
from rollout.commands.options import (
    dry_run_option,
    json_option,
    model_base_path_option,
    models_config_option,
    reason_option,
    wait_option,
)


@click.command(epilog='Example: fashion rollback --reason "boots are shirts"')
@click.argument("label", default=STABLE)
@model_base_path_option
@reason_option
@wait_option
@models_config_option
@dry_run_option
@json_option
def rollback(
    *,
    label: str,
    model_base_path: Path,
    reason: str,
    wait: float,
    models_config: Path | None,
    dry_run: bool,
    as_json: bool,
) -> None:
    """Return LABEL (default: stable) to the version that it named before; again for the one before that."""
    from rollout.move import previous

    apply(
        model_base_path,
        {label: previous(model_base_path, label)},
        action=ROLLBACK,
        reason=reason,
        wait=wait,
        models_config=models_config,
        dry_run=dry_run,
        as_json=as_json,
    )

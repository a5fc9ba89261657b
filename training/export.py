"""Exports a trained model as the next version that a server picks up."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from training.publish import publish, staging_directory
from training.signatures import write_saved_model
from training.trained import load_run


@dataclass(frozen=True)
class ExportedVersion:
    """A published version: its number and its directory."""

    version: int
    path: Path


def export_saved_model(run: Path, model_base_path: Path) -> ExportedVersion:
    """Writes the model of the run directory `run` as the next version under `model_base_path`.

    Raises TrainingUsageError for a run without a servable model or a base path that cannot be written.
    """
    model = load_run(run)
    with staging_directory(model_base_path) as staging:
        write_saved_model(model, staging)
        path = publish(staging, model_base_path)
    return ExportedVersion(int(path.name), path)

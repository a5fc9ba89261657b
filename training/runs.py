"""The run directory: the files of a training run, each of them whole or not there."""

from __future__ import annotations

import json
import os
from collections.abc import Callable
from datetime import datetime
from pathlib import Path
from typing import Any

import keras

from fashion_common.files import write_whole
from training.config import TrainingConfig
from training.errors import TrainingUsageError
from training.fit import models

RUNS_DIR = Path("runs")
LATEST = "latest"
MODEL = "model.keras"
ARCHITECTURE = "model.json"
WEIGHTS = "model.weights.h5"
HDF5 = "model.h5"
HISTORY = "history.json"
METRICS = "metrics.json"
CONFIG = "config.json"


def default_run_dir(recipe: str) -> Path:
    """`runs/<local time>-<recipe>`, with a number behind it where that is taken."""
    name = f"{datetime.now().astimezone():%Y%m%d-%H%M%S}-{recipe}"
    candidate, number = RUNS_DIR / name, 2
    while candidate.exists():
        candidate, number = RUNS_DIR / f"{name}-{number}", number + 1
    return candidate


def create(run_dir: Path) -> None:
    """Makes the directory; raises TrainingUsageError where it holds something already or cannot be made."""
    try:
        run_dir.mkdir(parents=True, exist_ok=True)
        if any(run_dir.iterdir()):
            raise TrainingUsageError(f"{run_dir} is not empty: name a new directory for this run")
    except OSError as error:
        raise TrainingUsageError(f"{run_dir} cannot be made ({error.strerror}): name a writable directory") from error


def unfinished_config(run_dir: Path) -> TrainingConfig:
    """The configuration of an interrupted run; raises TrainingUsageError where there is none to go on with."""
    if not (run_dir / CONFIG).is_file():
        raise TrainingUsageError(f"{run_dir} holds no run to resume ({CONFIG} is missing): name an interrupted run")
    if (run_dir / METRICS).exists():
        raise TrainingUsageError(f"{run_dir} is finished: there is nothing to resume; begin a new run")
    settings = read_json(run_dir / CONFIG)
    try:
        return TrainingConfig.from_json(settings)
    except TrainingUsageError as error:
        raise TrainingUsageError(f"{run_dir / CONFIG}: {error}. Correct it, or begin a new run") from error


def check_finished(run_dir: Path) -> None:
    """Raises TrainingUsageError where the directory holds no finished run; for an interrupted one with how to go on.

    Without a `latest`, which only a finished run makes, it is the run that was begun last beside it.
    """
    begun = [run_dir / CONFIG]
    if run_dir.name == LATEST and not run_dir.exists():
        begun = sorted(run_dir.parent.glob(f"*/{CONFIG}"), key=lambda path: path.stat().st_mtime)[-1:]
    for path in begun:
        if path.is_file() and not path.with_name(METRICS).exists():
            raise TrainingUsageError(f"{path.parent} is not finished: go on with: fashion train --resume {path.parent}")
    if not (run_dir / MODEL).is_file():
        raise TrainingUsageError(
            f"No trained model at {run_dir / MODEL}: run `fashion train` first, or name a run directory"
        )


def write_json(path: Path, content: object) -> None:
    """Writes one JSON file, indented, whole. Raises OSError."""
    write_whole(path, json.dumps(content, indent=2) + "\n")


def read_json(path: Path) -> dict[str, Any]:
    """One JSON file's object; raises TrainingUsageError where it is missing, damaged or holds anything else."""
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise TrainingUsageError(
            f"{path} cannot be read as JSON ({error}): name the directory of a finished run"
        ) from error
    if not isinstance(content, dict):
        raise TrainingUsageError(
            f"{path} holds {content!r}, no JSON object: name a directory that `fashion train` made"
        )
    return content


def save_model(model: keras.Model, run_dir: Path) -> None:
    """Saves weights and architecture together (.keras, .h5) and apart (.json, .weights.h5). Raises OSError.

    Keras's HDF5 format holds no subclassed models: such a model's `model.h5` is its functional form, with its weights.
    (https://keras.io/api/models/model_saving_apis/)
    """
    architecture = model.to_json()
    bare = keras.models.model_from_json(architecture)  # not compiled: its weights are the model's, not the optimizer's
    bare.set_weights(model.get_weights())
    _save_whole(run_dir / MODEL, model.save)
    write_json(run_dir / ARCHITECTURE, json.loads(architecture))
    _save_whole(run_dir / WEIGHTS, bare.save_weights)
    hdf5_form = model
    if isinstance(model, models.SubclassedModel):
        hdf5_form = models.build(model.name, "functional")
        hdf5_form.set_weights(model.get_weights())
    _save_whole(run_dir / HDF5, hdf5_form.save)


def point_latest(run_dir: Path) -> None:
    """Makes `latest` beside the run point at it, with one rename. Raises OSError."""
    link = run_dir.parent / LATEST
    temporary = run_dir.parent / f".{LATEST}-{os.getpid()}"
    temporary.unlink(missing_ok=True)
    temporary.symlink_to(run_dir.name)
    temporary.replace(link)


def _save_whole(path: Path, save: Callable[[Path], None]) -> None:
    temporary = path.with_name(f".writing-{path.name}")  # Keras chooses the format by the name's end
    try:
        save(temporary)
        temporary.replace(path)
    finally:
        temporary.unlink(missing_ok=True)

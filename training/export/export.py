"""Exports a trained model as the next version that a server picks up: written aside, tested, then published at once."""

from __future__ import annotations

import shutil
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import tensorflow as tf

from fashion_common.layout import ASSETS_EXTRA, SELF_TEST_FILE, WARMUP_FILE
from fashion_common.served_model import CLASS_NAMES
from serving.apis.self_test import TOLERANCE, Case, write_archive
from training.errors import DamagedVersionError
from training.export.acceptance import Demands, accept
from training.export.golden import golden_cases
from training.export.manifest import (
    check_files,
    read_manifest,
    recorded_accuracy,
    write_manifest,
)
from training.export.publish import publish, staging_directory
from training.export.self_test import run_self_test, self_test_process
from training.export.signatures import describe_signatures, write_saved_model
from training.export.trained import TrainedModel
from training.export.versions import newest_with_manifest, remove_old_versions
from training.export.warmup import write_warmup

Report = Callable[[str], None]


@dataclass(frozen=True)
class Export:
    """How to export. model_base_path: where the versions lie; its name is the model's name.

    batch_sizes: of the warmup requests; with_copies: Keras's own files go into `assets.extra/`; keep: how many of the
    newest versions stay (None: all), besides those in `in_use`.
    """

    model_base_path: Path
    batch_sizes: tuple[int, ...] = (1,)
    demands: Demands = field(default_factory=Demands)
    with_copies: bool = False
    keep: int | None = None
    in_use: frozenset[int] = frozenset()


@dataclass(frozen=True)
class ExportedVersion:
    """A published version. differences: each signature's largest difference from Keras; forced: what was overridden."""

    version: int
    path: Path
    accuracy: float | None
    differences: dict[str, float]
    forced: list[str]
    removed: list[int]


def export_saved_model(trained: TrainedModel, export: Export, report: Report = lambda _: None) -> ExportedVersion:
    """Writes the model as the next version under the model base path, and publishes it when it answers as Keras does.

    `report` hears what is being done. Raises NotAcceptedError for a model that is worse than demanded, SelfTestError
    when the SavedModel differs from Keras, TrainingUsageError when the base path cannot be written.
    """
    forced = accept(trained, export.model_base_path, export.demands)
    golden = golden_cases(trained.model)
    with self_test_process() as self_test, staging_directory(export.model_base_path) as staging:
        report("Writing the SavedModel")
        _write(trained, export, golden, staging)
        report("Testing it in a new process")
        differences = self_test(staging)
        write_manifest(staging, _facts(trained, staging, export.model_base_path, differences, forced))
        path = publish(staging, export.model_base_path)
    removed = [] if export.keep is None else remove_old_versions(export.model_base_path, export.keep, export.in_use)
    return ExportedVersion(int(path.name), path, trained.accuracy, differences, forced, removed)


def verify(version_path: Path) -> tuple[int, dict[str, float]]:
    """Checks a version where it lies now: its files' digests, then the self-test in this process.

    Gives the number of files and each signature's largest difference. Raises DamagedVersionError or SelfTestError.
    """
    if not version_path.is_dir():
        raise DamagedVersionError(
            f"No version at {version_path}: name a version's directory such as {version_path.parent / '1'}"
        )
    manifest = read_manifest(version_path)
    files = check_files(version_path, manifest) if manifest else 0
    return files, run_self_test(version_path)


def _write(trained: TrainedModel, export: Export, golden: Mapping[str, Case], staging: Path) -> None:
    try:
        write_saved_model(trained.model, staging)
        write_archive(staging / SELF_TEST_FILE, golden)
        write_warmup(staging / WARMUP_FILE, export.model_base_path.absolute().name, list(export.batch_sizes))
    except tf.errors.OpError as error:
        raise OSError(f"TensorFlow says {error.message}") from error
    if export.with_copies:
        copy_files(trained.files, staging / ASSETS_EXTRA)


def copy_files(files: tuple[Path, ...], directory: Path) -> None:
    """Copies the files into a directory that exists. Raises OSError."""
    for file in files:
        shutil.copyfile(file, directory / file.name)


def _facts(
    trained: TrainedModel, staging: Path, model_base_path: Path, differences: dict[str, float], forced: list[str]
) -> dict[str, Any]:
    replaced = newest_with_manifest(model_base_path)
    return {
        "model_name": model_base_path.absolute().name,
        "run": trained.source,
        "recipe": trained.recipe,
        "accuracy": trained.accuracy,
        "config": dict(trained.config),
        "metrics": dict(trained.metrics),
        "data": dict(trained.data),
        "model": {
            "name": trained.model.name,
            "layers": [layer.name for layer in trained.model.layers],
            "parameters": trained.model.count_params(),
        },
        "class_names": list(CLASS_NAMES),
        "signatures": describe_signatures(staging),
        "self_test": {"tolerance": TOLERANCE, "largest_differences": differences},
        "replaced": None if replaced is None else {"version": replaced[0], "accuracy": recorded_accuracy(replaced[1])},
        "forced": forced,
    }

"""The export of a trained model as the next version: written aside, tested, then published with one rename."""

from __future__ import annotations

import shutil
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import tensorflow as tf

from fashion_common.layout import ASSETS_EXTRA, SELF_TEST_FILE, WARMUP_FILE
from fashion_common.served_model import CLASS_NAMES
from serving.apis.self_test import TOLERANCE, Case, write_archive
from training.data.dataset import Report
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


@dataclass(frozen=True)
class ExportSettings:
    """How to export. model_base_path: the directory of the versions; its name is the model's name.

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
    """A published version.

    differences: each signature's largest absolute difference from Keras. forced: the objections that --force overrode.
    removed: the old versions that are gone, ascending.
    """

    version: int
    path: Path
    accuracy: float | None
    differences: dict[str, float]
    forced: list[str]
    removed: list[int]


def export_saved_model(
    candidate: TrainedModel, settings: ExportSettings, report: Report = lambda _: None
) -> ExportedVersion:
    """Writes the model as the next version under the model base path, and publishes it when it answers as Keras does.

    `report` gets a line of text before each step. Raises NotAcceptedError for a model that does not meet the demands,
    SelfTestError when the SavedModel differs from Keras, TrainingUsageError when the base path cannot be written.
    """
    base_path = settings.model_base_path
    predecessor = newest_with_manifest(base_path)
    objections = accept(candidate, predecessor, settings.demands)
    golden = golden_cases(candidate.model)
    with self_test_process() as self_test, staging_directory(base_path) as staging:
        report("Writing the SavedModel")
        _write(candidate, settings, golden, staging)
        report("Testing it in a new process")
        differences = self_test(staging)
        facts = {
            "model_name": base_path.absolute().name,
            **_facts(candidate, staging),
            "self_test": {"tolerance": TOLERANCE, "largest_differences": differences},
            "replaced": predecessor and {"version": predecessor[0], "accuracy": recorded_accuracy(predecessor[1])},
            "forced": objections,
        }
        write_manifest(staging, facts)
        path = publish(staging, base_path)
    removed = [] if settings.keep is None else remove_old_versions(base_path, settings.keep, settings.in_use)
    return ExportedVersion(int(path.name), path, candidate.accuracy, differences, objections, removed)


def verify(version_path: Path) -> tuple[int, dict[str, float]]:
    """Checks the files of a version against its manifest's digests, then runs its self-test in this process.

    Gives the number of files (0 without a manifest) and each signature's largest absolute difference. Raises
    DamagedVersionError or SelfTestError.
    """
    if not version_path.is_dir():
        raise DamagedVersionError(
            f"No version at {version_path}: name a version's directory such as {version_path.parent / '1'}"
        )
    manifest = read_manifest(version_path)
    files = check_files(version_path, manifest) if manifest else 0
    return files, run_self_test(version_path)


def _write(candidate: TrainedModel, settings: ExportSettings, golden: Mapping[str, Case], staging: Path) -> None:
    try:
        write_saved_model(candidate.model, staging)
        write_archive(staging / SELF_TEST_FILE, golden)
        write_warmup(staging / WARMUP_FILE, settings.model_base_path.absolute().name, list(settings.batch_sizes))
    except tf.errors.OpError as error:
        raise OSError(f"TensorFlow says {error.message}") from error
    for file in candidate.files if settings.with_copies else ():
        shutil.copyfile(file, staging / ASSETS_EXTRA / file.name)


def _facts(candidate: TrainedModel, staging: Path) -> dict[str, Any]:
    return {
        "run": candidate.source,
        "recipe": candidate.recipe,
        "accuracy": candidate.accuracy,
        "config": dict(candidate.config),
        "metrics": dict(candidate.metrics),
        "data": dict(candidate.data),
        "model": {
            "name": candidate.model.name,
            "layers": [layer.name for layer in candidate.model.layers],
            "parameters": candidate.model.count_params(),
        },
        "class_names": list(CLASS_NAMES),
        "signatures": describe_signatures(staging),
    }

"""The export of a trained model as the next version: written aside, tested, then published with one rename."""

from __future__ import annotations

import shutil
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import tensorflow as tf

from delivery.base_path import remove_old_versions
from fashion_common.errors import LabelsError
from fashion_common.layout import ASSETS_EXTRA, LITE_MODEL_FILE, SELF_TEST_FILE, WARMUP_FILE
from serving.apis.self_test import TOLERANCE, write_archive
from training.data.dataset import Report
from training.errors import DamagedVersionError, SelfTestError, TrainingError, TrainingUsageError
from training.export.acceptance import MIN_AGREEMENT, accept, accept_signatures
from training.export.form import Form
from training.export.garments import Garments
from training.export.manifest import Manifest, check_files, read_manifest, recorded_accuracy, write_manifest
from training.export.publish import publish, staging_directory
from training.export.replay import replay
from training.export.self_test import Differences, run_self_test
from training.export.signatures import describe_signatures
from training.export.step_process import step_process
from training.export.trained import TrainedModel
from training.export.versions import newest_with_manifest
from training.export.warmup import write_warmup

_HINT = f"(`fashion export --no-lite` leaves {LITE_MODEL_FILE} out)"


@dataclass(frozen=True)
class ExportedVersion:
    """A published version.

    differences, litert_differences: each signature's largest absolute difference from Keras, on TensorFlow and on
    LiteRT. forced: the objections that --force overrode. removed: the old versions that are gone, ascending. replay:
    the evidence of the comparison with recordings, as JSON. notes: what whoever serves it should know, a line each.
    """

    version: int
    path: Path
    accuracy: float | None
    differences: dict[str, float]
    litert_differences: dict[str, float]
    forced: list[str]
    removed: list[int]
    replay: dict[str, Any] | None = None
    notes: tuple[str, ...] = ()


def export_saved_model(
    candidate: TrainedModel,
    base_path: Path,
    *,
    batch_sizes: Sequence[int] = (1,),
    min_accuracy: float | None = None,
    max_regression: float,
    force: bool = False,
    with_copies: bool = False,
    with_lite: bool = True,
    keep: int | None = None,
    sign: Callable[[Path], None] = lambda _: None,
    recordings: Sequence[Path] = (),
    min_agreement: float = MIN_AGREEMENT,
    warmup_recordings: Sequence[Path] = (),
    report: Report = lambda _: None,
) -> ExportedVersion:
    """Writes the model as the next version under the base path, and publishes it when it answers as Keras does.

    base_path: the directory of the versions; its name is the model's name. batch_sizes: of the warmup requests.
    min_accuracy, max_regression, force, min_agreement: as in `accept`; recordings: what the model is held to.
    warmup_recordings: as in `write_warmup`. with_copies: Keras's own files go into `assets.extra/`.
    with_lite: `model.tflite` goes beside the SavedModel. keep: how many of the newest versions stay (None: all),
    besides those that labels use. sign: signs a directory before it is published. report: gets a line of text before
    each step. Raises TrainingError for a model that is not good enough or that LiteRT cannot run, SelfTestError when an
    output differs from Keras's, TrainingUsageError when the base path cannot be read or written.
    """
    model_name = base_path.absolute().name
    predecessor = _predecessor(base_path)
    replayed = None
    if (recordings or warmup_recordings) and not isinstance(candidate.form, Garments):
        raise TrainingUsageError("--replay and --warmup-from take recorded garments: this model takes something else")
    if recordings:
        report("Replaying the recordings")
        replayed = replay(candidate, model_name, recordings)
    objections = accept(
        candidate,
        predecessor,
        min_accuracy=min_accuracy,
        max_regression=max_regression,
        force=force,
        replayed=replayed,
        min_agreement=min_agreement,
    )
    # A manifest goes wherever its version goes: single requests are not listed in it.
    evidence = replace(replayed, examples=()).to_json() if replayed else None
    form = candidate.form
    golden = form.golden_cases()
    with step_process() as steps, staging_directory(base_path) as staging:
        report("Writing the SavedModel")
        try:
            form.write(staging)
            write_archive(staging / SELF_TEST_FILE, golden)
            # A SavedModel may have brought its own.
            if not (staging / WARMUP_FILE).exists():
                write_warmup(staging / WARMUP_FILE, model_name, form.warmup_records, batch_sizes, warmup_recordings)
        except tf.errors.OpError as error:
            raise OSError(f"TensorFlow says {error.message}") from error
        signatures = describe_signatures(staging)
        objections += accept_signatures(signatures, predecessor, force=force)
        for file in candidate.files if with_copies else ():
            shutil.copyfile(file, staging / ASSETS_EXTRA / file.name)
        notes = list(candidate.notes)
        if with_lite:
            report("Converting it for LiteRT")
            try:
                steps.convert(staging)
            except TrainingError as error:
                refusal = f"Not published, {LITE_MODEL_FILE} cannot be made: {error}: --no-lite exports without it"
                notes.append(_without_lite(form, staging, str(error), TrainingError(refusal)))
        report("Testing it in a new process")
        differences, litert_differences, litert_failure = steps.self_test(staging)
        if litert_failure:
            refusal = f"Not published, the self-test failed: {litert_failure} {_HINT}"
            notes.append(_without_lite(form, staging, litert_failure, SelfTestError(refusal)))
        facts = {
            "model_name": model_name,
            "run": candidate.source,
            "recipe": candidate.config.get("recipe"),
            "accuracy": candidate.accuracy,
            "config": dict(candidate.config),
            "metrics": dict(candidate.metrics),
            "data": dict(candidate.data),
            "model": form.describe(),
            "class_names": list(form.class_names),
            "signatures": signatures,
            "self_test": {
                "tolerance": TOLERANCE,
                "largest_differences": differences,
                "litert_largest_differences": litert_differences,
            },
            "replaced": predecessor and {"version": predecessor[0], "accuracy": recorded_accuracy(predecessor[1])},
            "replay": evidence,
            "notes": notes,
            "forced": objections,
        }
        write_manifest(staging, facts)
        sign(staging)
        path = publish(staging, base_path)
    try:
        removed = [] if keep is None else remove_old_versions(base_path, keep)
    except (OSError, LabelsError) as error:
        reason = error.strerror if isinstance(error, OSError) and error.strerror else error
        raise TrainingError(
            f"{path} is published, but no old version could be removed ({reason}): make {base_path} "
            "writable, or remove them yourself"
        ) from error
    return ExportedVersion(
        int(path.name),
        path,
        candidate.accuracy,
        differences,
        litert_differences,
        objections,
        removed,
        evidence,
        tuple(notes),
    )


def _predecessor(base_path: Path) -> tuple[int, Manifest] | None:
    """As `newest_with_manifest`. Raises TrainingUsageError where the versions cannot be read."""
    try:
        return newest_with_manifest(base_path)
    except OSError as error:
        raise TrainingUsageError(
            f"Cannot read the versions under {base_path} ({error.strerror or error}): make it readable, "
            "or choose another --model-base-path"
        ) from error


def _without_lite(form: Form, staging: Path, reason: str, refusal: TrainingError) -> str:
    """Removes `model.tflite` and gives the note that says so. Raises the refusal where the version needs the file."""
    if form.lite_required:
        raise refusal
    (staging / LITE_MODEL_FILE).unlink(missing_ok=True)
    return f"without {LITE_MODEL_FILE}, so not for the light server: {reason}"


def verify(version_path: Path) -> tuple[int, Differences]:
    """Checks the files of a version against its manifest's digests, then runs its self-test in this process.

    Gives the number of files (0 without a manifest) and the differences. Raises DamagedVersionError or SelfTestError.
    """
    if not version_path.is_dir():
        raise DamagedVersionError(
            f"No version at {version_path}: name a version's directory such as {version_path.parent / '1'}"
        )
    manifest = read_manifest(version_path)
    files = check_files(version_path, manifest) if manifest else 0
    differences = run_self_test(version_path)
    if differences.litert_failure:
        raise SelfTestError(f"{differences.litert_failure} {_HINT}")
    return files, differences

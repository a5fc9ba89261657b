"""The command `fashion export`: options to one call, and what is printed of its result."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Iterable, Sequence
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

import click

from fashion_common.imports import without_collections
from fashion_common.labels import read_labels
from training.commands.options import json_option, model_base_path_option, print_json
from training.errors import TrainingUsageError

if TYPE_CHECKING:
    from training.export.export import ExportedVersion
    from training.export.trained import Elsewhere

_file = click.Path(dir_okay=False, path_type=Path)
_recordings = click.Path(exists=True, path_type=Path)
_EXAMPLES = """Example: fashion export runs/latest --min-accuracy 0.86 --keep 3

\b
fashion export --from cnn.keras --input-range 0..255
fashion export --from iris.keras --class-names iris.txt --model-base-path models/iris
"""


@click.command(epilog=_EXAMPLES)
@click.argument("run", type=click.Path(path_type=Path), required=False)
@model_base_path_option
@click.option(
    "--from",
    "from_",
    type=click.Path(path_type=Path),
    help="Export a model trained elsewhere: .keras, .h5, .json or a SavedModel's directory.",
)
@click.option("--weights", type=_file, help="The weights of --from's .json.  [default: its name with .weights.h5]")
@click.option(
    "--data-dir",
    type=click.Path(file_okay=False, path_type=Path),
    help="Fashion-MNIST's four files, to measure --from's model on.  [default: as in fashion train]",
)
@click.option(
    "--input-range",
    type=click.Choice(["0..1", "0..255", "-1..1"]),
    help="Pixels that --from's classifier of garments was trained on.  [default: 0..1; 0..255 for whole numbers]",
)
@click.option("--class-names", type=_file, help="Names of other classes, one on each line or a JSON list.")
@click.option("--golden", type=_file, help="Inputs and expected outputs of the self-test, as numpy.savez writes them.")
@click.option(
    "--import",
    "modules",
    multiple=True,
    metavar="MODULE",
    help="Module or .py file with the custom layers of --from's model; again for more.",
)
@click.option("--min-accuracy", type=click.FloatRange(0, 1), help="Refuse a lower test accuracy.")
@click.option(
    "--max-regression",
    type=click.FloatRange(0, 1),
    default=0.01,
    show_default=True,
    help="Refuse a test accuracy that much below the newest version's.",
)
@click.option(
    "--replay",
    "recordings",
    type=_recordings,
    multiple=True,
    help="Hold the model to the recorded answers in a file, or in a directory's recordings; again for more.",
)
@click.option(
    "--min-agreement",
    type=click.FloatRange(0, 1),
    help="With --replay, refuse a lower share of inputs with the recorded class.  [default: 0.9]",
)
@click.option("--force", is_flag=True, help="Export what these refuse; the manifest records it.")
@click.option("--keep", type=click.IntRange(min=1), help="Then remove old versions but the newest N and labelled ones.")
@click.option(
    "--sign",
    type=_file,
    metavar="KEY",
    help="Sign the version with a private key (PEM, ECDSA); FASHION_SIGNING_PASSPHRASE opens it.",
)
@click.option("--with-copies", is_flag=True, help="Put Keras's own files into the version's assets.extra/.")
@click.option("--no-lite", is_flag=True, help="Leave out model.tflite, which the light server runs.")
@click.option(
    "--batching-config",
    type=click.Path(dir_okay=False, exists=True, path_type=Path),
    help="Batch sizes of the warmup requests.  [default: serving/config/batching.config]",
)
@click.option(
    "--warmup-from",
    type=_recordings,
    multiple=True,
    help="Warm up with recorded requests, which may be personal data: the first of each signature and batch size.",
)
@click.option("--verify", type=click.Path(path_type=Path), help="Export nothing: test the version at PATH.")
@json_option
def export(
    *,
    run: Path | None,
    model_base_path: Path,
    from_: Path | None,
    weights: Path | None,
    data_dir: Path | None,
    input_range: str | None,
    class_names: Path | None,
    golden: Path | None,
    modules: tuple[str, ...],
    min_accuracy: float | None,
    max_regression: float,
    recordings: tuple[Path, ...],
    min_agreement: float | None,
    force: bool,
    keep: int | None,
    sign: Path | None,
    with_copies: bool,
    no_lite: bool,
    batching_config: Path | None,
    warmup_from: tuple[Path, ...],
    verify: Path | None,
    as_json: bool,
) -> None:
    """Export RUN (default: runs/latest) as the next version of the served model, and print its path.

    The version is written aside, tested in a new process against Keras, and only then given its number.
    """
    if sum(source is not None for source in (run, from_, verify)) > 1:
        raise TrainingUsageError("RUN, --from and --verify exclude one another: name one of them")
    if verify is not None:
        _verify(verify, as_json)
        return
    source = _source(from_, weights, data_dir, input_range, class_names, golden, modules)
    if min_agreement is not None and not recordings:
        raise TrainingUsageError("--min-agreement belongs to --replay: name the recordings with --replay")
    from rich.console import Console

    from serving.apis import CONFIG_DIR

    with without_collections():
        from training import runs
        from training.export.acceptance import MIN_AGREEMENT
        from training.export.export import export_saved_model
        from training.export.trained import load_file, load_run
        from training.export.warmup import batch_sizes

    signer = _signer(sign)
    sizes = batch_sizes(batching_config or CONFIG_DIR / "batching.config")
    if keep is not None:
        # A file that is damaged is told before anything is written.
        read_labels(model_base_path)
    with Console(stderr=True).status("Loading the model") as status:
        trained = (
            load_file(source, model_base_path.absolute().name)
            if source
            else load_run(run or runs.RUNS_DIR / runs.LATEST)
        )
        exported = export_saved_model(
            trained,
            model_base_path,
            batch_sizes=sizes,
            min_accuracy=min_accuracy,
            max_regression=max_regression,
            recordings=_files(recordings),
            min_agreement=MIN_AGREEMENT if min_agreement is None else min_agreement,
            force=force,
            with_copies=with_copies,
            with_lite=not no_lite,
            keep=keep,
            **signer,
            warmup_recordings=_files(warmup_from),
            report=status.update,
        )
    _print(exported, as_json)


def _signer(key: Path | None) -> dict[str, Callable[[Path], None]]:
    """What signs a version, as an argument; none without a key. Raises DeliveryUsageError for one that cannot be."""
    if key is None:
        return {}
    from delivery.signing import sign_version, signing_key

    return {"sign": partial(sign_version, key=signing_key(key))}


def _source(
    path: Path | None,
    weights: Path | None,
    data_dir: Path | None,
    input_range: str | None,
    class_names: Path | None,
    golden: Path | None,
    modules: Sequence[str],
) -> Elsewhere | None:
    """The model that --from names; None without it. Raises TrainingUsageError for what belongs to it."""
    if path is None:
        options = {
            "--weights": weights,
            "--input-range": input_range,
            "--class-names": class_names,
            "--golden": golden,
            "--import": modules,
        }
        if lonely := [option for option, value in options.items() if value]:
            raise TrainingUsageError(f"{lonely[0]} belongs to --from: name the model's file with --from")
        return None
    with without_collections():
        from training.export.golden_file import read_class_names
        from training.export.keras_files import custom_objects
        from training.export.trained import Elsewhere

    names = read_class_names(class_names) if class_names else ()
    return Elsewhere(path, weights, data_dir, custom_objects(modules), input_range, names, golden)


def _print(exported: ExportedVersion, as_json: bool) -> None:
    if as_json:
        print_json(dataclasses.asdict(exported))
        return
    click.echo(exported.path)
    if exported.differences:
        click.echo(f"Self-test passed: {_agreement(exported.differences, exported.litert_differences)}", err=True)
    for note in exported.notes:
        click.echo(f"Note: {note}", err=True)
    if exported.replay:
        agreeing, compared = exported.replay["agreeing"], exported.replay["compared"]
        click.echo(f"Replayed: {agreeing} of {compared} inputs have the recorded class", err=True)
    for objection in exported.forced:
        click.echo(f"Forced: {objection}", err=True)
    if exported.removed:
        click.echo(f"Removed: {', '.join(map(str, exported.removed))}", err=True)


def _files(paths: Iterable[Path]) -> list[Path]:
    """The recordings at some paths. Raises TrainingUsageError for a directory that holds none."""
    from serving.apis.recordings import recordings_at

    files: list[Path] = []
    for path in paths:
        recordings = recordings_at(path)
        if not recordings:
            raise TrainingUsageError(f"no recordings in {path}: name a file that was recorded")
        files += recordings
    return files


def _verify(path: Path, as_json: bool) -> None:
    with without_collections():
        from training.export.export import verify

    files, (differences, litert_differences, _) = verify(path)
    if as_json:
        print_json({"path": path, "files": files, "differences": differences, "litert_differences": litert_differences})
        return
    comparison = f"{files} files as exported" if files else "no manifest, so its files were not compared"
    click.echo(f"{path}: {comparison}; {_agreement(differences, litert_differences)}")


def _agreement(differences: dict[str, float], litert_differences: dict[str, float]) -> str:
    largest = max([*differences.values(), *litert_differences.values(), 0.0])
    count = len(differences)
    of_them = "" if len(litert_differences) == count else f"{len(litert_differences)} of them "
    on_litert = f", {of_them}on LiteRT too" if litert_differences else ""
    answers = "signature answers" if count == 1 else "signatures answer"
    return f"{count} {answers} as the trained model does{on_litert}, within {largest:.1e}"

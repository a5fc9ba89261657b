"""Trained models on disk: a run's, or from elsewhere; measured where they are of garments."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import keras
import numpy as np

from fashion_common.layout import MODEL_BASE_PATH, SAVED_MODEL_FILE
from fashion_common.served_model import CLASS_NAMES, IMAGE_SHAPE, MODEL_NAME
from training import runs
from training.data import dataset
from training.errors import TrainingUsageError
from training.export.adapted import INPUT_RANGES, adapted, default_range, has_logits, takes_garments, with_softmax
from training.export.form import Form
from training.export.garments import Garments
from training.export.keras_files import RULE, keras_errors, load_model, model_files
from training.export.keras_model import KerasModel, trace
from training.export.saved_model import SavedModelCopy
from training.fit.evaluate import Evaluation, evaluate

# Twice what guessing one of ten reaches.
_CHANCE = 0.2
# Pixels of another range with which a model is that much better are those that it was trained on.
_CLEARLY_BETTER = 0.02


@dataclass(frozen=True)
class TrainedModel:
    """A model as it is served, and its record.

    source: the name of its run or file; files: its copies on disk, in Keras's formats. metrics: accuracies from
    0 to 1 by name; data: name, version and digests of the images it was measured on. objections: why it should not be
    published; notes: what whoever serves it should know.
    """

    form: Form
    source: str
    files: tuple[Path, ...]
    config: Mapping[str, Any] = field(default_factory=dict)
    metrics: Mapping[str, Any] = field(default_factory=dict)
    data: Mapping[str, Any] = field(default_factory=dict)
    objections: Sequence[str] = ()
    notes: Sequence[str] = ()

    @property
    def accuracy(self) -> float | None:
        """The share of right answers on the test images, which no choice in training depended on; None if unknown."""
        return self.metrics.get("test_accuracy")


@dataclass(frozen=True)
class Elsewhere:
    """What a model of other people's is exported with.

    path: .keras, .h5, .json, or a SavedModel's directory. weights: as in `model_files`; data_dir: as in `dataset.load`;
    objects: as in `load_model`. input_range: of the pixels that a classifier of garments takes, one of INPUT_RANGES.
    class_names: of a classifier of anything else; golden: as in `read_golden`.
    """

    path: Path
    weights: Path | None = None
    data_dir: Path | None = None
    objects: Mapping[str, Any] = field(default_factory=dict)
    input_range: str | None = None
    class_names: Sequence[str] = ()
    golden: Path | None = None


def load_run(run: Path) -> TrainedModel:
    """The model of a run directory. Raises TrainingUsageError when there is none that can be served."""
    runs.check_finished(run)
    metrics = runs.read_json(run / runs.METRICS)
    for name, kinds, rule in (("test_accuracy", (int, float), "a number"), ("data", (dict,), "an object")):
        if name in metrics and not isinstance(metrics[name], kinds):
            raise TrainingUsageError(
                f"{run / runs.METRICS}: {name} {metrics[name]!r} must be {rule}: name a run that `fashion train` made"
            )
    data = metrics.pop("data", {})
    model = load_model(run / runs.MODEL)
    _check_shapes(model, run / runs.MODEL)
    accuracy = metrics.get("test_accuracy")
    guesses = accuracy is not None and accuracy < _CHANCE
    copies = (run / name for name in (runs.MODEL, runs.ARCHITECTURE, runs.WEIGHTS, runs.HDF5))
    return TrainedModel(
        form=Garments(model),
        source=run.resolve().name,
        files=tuple(copy for copy in copies if copy.is_file()),
        config=runs.read_json(run / runs.CONFIG),
        metrics=metrics,
        data=data,
        objections=[f"accuracy {accuracy:.4f} is that of guessing: train it anew"] if guesses else (),
    )


def load_file(source: Elsewhere, model_name: str = MODEL_NAME) -> TrainedModel:
    """A model of other people's: a classifier of ten garments, a Keras model of any other kind, or a SavedModel.

    A Keras model is one of garments when it maps images of 28 x 28 to ten numbers and no class names are given; it is
    measured on Fashion-MNIST's test images. model_name: under which it will be served: fashion_mnist is for garments
    only. Raises TrainingUsageError when it cannot be loaded or run, what is asked does not fit it, or the data cannot
    be had.
    """
    if source.path.is_dir():
        return _load_saved_model(source, model_name)
    files = model_files(source.path, source.weights)
    model = load_model(source.path, files[1] if len(files) > 1 else None, source.objects)
    signature = trace(model, source.path, source.class_names)
    inputs, outputs = (
        [tuple(spec.shape) for spec in specs.values()] for specs in (signature.inputs, signature.outputs)
    )
    if not source.class_names and takes_garments(inputs, outputs):
        return _measured(model, source, files)
    what = f"maps {_listed(inputs)} to {_listed(outputs)}"
    _check_range(source, what)
    _check_name(source, model_name, what)
    form = KerasModel(model, signature, source.class_names, source.golden)
    return TrainedModel(form, source.path.name, files, notes=form.notes)


def _load_saved_model(source: Elsewhere, model_name: str) -> TrainedModel:
    path = source.path
    if not (path / SAVED_MODEL_FILE).is_file():
        fix = f"fashion export {path}" if (path / runs.MODEL).is_file() else RULE
        raise TrainingUsageError(f"{path} holds no {SAVED_MODEL_FILE}: {fix}")
    if source.class_names or source.objects:
        raise TrainingUsageError("--class-names and --import are for Keras models: a SavedModel is served as it is")
    what = "is a SavedModel"
    _check_range(source, what)
    form = SavedModelCopy(path, source.golden)
    if not form.serves_garments():
        _check_name(source, model_name, what)
    return TrainedModel(form, path.resolve().name, (), notes=form.notes)


def _check_range(source: Elsewhere, what: str) -> None:
    """Raises TrainingUsageError for a range of pixels, which only a classifier of garments has."""
    if source.input_range is not None:
        raise TrainingUsageError(
            f"{source.path} {what}: --input-range is for classifiers of ten garments, from images of 28 x 28"
        )


def _check_name(source: Elsewhere, model_name: str, what: str) -> None:
    """Raises TrainingUsageError for the name of the garments' model."""
    if model_name == MODEL_NAME:
        raise TrainingUsageError(
            f"{source.path} {what}, and clients send garments to {MODEL_NAME}: give it a name of its own with "
            f"--model-base-path {MODEL_BASE_PATH.parent}/NAME"
        )


def _measured(model: keras.Model, source: Elsewhere, files: tuple[Path, ...]) -> TrainedModel:
    """A classifier of garments, with its accuracy, and what speaks against the range of its pixels."""
    input_range = source.input_range or default_range(model)
    notes = []
    with keras_errors("run", source.path):
        garments = adapted(model, input_range)
        if has_logits(garments):
            garments = with_softmax(garments)
            notes.append("the outputs are no probabilities but logits: the served model ends in softmax")
    data = dataset.load(source.data_dir)
    test = evaluate(garments, data.test_images, data.test_labels)
    return TrainedModel(
        Garments(garments, lite_required=False, golden=source.golden),
        source.path.name,
        files,
        config={"input_range": input_range},
        metrics={"test_accuracy": test.accuracy, "test_loss": test.loss, "test_distribution": test.distribution()},
        data=data.manifest(),
        objections=_doubts(model, input_range, test, data),
        notes=notes,
    )


def _doubts(model: keras.Model, input_range: str, test: Evaluation, data: dataset.Dataset) -> list[str]:
    """The objection to a model that guesses, or that is much better with pixels of another range."""
    others = {
        other: evaluate(adapted(model, other), data.test_images, data.test_labels).accuracy
        for other in INPUT_RANGES
        if other != input_range
    }
    best = max(others, key=others.__getitem__)
    figures = ", ".join(f"{accuracy:.4f} with {other}" for other, accuracy in others.items())
    text = f"accuracy {test.accuracy:.4f} on {data.name} with pixels {input_range}, {figures}"
    if others[best] > test.accuracy + _CLEARLY_BETTER:
        return [f"{text}: it was trained on pixels of another range: fashion export --input-range {best}"]
    rule = "it guesses, so it was trained on other pixels or other classes: name other classes with --class-names"
    return [f"{text}: {rule}"] if test.accuracy < _CHANCE else []


def _check_shapes(model: keras.Model, file: Path) -> None:
    """Raises TrainingUsageError for a run's model that does not map [N,28,28] to [N,10]."""
    shapes = (None, *IMAGE_SHAPE), (None, len(CLASS_NAMES))
    # A subclassed model does not know its shapes: it is run on an image.
    input_shape = getattr(model, "input_shape", shapes[0])
    if input_shape == shapes[0]:
        with keras_errors("run", file):
            output_shape = (None, *model(np.zeros((1, *IMAGE_SHAPE), np.float32), training=False).shape[1:])
    else:
        output_shape = model.output_shape
    if (input_shape, output_shape) != shapes:
        raise TrainingUsageError(
            f"{file} maps {input_shape} to {output_shape}: a served model maps {shapes[0]} to {shapes[1]}"
        )


def _listed(shapes: list[tuple[int | None, ...]]) -> str:
    return ", ".join(map(str, shapes))

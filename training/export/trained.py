"""Trained Keras models on disk: a run's, or a file from elsewhere, of the shapes that the served signatures have."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import keras
import numpy as np
import tensorflow as tf

from fashion_common.served_model import CLASS_NAMES, IMAGE_SHAPE
from training import runs
from training.data import dataset
from training.errors import TrainingUsageError
from training.export.form import Form
from training.export.garments import Garments
from training.fit.evaluate import evaluate


@dataclass(frozen=True)
class TrainedModel:
    """A model as it is served, and its record.

    source: the name of its run or file; files: its copies on disk, in Keras's formats. metrics: accuracies from
    0 to 1 by name; data: name, version and digests of the images it was measured on.
    """

    form: Form
    source: str
    files: tuple[Path, ...]
    config: Mapping[str, Any] = field(default_factory=dict)
    metrics: Mapping[str, Any] = field(default_factory=dict)
    data: Mapping[str, Any] = field(default_factory=dict)

    @property
    def accuracy(self) -> float | None:
        """The share of right answers on the test images, which no choice in training depended on; None if unknown."""
        return self.metrics.get("test_accuracy")


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
    copies = (run / name for name in (runs.MODEL, runs.ARCHITECTURE, runs.WEIGHTS, runs.HDF5))
    return TrainedModel(
        form=Garments(_load(run / runs.MODEL)),
        source=run.resolve().name,
        files=tuple(copy for copy in copies if copy.is_file()),
        config=runs.read_json(run / runs.CONFIG),
        metrics=metrics,
        data=data,
    )


def load_file(file: Path, weights: Path | None = None, data_dir: Path | None = None) -> TrainedModel:
    """A model trained elsewhere, measured on Fashion-MNIST's test images: .keras, .h5, or .json with its weights.

    weights: for .json only; without it, the .weights.h5 file of the same name beside it. data_dir: as `dataset.load`.
    Raises TrainingUsageError when Keras cannot load it, its shapes are not served, or the data cannot be had.
    """
    files = _files(file, weights)
    model = _load(*files)
    data = dataset.load(data_dir)
    test = evaluate(model, data.test_images, data.test_labels)
    metrics = {"test_accuracy": test.accuracy, "test_loss": test.loss, "test_distribution": test.distribution()}
    return TrainedModel(Garments(model), file.name, files, metrics=metrics, data=data.manifest())


def _files(file: Path, weights: Path | None) -> tuple[Path, ...]:
    rule = "a model is a .keras or .h5 file, or a .json file with --weights"
    if file.suffix != ".json" and (file.suffix not in {".keras", ".h5"} or weights):
        raise TrainingUsageError(f"{file}: {rule}")
    files = (file, weights or file.with_suffix(".weights.h5")) if file.suffix == ".json" else (file,)
    for path in files:
        if not path.is_file():
            raise TrainingUsageError(f"No file {path}: {rule}")
    return files


def _load(file: Path, weights: Path | None = None) -> keras.Model:
    """The model, which maps [N,28,28] to [N,10]. Raises TrainingUsageError where it does not, or cannot be loaded."""
    with _keras_errors("load", file):
        if weights is None:
            model = keras.models.load_model(file, compile=False)
        else:
            model = keras.models.model_from_json(file.read_text(encoding="utf-8"))
            model.load_weights(weights)
    shapes = (None, *IMAGE_SHAPE), (None, len(CLASS_NAMES))
    # A subclassed model does not know its shapes: it is run on an image.
    input_shape = getattr(model, "input_shape", shapes[0])
    if input_shape == shapes[0]:
        with _keras_errors("run", file):
            output_shape = (None, *model(np.zeros((1, *IMAGE_SHAPE), np.float32), training=False).shape[1:])
    else:
        output_shape = model.output_shape
    if (input_shape, output_shape) != shapes:
        raise TrainingUsageError(
            f"{file} maps {input_shape} to {output_shape}: a served model maps {shapes[0]} to {shapes[1]}"
        )
    return model


@contextmanager
def _keras_errors(what: str, file: Path) -> Iterator[None]:
    try:
        yield
    except (ValueError, OSError, TypeError, KeyError, AttributeError, NotImplementedError, tf.errors.OpError) as error:
        reason = next((line.strip() for line in str(error).splitlines() if line.strip()), type(error).__name__)
        raise TrainingUsageError(f"Keras cannot {what} {file}: {reason}") from error

"""One training run, from configuration to run directory."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import keras

from training import dataset, loop, models, runs, synthetic
from training.config import TrainingConfig
from training.dataset import Dataset
from training.errors import TrainingError
from training.evaluate import Evaluation, evaluate, scale
from training.progress import ProgressReporter


@dataclass(frozen=True)
class TrainingResult:
    """What a run came to. `fit_seconds` is the time in the fit itself, validation of every epoch included."""

    run_dir: Path
    model: keras.Model
    history: dict[str, list[float]]  # loss, accuracy, val_loss, val_accuracy: one value an epoch
    fit_seconds: float
    validation: Evaluation
    test: Evaluation


def train(
    config: TrainingConfig,
    run_dir: Path,
    *,
    data_dir: Path | None = None,
    progress: bool = False,
    report: Callable[[str], None] | None = None,
) -> TrainingResult:
    """Trains one model into an empty or new `run_dir` and points `latest` beside it there.

    The test set is looked at once, after the last epoch. Raises TrainingUsageError for missing data or a taken
    directory, TrainingError where the run directory cannot be written.
    """
    data = load_data(config, data_dir, report)
    runs.create(run_dir)
    try:
        return _train(config, run_dir, data, progress=progress)
    except OSError as error:
        raise TrainingError(f"{run_dir} cannot be written ({error.strerror or error}): free space there") from error


def load_data(
    config: TrainingConfig, data_dir: Path | None = None, report: Callable[[str], None] | None = None
) -> Dataset:
    """The data set that the configuration names."""
    return synthetic.load(seed=config.seed) if config.dataset == "synthetic" else dataset.load(data_dir, report=report)


def _train(config: TrainingConfig, run_dir: Path, data: Dataset, *, progress: bool) -> TrainingResult:
    runs.write_json(run_dir / runs.CONFIG, config.to_json())
    keras.utils.set_random_seed(config.seed)
    model = compiled_model(config, len(data.train_labels))
    history = keras.callbacks.History()
    callbacks = [history, *([ProgressReporter(config.epochs)] if progress else [])]
    started = time.perf_counter()
    (fit if config.loop == "fit" else loop.fit)(model, data, config, callbacks)
    fit_seconds = time.perf_counter() - started
    validation = evaluate(model, data.validation_images, data.validation_labels)
    test = evaluate(model, data.test_images, data.test_labels)
    curves = {name: [float(value) for value in values] for name, values in history.history.items()}
    result = TrainingResult(run_dir, model, curves, fit_seconds, validation, test)
    _save(result, data)
    return result


def compiled_model(config: TrainingConfig, train_images: int) -> keras.Model:
    """The model of the configuration, with Adam and sparse categorical cross-entropy as the textbook compiles it."""
    model = models.build(config.model, config.api)
    model.compile(
        optimizer=keras.optimizers.Adam(_learning_rate(config, train_images)),
        loss="sparse_categorical_crossentropy",
        metrics=["accuracy"],
        steps_per_execution=config.steps_per_execution if config.loop == "fit" else 1,
        jit_compile=config.jit_compile,
    )
    return model


def fit(model: keras.Model, data: Dataset, config: TrainingConfig, callbacks: list[keras.callbacks.Callback]) -> None:
    """The textbook's program: keras.Model.fit on float arrays in shuffled batches, validated after every epoch."""
    model.fit(
        scale(data.train_images),
        data.train_labels,
        batch_size=config.batch_size,
        epochs=config.epochs,
        validation_data=(scale(data.validation_images), data.validation_labels),
        callbacks=callbacks,
        verbose=0,
    )


def _learning_rate(config: TrainingConfig, train_images: int) -> float | keras.optimizers.schedules.CosineDecay:
    if config.schedule == "constant":
        return config.learning_rate
    steps = config.epochs * max(train_images // config.batch_size, 1)
    warmup = int(steps * config.warmup)
    if not warmup:
        return keras.optimizers.schedules.CosineDecay(config.learning_rate, steps)
    return keras.optimizers.schedules.CosineDecay(
        config.learning_rate / 10, steps - warmup, warmup_target=config.learning_rate, warmup_steps=warmup
    )


def _save(result: TrainingResult, data: Dataset) -> None:
    run_dir = result.run_dir
    runs.save_model(result.model, run_dir)
    runs.write_json(run_dir / runs.HISTORY, result.history)
    runs.write_json(run_dir / runs.METRICS, metrics(result) | {"data": data.manifest()})
    runs.point_latest(run_dir)


def metrics(result: TrainingResult) -> dict[str, object]:
    """A run's figures as `metrics.json` holds them."""
    return {
        "validation_accuracy": result.validation.accuracy,
        "validation_loss": result.validation.loss,
        "test_accuracy": result.test.accuracy,
        "test_loss": result.test.loss,
        "fit_seconds": round(result.fit_seconds, 3),
        "epochs": len(result.history["loss"]),
        "parameters": result.model.count_params(),
    }

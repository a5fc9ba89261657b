"""One training run, from configuration to run directory."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import keras
import numpy as np
from numpy.typing import NDArray

from training import runs
from training.config import TrainingConfig
from training.data import dataset, synthetic
from training.data.dataset import Dataset
from training.errors import TrainingError
from training.fit import callbacks, checkpoint, distill, distributed, models, networks, optimizers
from training.fit.checkpoint import History
from training.fit.evaluate import Evaluation, evaluate
from training.fit.stages import Watch, run_stage, whole_interrupts

CHECKPOINT = "checkpoint.npz"
_TEMPORARY_FILES = (CHECKPOINT, distill.TEACHER_CHECKPOINT, distill.ANSWERS)


@dataclass(frozen=True)
class TrainingResult:
    """A finished run. fit_seconds: the time in the fit, with every epoch's validation and with the teacher."""

    run_dir: Path
    config: TrainingConfig
    model: keras.Model
    history: History
    fit_seconds: float
    validation: Evaluation
    test: Evaluation


def train(
    config: TrainingConfig, run_dir: Path, *, data_dir: Path | None = None, watch: Watch | None = None
) -> TrainingResult:
    """Trains one model into an empty or new `run_dir` and points `latest` beside it there.

    The test images are used once, after the last epoch. Raises TrainingUsageError for missing data or a directory that
    is not empty, TrainingError where the run directory cannot be written or Ctrl-C ended the run.
    """
    if distributed.is_chief(config.strategy):
        runs.create(run_dir)
        with _translate_errors(run_dir):
            runs.write_json(run_dir / runs.CONFIG, config.to_json())
    return _complete(config, run_dir, data_dir, watch or Watch())


def resume(run_dir: Path, *, data_dir: Path | None = None, watch: Watch | None = None) -> TrainingResult:
    """Continues an interrupted run, with its own configuration, from its last checkpoint to its last epoch.

    Raises TrainingUsageError where there is no interrupted run or the checkpoint is damaged, else as `train`.
    """
    return _complete(runs.unfinished_config(run_dir), run_dir, data_dir, watch or Watch())


def metrics(result: TrainingResult) -> dict[str, object]:
    """A run's accuracies (0 to 1), losses, seconds, counts and predictions, as `metrics.json` holds them."""
    return {
        "validation_accuracy": result.validation.accuracy,
        "validation_loss": result.validation.loss,
        "test_accuracy": result.test.accuracy,
        "test_loss": result.test.loss,
        "test_distribution": result.test.distribution(),
        "fit_seconds": round(result.fit_seconds, 3),
        "epochs": len(result.history["loss"]),
        "parameters": result.model.count_params(),
    }


def _complete(config: TrainingConfig, run_dir: Path, data_dir: Path | None, watch: Watch) -> TrainingResult:
    strategy = distributed.strategy(config.strategy)
    if config.dataset == "synthetic":
        data = synthetic.load(seed=config.seed)
    else:
        data = dataset.load(data_dir, report=watch.report)
    chief = distributed.is_chief(config.strategy)
    with _translate_errors(run_dir):
        soft_labels, teacher_seconds = None, 0.0
        if config.teacher != "none":
            soft_labels, teacher_seconds = distill.soft_labels(config, data, run_dir, watch)
        keras.utils.set_random_seed(config.seed)
        with strategy.scope():
            model = models.build(config.model, config.api)
            network = networks.training_network(config, model)
            network.compile(
                optimizer=optimizers.build(config, len(data.train_labels)),
                loss="sparse_categorical_crossentropy",
                metrics=["accuracy"],
                steps_per_execution=config.steps_per_execution if config.loop == "fit" else 1,
                jit_compile=config.jit_compile,
            )
            network.optimizer.build(network.trainable_variables)
        history, seconds = _fit(network, model, config, data, run_dir, watch, chief=chief, soft_labels=soft_labels)
        validation = evaluate(model, data.validation_images, data.validation_labels)
        test = evaluate(model, data.test_images, data.test_labels)
        result = TrainingResult(run_dir, config, model, history, teacher_seconds + seconds, validation, test)
        if chief:
            _save(result, data, watch)
    return result


def _fit(
    network: keras.Model,
    model: keras.Model,
    config: TrainingConfig,
    data: Dataset,
    run_dir: Path,
    watch: Watch,
    *,
    chief: bool,
    soft_labels: NDArray[np.float32] | None,
) -> tuple[History, float]:
    """Fits the network and gives the model its weights, on Ctrl-C too; the history, and the seconds that it took."""
    try:
        history, seconds = run_stage(
            network,
            config,
            data,
            watch,
            checkpoint_path=run_dir / CHECKPOINT,
            writes=chief,
            callbacks=lambda history: callbacks.build(config, history, run_dir, watch.tensorboard, writes=chief),
            soft_labels=soft_labels,
        )
    except KeyboardInterrupt as interrupt:
        if not chief:
            raise
        networks.fold(network, model)
        runs.save_model(model, run_dir)
        path = run_dir / CHECKPOINT
        epochs = checkpoint.read(path).epochs_done if path.exists() else 0
        raise TrainingError(
            f"interrupted after {epochs} of {config.epochs} epochs; the model so far is {run_dir / runs.MODEL}; "
            f"go on with: fashion train --resume {run_dir}"
        ) from interrupt
    if config.checkpoint and (best := run_dir / callbacks.BEST_MODEL).exists():
        network.load_weights(best)
    networks.fold(network, model)
    return history, seconds


@contextmanager
def _translate_errors(run_dir: Path) -> Iterator[None]:
    try:
        with whole_interrupts():
            yield
    except OSError as error:
        place = error.filename or run_dir
        raise TrainingError(
            f"{place} cannot be written ({error.strerror or error}): make room there, or name another directory"
        ) from error
    except KeyboardInterrupt as error:
        raise TrainingError(f"interrupted; go on with: fashion train --resume {run_dir}") from error


def _save(result: TrainingResult, data: Dataset, watch: Watch) -> None:
    run_dir = result.run_dir
    record = metrics(result) | {"data": data.manifest()}
    runs.save_model(result.model, run_dir)
    runs.write_json(run_dir / runs.HISTORY, result.history)
    if watch.pictures:
        from training.report.page import write_report  # matplotlib takes half a second to import

        watch.report("Drawing the figures")
        write_report(run_dir, result.config, record, result.model, result.history, result.test, data)
    runs.write_json(run_dir / runs.METRICS, record)  # last: it says that the run is finished
    for name in _TEMPORARY_FILES:
        (run_dir / name).unlink(missing_ok=True)
    runs.point_latest(run_dir)

"""One fit, new or resumed: the loop, its checkpoint, its progress, and what happens on Ctrl-C."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

import keras
import numpy as np
from numpy.typing import NDArray

from training.config import CHECKPOINT_SECONDS, TrainingConfig
from training.data.dataset import Dataset, Report
from training.fit import checkpoint, loop
from training.fit.checkpoint import History
from training.fit.evaluate import scale
from training.fit.progress import ProgressReporter


@dataclass(frozen=True)
class Watch:
    """How a run is followed.

    progress: a bar or lines on stderr. report: gets a line of text before each step that takes seconds. tensorboard: a
    log directory. checkpoint_seconds: how much of the fit may be lost when the process is killed. pictures: draws the
    run's figures and its report.
    """

    progress: bool = False
    report: Report = field(default=lambda _: None)
    tensorboard: Path | None = None
    checkpoint_seconds: float = CHECKPOINT_SECONDS
    pictures: bool = True


@dataclass(frozen=True)
class FitResult:
    """A fit's history, and its time in seconds with every epoch's validation."""

    history: History
    fit_seconds: float


def run_stage(
    network: keras.Model,
    config: TrainingConfig,
    data: Dataset,
    watch: Watch,
    *,
    checkpoint_path: Path,
    writes: bool = True,
    label: str = "epoch",
    callbacks: Callable[[History], list[keras.callbacks.Callback]] = lambda _: [],
    soft_labels: NDArray[np.float32] | None = None,
) -> FitResult:
    """Fits a compiled network, from its checkpoint where there is one; without `writes` none is written.

    callbacks: makes the callbacks of a fit that continues a history. soft_labels: as in `loop.fit`.
    On Ctrl-C the last whole epoch is written before KeyboardInterrupt goes on. Raises TrainingUsageError where the
    checkpoint is damaged, OSError where it cannot be written.
    """
    initial_epoch, seconds, history = 0, 0.0, History()
    if checkpoint_path.exists():
        state = checkpoint.restore(checkpoint_path, network)
        initial_epoch, seconds, history = state.epochs_done, state.fit_seconds, state.history
    all_callbacks = callbacks(history)  # before the writer, which adds to the history
    writer = checkpoint.CheckpointWriter(
        checkpoint_path if writes else None, history, seconds, watch.checkpoint_seconds
    )
    all_callbacks.append(writer)
    reporter = ProgressReporter(config.epochs, label) if watch.progress else None
    if reporter:
        all_callbacks.append(reporter)
    try:
        if config.loop == "fit":
            _keras_fit(network, data, config, all_callbacks, initial_epoch)
        else:
            loop.fit(network, data, config, all_callbacks, initial_epoch=initial_epoch, soft_labels=soft_labels)
    except KeyboardInterrupt:
        writer.flush()
        raise
    finally:
        if reporter:
            reporter.close()
    return FitResult(history, writer.fit_seconds())


def _keras_fit(
    network: keras.Model,
    data: Dataset,
    config: TrainingConfig,
    callbacks: list[keras.callbacks.Callback],
    initial_epoch: int,
) -> None:
    """The textbook's program: keras.Model.fit on float arrays in shuffled batches, validated after every epoch."""
    network.fit(
        scale(data.train_images),
        data.train_labels,
        batch_size=config.batch_size,
        epochs=config.epochs,
        initial_epoch=initial_epoch,
        validation_data=(scale(data.validation_images), data.validation_labels),
        callbacks=callbacks,
        verbose=0,
    )

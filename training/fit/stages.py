"""One fit, new or resumed: the loop, its checkpoint, its progress, and what happens on Ctrl-C."""

from __future__ import annotations

import contextlib
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import keras
import numpy as np
from numpy.typing import NDArray

from training.config import CHECKPOINT_SECONDS, TrainingConfig
from training.data.dataset import Dataset
from training.fit import checkpoint, loop
from training.fit.checkpoint import History
from training.fit.evaluate import scale
from training.fit.progress import ProgressReporter


@dataclass(frozen=True)
class Watch:
    """How a run is followed.

    progress: on stderr, a bar or lines, and a line before each step that takes seconds. tensorboard: a log directory.
    checkpoint_seconds: how much of the fit may be lost when the process is killed. pictures: draws the run's figures
    and its report.
    """

    progress: bool = False
    tensorboard: Path | None = None
    checkpoint_seconds: float = CHECKPOINT_SECONDS
    pictures: bool = True

    def report(self, text: str) -> None:
        """Says what is being done."""
        if self.progress:
            print(text, file=sys.stderr, flush=True)


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
) -> tuple[History, float]:
    """Fits a compiled network, from its checkpoint where there is one; without `writes` none is written.

    callbacks: makes the callbacks of a fit that continues a history. soft_labels: as in `loop.fit`. Gives the history,
    and the seconds of the fit with every epoch's validation.

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
    reporter = ProgressReporter(config.epochs, initial_epoch, label) if watch.progress else None
    if reporter:
        all_callbacks.append(reporter)
    try:
        with whole_interrupts():
            if config.loop == "fit":
                network.fit(  # the textbook's program: float arrays in shuffled batches, validated after every epoch
                    scale(data.train_images),
                    data.train_labels,
                    batch_size=config.batch_size,
                    epochs=config.epochs,
                    initial_epoch=initial_epoch,
                    validation_data=(scale(data.validation_images), data.validation_labels),
                    callbacks=all_callbacks,
                    verbose=0,
                )
            else:
                loop.fit(network, data, config, all_callbacks, initial_epoch=initial_epoch, soft_labels=soft_labels)
    except KeyboardInterrupt:
        writer.flush()
        raise
    finally:
        if reporter:
            reporter.close()
    return history, writer.fit_seconds()


@contextlib.contextmanager
def whole_interrupts() -> Iterator[None]:
    """Raises KeyboardInterrupt where a built-in function that Ctrl-C came into ends with SystemError because of it.

    NumPy's and TensorFlow's run Python's handlers and may give a result all the same, which Python does not take.
    """
    try:
        yield
    except SystemError as error:
        if isinstance(error.__cause__, KeyboardInterrupt):
            raise KeyboardInterrupt from error
        raise

"""Keras's callbacks that a run's configuration asks for, in forms that go on after an interruption."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import keras
import tensorflow as tf

from training.config import TrainingConfig
from training.fit.checkpoint import History

BEST_MODEL = "best.keras"

_MONITOR = "val_accuracy"
_EXPONENTIAL_DECAY = 0.9  # an epoch


def build(
    config: TrainingConfig, history: History, run_dir: Path, tensorboard: Path | None, *, writes: bool
) -> list[keras.callbacks.Callback]:
    """The callbacks that the configuration asks for, continued from `history`; without `writes` none that write."""
    callbacks: list[keras.callbacks.Callback] = []
    if config.schedule == "exponential":
        rate = config.learning_rate
        callbacks.append(keras.callbacks.LearningRateScheduler(lambda epoch: rate * _EXPONENTIAL_DECAY**epoch))
    if config.checkpoint and writes:
        callbacks.append(_BestModel(run_dir / BEST_MODEL, history))
    if config.early_stopping:
        callbacks.append(_EarlyStopping(config.early_stopping, history))
    if tensorboard is not None and writes:
        tensorboard.mkdir(parents=True, exist_ok=True)
        callbacks.append(_TensorBoard(log_dir=tensorboard, histogram_freq=1, write_graph=True))
    return callbacks


class _BestModel(keras.callbacks.ModelCheckpoint):  # type: ignore[misc]  # Keras ships no types
    """ModelCheckpoint for the best epoch by validation accuracy; the file is whole or the one before."""

    def __init__(self, path: Path, history: History) -> None:
        self._path = path
        self._temporary = path.with_name(f".writing-{path.name}")
        best = max(history.get(_MONITOR, []), default=None)
        super().__init__(
            self._temporary, monitor=_MONITOR, mode="max", save_best_only=True, initial_value_threshold=best
        )

    def on_epoch_end(self, epoch: int, logs: dict[str, Any] | None = None) -> None:
        super().on_epoch_end(epoch, logs)
        if self._temporary.exists():
            self._temporary.replace(self._path)


class _EarlyStopping(keras.callbacks.EarlyStopping):  # type: ignore[misc]  # Keras ships no types
    """EarlyStopping by validation accuracy that counts the epochs before an interruption too."""

    def __init__(self, patience: int, history: History) -> None:
        super().__init__(monitor=_MONITOR, mode="max", patience=patience)
        self._past = list(history.get(_MONITOR, []))

    def on_train_begin(self, logs: dict[str, Any] | None = None) -> None:
        super().on_train_begin(logs)
        for epoch, value in enumerate(self._past):
            self.on_epoch_end(epoch, {_MONITOR: value})


class _TensorBoard(keras.callbacks.TensorBoard):  # type: ignore[misc]  # Keras ships no types
    """Curves, histograms of the weights and the graph, for both loops.

    Keras writes the training function's graph through attributes that TensorFlow 2.21 no longer has, and only from
    `fit`; here it is the graph of the model's own call.
    """

    def set_model(self, model: keras.Model) -> None:
        super().set_model(model)
        images = tf.TensorSpec((None, *model.input_shape[1:]), tf.float32)
        with self._train_writer.as_default():
            tf.summary.graph(tf.function(model.call).get_concrete_function(images).graph)

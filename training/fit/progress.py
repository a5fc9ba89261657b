"""The progress of a fit: a bar on a terminal, a line an epoch elsewhere, always on stderr."""

from __future__ import annotations

import sys
from typing import Any

import keras
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

_FIGURES = (("loss", "loss"), ("accuracy", "accuracy"), ("val_accuracy", "validation accuracy"))


class ProgressReporter(keras.callbacks.Callback):  # type: ignore[misc]  # Keras ships no types
    """Reports each epoch's loss and accuracies, and on a terminal the way through it where the loop reports batches."""

    def __init__(self, epochs: int, initial_epoch: int, label: str) -> None:
        super().__init__()
        self._epochs = epochs
        self._label = label
        console = Console(file=sys.stderr)
        columns = (TextColumn(label), MofNCompleteColumn(), BarColumn(), TextColumn("{task.description}"))
        self._bar = Progress(*columns, TimeRemainingColumn(), console=console, disable=not console.is_interactive)
        self._task = self._bar.add_task("", total=epochs, completed=initial_epoch)
        self._bar.start()

    def on_train_batch_end(self, batch: int, logs: dict[str, Any] | None = None) -> None:  # noqa: ARG002
        """Moves the bar within an epoch of keras.Model.fit."""
        if not self._bar.disable:
            self._bar.advance(self._task, 1 / self.params["steps"])

    def on_epoch_end(self, epoch: int, logs: dict[str, Any] | None = None) -> None:
        """Shows the epoch's figures."""
        figures = ", ".join(f"{name} {logs[key]:.4f}" for key, name in _FIGURES if logs and key in logs)
        if self._bar.disable:
            print(f"{self._label} {epoch + 1}/{self._epochs}: {figures}", file=sys.stderr)
        else:
            self._bar.update(self._task, completed=epoch + 1, description=figures)

    def close(self) -> None:
        """Stops the bar."""
        self._bar.stop()

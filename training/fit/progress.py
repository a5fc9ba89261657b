"""The progress of a fit: a bar on a terminal, a line an epoch elsewhere, always on stderr."""

from __future__ import annotations

import sys
import time
from typing import Any

import keras
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TaskID, TextColumn, TimeRemainingColumn

_REFRESH_SECONDS = 0.25


class ProgressReporter(keras.callbacks.Callback):  # type: ignore[misc]  # Keras ships no types
    """Reports each epoch's loss and accuracies, and on a terminal the way through it where the loop reports batches."""

    def __init__(self, epochs: int, label: str = "epoch") -> None:
        super().__init__()
        self._epochs = epochs
        self._label = label
        self._console = Console(file=sys.stderr)
        self._bar: Progress | None = None
        self._task: TaskID | None = None
        self._epoch = 0
        self._last_refresh = 0.0

    def on_train_begin(self, logs: dict[str, Any] | None = None) -> None:  # noqa: ARG002
        """Shows the empty bar."""
        if self._console.is_terminal:
            columns = (TextColumn(self._label), MofNCompleteColumn(), BarColumn(), TextColumn("{task.description}"))
            self._bar = Progress(*columns, TimeRemainingColumn(), console=self._console)
            self._task = self._bar.add_task("", total=self._epochs)
            self._bar.start()

    def on_epoch_begin(self, epoch: int, logs: dict[str, Any] | None = None) -> None:  # noqa: ARG002
        """Keeps the epoch's number for the bar."""
        self._epoch = epoch

    def on_train_batch_end(self, batch: int, logs: dict[str, Any] | None = None) -> None:  # noqa: ARG002
        """Moves the bar within an epoch of keras.Model.fit, four times a second at most."""
        if self._bar is None or time.monotonic() - self._last_refresh < _REFRESH_SECONDS:
            return
        self._last_refresh = time.monotonic()
        steps = self.params.get("steps") or 0
        if self._task is not None and steps:
            self._bar.update(self._task, completed=self._epoch + batch / steps)

    def on_epoch_end(self, epoch: int, logs: dict[str, Any] | None = None) -> None:
        """Shows the epoch's figures."""
        text = _describe(logs or {})
        if self._bar is not None and self._task is not None:
            self._bar.update(self._task, completed=epoch + 1, description=text)
        else:
            print(f"{self._label} {epoch + 1}/{self._epochs}: {text}", file=sys.stderr, flush=True)

    def on_train_end(self, logs: dict[str, Any] | None = None) -> None:  # noqa: ARG002
        """Stops the bar."""
        self.close()

    def close(self) -> None:
        """Stops the bar; may be called twice."""
        if self._bar is not None:
            self._bar.stop()
            self._bar = None


def _describe(logs: dict[str, Any]) -> str:
    return ", ".join(
        f"{name} {logs[key]:.4f}"
        for key, name in (("loss", "loss"), ("accuracy", "accuracy"), ("val_accuracy", "validation accuracy"))
        if key in logs
    )

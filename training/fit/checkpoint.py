"""The state of an unfinished fit in one file: what `--resume` goes on from after Ctrl-C, a crash or kill -9."""

from __future__ import annotations

import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import keras
from numpy.typing import NDArray

from training.data.arrays import read_archive, write_archive
from training.errors import TrainingUsageError

# loss, accuracy, val_loss, val_accuracy (and learning_rate where a schedule sets it by epoch): one value an epoch.
History = dict[str, list[float]]


@dataclass(frozen=True)
class Checkpoint:
    """Where a fit stands after an epoch; variables: of the model, then of its optimizer, in Keras's order."""

    epochs_done: int
    fit_seconds: float
    history: History
    variables: list[NDArray[Any]]


def write(path: Path, state: Checkpoint) -> None:
    """Writes the state whole or not at all. Raises OSError."""
    about = {"epochs_done": state.epochs_done, "fit_seconds": state.fit_seconds, "history": state.history}
    write_archive(path, {f"variable_{number:03}": value for number, value in enumerate(state.variables)}, about)


def read(path: Path) -> Checkpoint:
    """What `write` wrote; raises TrainingUsageError, naming the file, where it is damaged."""
    try:
        arrays, about = read_archive(path)
        return Checkpoint(variables=[arrays[name] for name in sorted(arrays)], **about)
    except (OSError, ValueError, TypeError) as error:
        raise TrainingUsageError(f"{path} is damaged ({error}): begin a new run") from error


def restore(path: Path, model: keras.Model) -> Checkpoint:
    """Reads a checkpoint into a compiled model; raises TrainingUsageError where it is damaged or another model's."""
    state = read(path)
    variables = _variables(model)
    if [value.shape for value in state.variables] != [tuple(variable.shape) for variable in variables]:
        raise TrainingUsageError(f"{path} holds another model than {model.name}: begin a new run")
    for variable, value in zip(variables, state.variables, strict=True):
        variable.assign(value)
    return state


def _variables(model: keras.Model) -> list[keras.Variable]:
    """All that training changes: weights, seeds of dropout, and the optimizer's steps and moments."""
    metrics = set(map(id, model.metrics_variables))
    return [*(variable for variable in model.variables if id(variable) not in metrics), *model.optimizer.variables]


class CheckpointWriter(keras.callbacks.Callback):  # type: ignore[misc]  # Keras ships no types
    """Keeps the fit's history and its state after the last epoch; writes it when `interval` seconds have passed.

    fit_seconds: the time in the fit before an interruption. Without a path it keeps the history alone.
    """

    def __init__(self, path: Path | None, history: History, fit_seconds: float, interval: float) -> None:
        super().__init__()
        self._path = path
        self._history = history
        self._interval = interval
        self._state: Checkpoint | None = None
        self._last_write = time.perf_counter()
        self._start = self._last_write - fit_seconds

    def fit_seconds(self) -> float:
        """The time in the fit so far, before an interruption included."""
        return time.perf_counter() - self._start

    def on_epoch_end(self, epoch: int, logs: dict[str, Any] | None = None) -> None:
        """Adds the epoch to the history, keeps the state, writes it when it is time."""
        for name, value in (logs or {}).items():
            self._history.setdefault(name, []).append(float(value))
        if self._path is None:
            return
        values = [variable.numpy() for variable in _variables(self.model)]
        self._state = Checkpoint(epoch + 1, self.fit_seconds(), self._history, values)
        if time.perf_counter() - self._last_write >= self._interval:
            self.flush()

    def flush(self) -> None:
        """Writes the state after the last whole epoch, if there is one. Raises OSError."""
        if self._path is not None and self._state is not None:
            write(self._path, self._state)
            self._last_write = time.perf_counter()

"""The state of an unfinished fit in one file: what `--resume` goes on from after Ctrl-C, a crash or kill -9."""

from __future__ import annotations

import io
import json
import time
import zipfile
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import keras
import numpy as np
from numpy.typing import NDArray

from fashion_common.files import write_whole
from training.errors import TrainingUsageError


@dataclass(frozen=True)
class Checkpoint:
    """Where a fit stands after an epoch."""

    epochs_done: int
    fit_seconds: float
    history: dict[str, list[float]]  # one value an epoch
    variables: list[NDArray[Any]]  # of the model, then of its optimizer


def write(path: Path, state: Checkpoint) -> None:
    """Writes the state whole or not at all. Raises OSError."""
    about = {"epochs_done": state.epochs_done, "fit_seconds": state.fit_seconds, "history": state.history}
    members: dict[str, NDArray[Any]] = {f"variable_{i:03}": value for i, value in enumerate(state.variables)}
    buffer = io.BytesIO()
    np.savez(buffer, allow_pickle=False, **{**members, "about": np.array(json.dumps(about))})
    write_whole(path, buffer.getvalue())


def read(path: Path) -> Checkpoint:
    """What `write` wrote; raises TrainingUsageError, naming the file, where it is damaged (it has checksums)."""
    try:
        with path.open("rb") as file, np.load(file, allow_pickle=False) as stored:
            about = json.loads(str(stored["about"]))
            variables = [stored[name] for name in sorted(stored.files) if name != "about"]
        return Checkpoint(variables=variables, **about)
    except (OSError, ValueError, KeyError, TypeError, EOFError, zipfile.BadZipFile) as error:
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
    metrics = {id(variable) for variable in model.metrics_variables}
    return [*(variable for variable in model.variables if id(variable) not in metrics), *model.optimizer.variables]


class CheckpointWriter(keras.callbacks.Callback):  # type: ignore[misc]  # Keras ships no types
    """Keeps the fit's history and its state after the last epoch; writes it when `every` seconds have passed.

    Without a path it keeps the history alone.
    """

    def __init__(self, path: Path | None, history: dict[str, list[float]], fit_seconds: float, every: float) -> None:
        super().__init__()
        self._path = path
        self._history = history
        self._before = fit_seconds
        self._every = every
        self._state: Checkpoint | None = None
        self._started = self._written = time.perf_counter()

    def fit_seconds(self) -> float:
        """The time in the fit, before an interruption included."""
        return self._before + time.perf_counter() - self._started

    def on_epoch_end(self, epoch: int, logs: dict[str, Any] | None = None) -> None:
        """Adds the epoch to the history, keeps the state, writes it when it is time."""
        for name, value in (logs or {}).items():
            self._history.setdefault(name, []).append(float(value))
        if self._path is None:
            return
        values = [variable.numpy() for variable in _variables(self.model)]
        self._state = Checkpoint(epoch + 1, self.fit_seconds(), self._history, values)
        if time.perf_counter() - self._written >= self._every:
            self.flush()

    def flush(self) -> None:
        """Writes the state after the last whole epoch, if there is one. Raises OSError."""
        if self._path is not None and self._state is not None:
            write(self._path, self._state)
            self._written = time.perf_counter()

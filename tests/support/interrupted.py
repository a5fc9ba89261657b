"""A run that Ctrl-C ended, for the tests of what comes after."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray

from training.config import TrainingConfig
from training.errors import TrainingError
from training.fit import loop
from training.fit.loop import Steps
from training.fit.stages import Watch
from training.train import train


def interrupted_after(epochs: int, config: TrainingConfig, run_dir: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    """Begins a run that Ctrl-C ends in the middle of the epoch after `epochs`; gives the error's text."""
    original = loop._run_epoch
    finished = 0

    def run_epoch(
        run: Steps, indices: NDArray[np.int32], shifts: NDArray[np.int32], steps_per_execution: int
    ) -> tuple[float, float]:
        nonlocal finished
        if finished == epochs:
            original(run, indices[:2], shifts[:2], steps_per_execution)
            raise KeyboardInterrupt
        finished += 1
        return original(run, indices, shifts, steps_per_execution)

    monkeypatch.setattr(loop, "_run_epoch", run_epoch)
    with pytest.raises(TrainingError) as caught:
        train(config, run_dir, watch=Watch(pictures=False))
    monkeypatch.undo()
    return str(caught.value)

"""The bar of a fit on a terminal."""

from __future__ import annotations

import pytest

from training.fit.progress import ProgressReporter


def test_the_bar_moves_by_parts_of_an_epoch(monkeypatch: pytest.MonkeyPatch) -> None:
    """From the epoch that a resumed run begins with; the epoch's end puts it where it belongs."""
    monkeypatch.setenv("TTY_INTERACTIVE", "1")
    reporter = ProgressReporter(epochs=3, initial_epoch=1, label="perceptron")
    reporter.set_params({"steps": 4})
    (task,) = reporter._bar.tasks
    places = [task.completed]
    for batch in range(3):
        reporter.on_train_batch_end(batch)
        places.append(task.completed)
    reporter.on_epoch_end(1, {"loss": 0.5})
    places.append(task.completed)
    reporter.close()
    assert places == [1, 1.25, 1.5, 1.75, 2]
    assert (task.total, task.description) == (3, "loss 0.5000")

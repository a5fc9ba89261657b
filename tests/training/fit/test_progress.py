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


def test_elsewhere_it_is_a_line_an_epoch(capsys: pytest.CaptureFixture[str]) -> None:
    """On stderr, with the figures that there are, and no bar."""
    reporter = ProgressReporter(epochs=3, initial_epoch=0, label="epoch")
    reporter.set_params({"steps": 4})
    reporter.on_train_batch_end(0)
    reporter.on_epoch_end(0, {"val_accuracy": 0.75, "accuracy": 0.875, "loss": 0.5, "val_loss": 0.25})
    reporter.on_epoch_end(1, {"loss": 0.12345})
    reporter.on_epoch_end(2)
    reporter.close()
    output = capsys.readouterr()
    assert output.out == ""
    assert output.err == (
        "epoch 1/3: loss 0.5000, accuracy 0.8750, validation accuracy 0.7500\nepoch 2/3: loss 0.1235\nepoch 3/3: \n"
    )


def test_the_bar_is_shown_on_stderr_and_stops(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """What is done, of how much, and the figures of the last epoch."""
    monkeypatch.setenv("TTY_INTERACTIVE", "1")
    reporter = ProgressReporter(epochs=3, initial_epoch=0, label="perceptron")
    lives = [reporter._bar.live.is_started]
    reporter.on_epoch_end(0, {"loss": 0.5, "accuracy": 0.875})
    reporter.close()
    lives.append(reporter._bar.live.is_started)
    assert lives == [True, False]
    output = capsys.readouterr()
    assert output.out == ""
    words = " ".join(output.err.split())
    assert words.startswith("perceptron 1/3 ")
    assert " loss 0.5000, accuracy 0.8750" in words

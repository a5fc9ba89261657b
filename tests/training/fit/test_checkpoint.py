"""The state of an unfinished fit: what is kept of each epoch, when it is written, and what is taken from it."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace

import keras
import numpy as np
import pytest

from training.data.arrays import write_archive
from training.errors import TrainingUsageError
from training.fit import checkpoint
from training.fit.checkpoint import Checkpoint, CheckpointWriter, History


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> SimpleNamespace:
    """A simulated clock, which stands at `now` seconds."""
    clock = SimpleNamespace(now=1000.0)
    monkeypatch.setattr(checkpoint, "time", SimpleNamespace(perf_counter=lambda: clock.now))
    return clock


def compiled(units: int = 2) -> keras.Model:
    """A small model with an optimizer."""
    model = keras.Sequential([keras.Input((3,)), keras.layers.Dense(units)], name="small")
    model.compile(optimizer=keras.optimizers.SGD(0.5, momentum=0.9), loss="mse", metrics=["mae"])
    model.optimizer.build(model.trainable_variables)
    return model


def writer_of(path: Path | None, history: History, seconds: float = 0.0, interval: float = 5.0) -> CheckpointWriter:
    """A writer of a small model."""
    writer = CheckpointWriter(path, history, seconds, interval)
    writer.set_model(compiled())
    return writer


def test_a_state_comes_back_as_it_was_written(tmp_path: Path) -> None:
    """More variables than digits of one are in their order."""
    variables = [np.full((number % 3 + 1,), number, np.float32) for number in range(12)]
    checkpoint.write(tmp_path / "state.npz", Checkpoint(3, 4.5, {"loss": [3.0, 2.0, 1.0]}, variables))
    state = checkpoint.read(tmp_path / "state.npz")
    assert (state.epochs_done, state.fit_seconds, state.history) == (3, 4.5, {"loss": [3.0, 2.0, 1.0]})
    assert [value.tolist() for value in state.variables] == [value.tolist() for value in variables]


def test_a_file_of_something_else_is_damaged(tmp_path: Path) -> None:
    """The file is named, and what to do."""
    path = tmp_path / "state.npz"
    for about in ({"epochs_done": 1}, {"epochs_done": 1, "fit_seconds": 1, "history": {}, "more": 1}):
        write_archive(path, {}, about)
        with pytest.raises(TrainingUsageError, match=rf"^{path} is damaged \(.+\): begin a new run$"):
            checkpoint.read(path)
    path.unlink()
    with pytest.raises(TrainingUsageError, match=rf"^{path} is damaged \(.*No such file.*\): begin a new run$"):
        checkpoint.read(path)


def test_the_state_of_an_epoch_is_restored(tmp_path: Path) -> None:
    """Weights, and the optimizer's rate, steps and moments; the sums of metrics are no part of it."""
    path, history = tmp_path / "state.npz", History()
    writer = writer_of(path, history, interval=0.0)
    model = writer.model
    model.fit(np.ones((4, 3)), np.ones((4, 2)), epochs=1, verbose=0)
    writer.on_epoch_end(0, {"loss": 0.5})
    state = checkpoint.read(path)
    variables = [*model.trainable_variables, *model.optimizer.variables]
    assert [value.shape for value in state.variables] == [tuple(variable.shape) for variable in variables]
    other = compiled()
    assert checkpoint.restore(path, other).epochs_done == 1
    for variable, expected in zip([*other.trainable_variables, *other.optimizer.variables], variables, strict=True):
        np.testing.assert_array_equal(variable.numpy(), expected.numpy())


def test_a_state_of_another_model_is_refused(tmp_path: Path) -> None:
    """By its shapes; the model stays as it is."""
    path = tmp_path / "state.npz"
    writer_of(path, History(), interval=0.0).on_epoch_end(0, {})
    other = compiled(units=4)
    before = other.get_weights()
    with pytest.raises(TrainingUsageError) as error:
        checkpoint.restore(path, other)
    assert str(error.value) == f"{path} holds another model than small: begin a new run"
    for value, expected in zip(other.get_weights(), before, strict=True):
        np.testing.assert_array_equal(value, expected)


def test_a_state_is_written_when_its_seconds_have_passed(tmp_path: Path, clock: SimpleNamespace) -> None:
    """Since the last one was: not an instant before. The seconds of an earlier part of the fit count in it."""
    path, history = tmp_path / "state.npz", History()
    writer = writer_of(path, history, seconds=100.0, interval=5.0)
    written = []
    for epoch, now in enumerate((1004.9, 1005.0, 1009.9, 1010.0)):
        clock.now = now
        path.unlink(missing_ok=True)
        writer.on_epoch_end(epoch, {"loss": float(epoch), "accuracy": 1})
        written.append(path.exists())
    assert written == [False, True, False, True]
    state = checkpoint.read(path)
    assert state.epochs_done == 4
    assert state.fit_seconds == pytest.approx(110.0)
    assert state.history == history == {"loss": [0.0, 1.0, 2.0, 3.0], "accuracy": [1.0, 1.0, 1.0, 1.0]}
    clock.now = 1012.0
    assert writer.fit_seconds() == pytest.approx(112.0)


def test_a_history_is_continued(tmp_path: Path) -> None:
    """What a resumed fit has done before stands at its beginning; an epoch without figures adds none."""
    history: History = {"loss": [2.0]}
    writer = writer_of(tmp_path / "state.npz", history)
    writer.on_epoch_end(1, {"loss": np.float32(1.5)})
    writer.on_epoch_end(2)
    assert history == {"loss": [2.0, 1.5]}
    assert {type(value) for value in history["loss"]} == {float}


def test_the_last_whole_epoch_is_written_when_asked(tmp_path: Path, clock: SimpleNamespace) -> None:
    """As on Ctrl-C: before the first epoch there is nothing to write, and the seconds begin anew."""
    path = tmp_path / "state.npz"
    writer = writer_of(path, History(), interval=5.0)
    writer.flush()
    assert not path.exists()
    clock.now += 4
    writer.on_epoch_end(0, {"loss": 1.0})
    writer.flush()
    assert checkpoint.read(path).epochs_done == 1
    path.unlink()
    clock.now += 4
    writer.on_epoch_end(1, {"loss": 1.0})
    assert not path.exists()


def test_without_a_path_only_the_history_is_kept(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """As on the workers that are not the chief."""
    monkeypatch.chdir(tmp_path)
    history = History()
    writer = writer_of(None, history, interval=0.0)
    writer.on_epoch_end(0, {"loss": 1.0})
    writer.flush()
    assert history == {"loss": [1.0]}
    assert list(tmp_path.iterdir()) == []

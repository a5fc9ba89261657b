"""One fit: what it says meanwhile, where it begins, and what is left when it is interrupted."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import keras
import pytest

from training.config import TrainingConfig
from training.data import synthetic
from training.data.dataset import Dataset
from training.fit import checkpoint, models, optimizers
from training.fit.checkpoint import History
from training.fit.stages import Watch, run_stage


@pytest.fixture(scope="module")
def data() -> Dataset:
    """Few images."""
    return synthetic.load({"train": 40, "validation": 10, "test": 10})


def stage(data: Dataset, path: Path, loop: str = "custom", **options: Any) -> tuple[History, float]:
    """A stage of a perceptron: two epochs of four steps."""
    watch = options.pop("watch", Watch())
    config = TrainingConfig(
        model="perceptron", loop=loop, epochs=2, batch_size=10, schedule="constant", steps_per_execution=4
    )
    model = options.pop("model", None) or models.build("perceptron")
    model.compile(optimizer=optimizers.build(config, 40), loss="sparse_categorical_crossentropy", metrics=["accuracy"])
    model.optimizer.build(model.trainable_variables)
    return run_stage(model, config, data, watch, checkpoint_path=path, **options)


@pytest.mark.parametrize("loop", ["custom", "fit"])
def test_each_epoch_is_a_line_on_stderr(
    data: Dataset, tmp_path: Path, capsys: pytest.CaptureFixture[str], loop: str
) -> None:
    """With its figures; the history has them too, and without progress nothing is said."""
    history, seconds = stage(data, tmp_path / "state", loop, watch=Watch(progress=True), label="teacher epoch")
    assert seconds > 0
    lines = [
        f"teacher epoch {number + 1}/2: loss {history['loss'][number]:.4f}, "
        f"accuracy {history['accuracy'][number]:.4f}, validation accuracy {history['val_accuracy'][number]:.4f}\n"
        for number in range(2)
    ]
    output = capsys.readouterr()
    assert (output.out, output.err) == ("", "".join(lines))
    stage(data, tmp_path / "quiet", loop)
    output = capsys.readouterr()
    assert (output.out, output.err) == ("", "")


def test_a_line_is_an_epoch_unless_it_has_another_name(
    data: Dataset, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """As those of the model itself."""
    stage(data, tmp_path / "state", watch=Watch(progress=True))
    assert [line.partition(":")[0] for line in capsys.readouterr().err.splitlines()] == ["epoch 1/2", "epoch 2/2"]


def test_what_is_being_done_is_said_on_stderr(capsys: pytest.CaptureFixture[str]) -> None:
    """Where progress is wanted."""
    Watch(progress=True).report("Drawing the figures")
    Watch().report("Drawing the figures")
    output = capsys.readouterr()
    assert (output.out, output.err) == ("", "Drawing the figures\n")


def test_a_run_is_drawn_and_checkpointed_unless_told_otherwise() -> None:
    """Silently, without logs for TensorBoard."""
    watch = Watch()
    assert (watch.progress, watch.tensorboard, watch.checkpoint_seconds, watch.pictures) == (False, None, 5.0, True)


class Interrupting(keras.callbacks.Callback):  # type: ignore[misc]  # Keras ships no types
    """Ctrl-C at the beginning of an epoch, or what comes of it."""

    def __init__(self, epoch: int, error: BaseException | None = None) -> None:
        super().__init__()
        self._epoch = epoch
        self._error = error or KeyboardInterrupt()

    def on_epoch_begin(self, epoch: int, logs: object = None) -> None:
        """It comes."""
        if epoch == self._epoch:
            raise self._error


@pytest.mark.parametrize("loop", ["custom", "fit"])
def test_an_interrupted_fit_goes_on_from_its_last_whole_epoch(data: Dataset, tmp_path: Path, loop: str) -> None:
    """Ctrl-C has it written, whatever the interval; callbacks are made of the history that is continued."""
    path = tmp_path / "state"
    with pytest.raises(KeyboardInterrupt):
        stage(data, path, loop, callbacks=lambda _: [Interrupting(1)])
    state = checkpoint.read(path)
    assert (state.epochs_done, len(state.history["loss"])) == (1, 1)
    assert state.fit_seconds > 0
    continued: list[History] = []

    def callbacks(history: History) -> list[keras.callbacks.Callback]:
        continued.append({name: list(values) for name, values in history.items()})
        # An epoch that was done is not begun again.
        return [Interrupting(0)]

    history, seconds = stage(data, path, loop, callbacks=callbacks)
    assert continued == [state.history]
    assert {len(values) for values in history.values()} == {2}
    assert [values[0] for values in history.values()] == [values[0] for values in state.history.values()]
    assert seconds > state.fit_seconds


def test_ctrl_c_in_a_built_in_function_is_an_interrupt_too(data: Dataset, tmp_path: Path) -> None:
    """NumPy's give a result all the same, which Python makes a SystemError; any other one is what it is."""
    error = SystemError("returned a result with an exception set")
    error.__cause__ = KeyboardInterrupt()
    with pytest.raises(KeyboardInterrupt):
        stage(data, tmp_path / "state", callbacks=lambda _: [Interrupting(1, error)])
    assert checkpoint.read(tmp_path / "state").epochs_done == 1
    other = SystemError("another")
    with pytest.raises(SystemError, match="another"):
        stage(data, tmp_path / "other", callbacks=lambda _: [Interrupting(1, other)])
    assert not (tmp_path / "other").exists()


def test_a_fit_that_does_not_write_leaves_nothing_when_it_is_interrupted(data: Dataset, tmp_path: Path) -> None:
    """As on the workers that are not the chief."""
    with pytest.raises(KeyboardInterrupt):
        stage(data, tmp_path / "state", writes=False, callbacks=lambda _: [Interrupting(1)])
    assert list(tmp_path.iterdir()) == []


def test_a_checkpoint_is_written_every_few_seconds_of_the_fit(data: Dataset, tmp_path: Path) -> None:
    """After every epoch, at 0 seconds; not at all while they have not passed."""
    stage(data, tmp_path / "often", watch=Watch(checkpoint_seconds=0))
    assert checkpoint.read(tmp_path / "often").epochs_done == 2
    stage(data, tmp_path / "never", watch=Watch(checkpoint_seconds=1e6))
    assert not (tmp_path / "never").exists()


def test_the_textbook_s_loop_takes_batches_of_the_configuration(data: Dataset, tmp_path: Path) -> None:
    """Forty images in tens are four steps an epoch, validated after each."""
    steps: list[int] = []

    class Noted(keras.callbacks.Callback):  # type: ignore[misc]  # Keras ships no types
        """Notes the batches."""

        def on_train_batch_end(self, batch: int, logs: object = None) -> None:
            """One."""
            steps.append(batch)

    history, _ = stage(data, tmp_path / "state", "fit", callbacks=lambda _: [Noted()])
    assert steps == [0, 1, 2, 3] * 2
    assert sorted(history) == ["accuracy", "loss", "val_accuracy", "val_loss"]

"""Keras's callbacks as options of a run."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import keras
import pytest

from training.config import TrainingConfig
from training.data.dataset import Dataset
from training.fit import callbacks
from training.fit.evaluate import evaluate
from training.fit.stages import Watch
from training.recipes import resolve
from training.train import train

PLAIN = Watch(pictures=False)


@pytest.mark.parametrize("recipe", ["fast", "textbook"])
def test_checkpoint_keeps_the_best_epoch(recipe: str, run_dir: Path, synthetic_data: Dataset) -> None:
    """best.keras, and the run's model, are as good as the best epoch of the history."""
    config = resolve(recipe, dataset="synthetic", epochs=4, learning_rate=0.05, schedule="constant", checkpoint=True)
    result = train(config, run_dir, watch=PLAIN)
    best = max(result.history["val_accuracy"])
    assert result.validation.accuracy == pytest.approx(best, abs=1e-6)
    best_model = keras.models.load_model(run_dir / callbacks.BEST_MODEL, compile=False)
    assert evaluate(
        best_model, synthetic_data.validation_images, synthetic_data.validation_labels
    ).accuracy == pytest.approx(best, abs=1e-6)


def test_early_stopping_ends_a_run_that_gets_no_better(run_dir: Path) -> None:
    """Two epochs after the best one."""
    result = train(resolve("fast", dataset="synthetic", epochs=60, early_stopping=2), run_dir, watch=PLAIN)
    accuracies = result.history["val_accuracy"]
    assert len(accuracies) < 60
    assert accuracies.index(max(accuracies)) == len(accuracies) - 3


def test_exponential_schedule_lowers_the_rate_each_epoch(run_dir: Path) -> None:
    """Through LearningRateScheduler: a tenth less each time, and the history has it."""
    config = resolve("textbook", dataset="synthetic", epochs=3, schedule="exponential")
    rates = train(config, run_dir, watch=PLAIN).history["learning_rate"]
    assert rates == pytest.approx([0.001, 0.0009, 0.00081])


@pytest.mark.parametrize("recipe", ["fast", "textbook"])
def test_tensorboard_gets_curves_histograms_and_the_graph(recipe: str, run_dir: Path, tmp_path: Path) -> None:
    """Read back with TensorBoard's own reader."""
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    logs = tmp_path / "logs"
    train(resolve(recipe, dataset="synthetic", epochs=2), run_dir, watch=Watch(pictures=False, tensorboard=logs))
    events = EventAccumulator(str(logs / "train"), size_guidance={"tensors": 0}).Reload()
    tags = events.Tags()
    assert tags["graph"]
    assert {"epoch_loss", "epoch_accuracy"} <= set(tags["tensors"])
    assert any("histogram" in tag and "kernel" in tag for tag in tags["tensors"])
    validation = EventAccumulator(str(logs / "validation")).Reload().Tags()
    assert "epoch_accuracy" in validation["tensors"]


HISTORY = {"val_accuracy": [0.5, 0.75, 0.625]}


@pytest.mark.parametrize(
    ("settings", "writes", "expected"),
    [
        ({}, True, ["_TensorBoard"]),
        ({"schedule": "exponential"}, True, ["LearningRateScheduler", "_TensorBoard"]),
        ({"checkpoint": True, "early_stopping": 3}, True, ["_BestModel", "_EarlyStopping", "_TensorBoard"]),
        ({"checkpoint": True, "early_stopping": 3}, False, ["_EarlyStopping"]),
    ],
)
def test_a_run_has_the_callbacks_that_it_asks_for(
    tmp_path: Path, settings: dict[str, Any], writes: bool, expected: list[str]
) -> None:
    """Those that write are the chief's alone; the directory of the logs is made."""
    config = TrainingConfig(**settings)
    made = callbacks.build(config, {}, tmp_path, tmp_path / "a/logs", writes=writes)
    assert [type(callback).__name__ for callback in made] == expected
    assert (tmp_path / "a/logs").is_dir() == writes
    # Of every epoch.
    assert [callback.histogram_freq for callback in made if hasattr(callback, "histogram_freq")] == [1] * writes
    names = [type(callback).__name__ for callback in callbacks.build(config, {}, tmp_path, None, writes=writes)]
    assert names == [name for name in expected if name != "_TensorBoard"]


def test_the_best_epoch_before_an_interruption_is_kept_until_it_is_beaten(tmp_path: Path) -> None:
    """An equal one does not; nothing half-written stays beside the file."""
    [best] = callbacks.build(TrainingConfig(checkpoint=True), HISTORY, tmp_path, None, writes=True)
    best.set_model(keras.Sequential([keras.Input((3,)), keras.layers.Dense(2)]))
    best.on_train_begin()
    for accuracy, is_kept in ((0.7, False), (0.75, False), (0.8125, True)):
        best.on_epoch_begin(3)
        best.on_epoch_end(3, {"val_accuracy": accuracy})
        assert [path.name for path in tmp_path.iterdir()] == ([callbacks.BEST_MODEL] if is_kept else [])


@pytest.mark.parametrize(("patience", "stops"), [(2, [True]), (3, [False, True]), (4, [False, False, True])])
def test_epochs_without_a_better_one_are_counted_over_an_interruption(
    tmp_path: Path, patience: int, stops: list[bool]
) -> None:
    """The second of three was the best one: as many more as are allowed."""
    [stopping] = callbacks.build(TrainingConfig(early_stopping=patience), HISTORY, tmp_path, None, writes=True)
    model = keras.Sequential([keras.Input((3,)), keras.layers.Dense(2)])
    stopping.set_model(model)
    model.stop_training = False
    stopping.on_train_begin()
    found = []
    for epoch in range(3, 3 + len(stops)):
        stopping.on_epoch_end(epoch, {"val_accuracy": 0.75})
        found.append(model.stop_training)
    assert found == stops

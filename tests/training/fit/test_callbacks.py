"""Keras's callbacks as options of a run."""

from __future__ import annotations

from pathlib import Path

import keras
import pytest

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

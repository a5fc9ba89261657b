"""`fashion train` without training: options to one call, and what is printed of its result."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import keras
import numpy as np
import pytest

from tests.support.exports import invoke, small_model
from training import runs
from training.config import SETTINGS, TrainingConfig
from training.fit.evaluate import compare
from training.fit.stages import Watch
from training.recipes import resolve
from training.train import TrainingResult, metrics


class Called:
    """What the command asks of the library."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.asked: list[Any] = []
        monkeypatch.setattr("training.train.train", lambda *asked, **options: self._done("train", *asked, **options))
        monkeypatch.setattr("training.train.resume", lambda *asked, **options: self._done("resume", *asked, **options))
        self._model: keras.Model = small_model()

    def _done(self, what: str, *asked: Any, **options: Any) -> TrainingResult:
        self.asked.append((what, *asked, options))
        validation = compare(np.eye(10, dtype=np.float32)[[1, 1, 1]], np.array([1, 1, 2]))
        test = compare(np.eye(10, dtype=np.float32)[[1, 1]], np.array([1, 2]))
        config = next((each for each in asked if isinstance(each, TrainingConfig)), resolve("textbook"))
        history = {"loss": [2.0, 1.0]}
        return TrainingResult(Path("runs/x"), config, self._model, history, 12.3456, validation, test)


@pytest.fixture
def called(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Called:
    """The library, which does nothing."""
    monkeypatch.chdir(tmp_path)
    return Called(monkeypatch)


def train(*arguments: object) -> str:
    """What the command prints."""
    done = invoke("train", *arguments)
    assert (done.exit_code, done.stderr) == (0, "")
    return done.stdout


PLAIN = Watch(progress=True)


@pytest.mark.parametrize(
    ("options", "data_dir", "watch"),
    [
        ([], None, PLAIN),
        (["--data-dir", "data"], Path("data"), PLAIN),
        (["--quiet"], None, Watch()),
        (["--no-pictures"], None, Watch(progress=True, pictures=False)),
        (["--tensorboard", "logs"], None, Watch(progress=True, tensorboard=Path("logs"))),
        (["--checkpoint-seconds", "0"], None, Watch(progress=True, checkpoint_seconds=0.0)),
    ],
)
def test_how_a_run_is_followed(called: Called, options: list[str], data_dir: Path | None, watch: Watch) -> None:
    """Progress and pictures unless told otherwise; in a directory of its own, or one that is resumed."""
    train("--run-dir", "runs/mine", *options)
    runs.write_json(Path("config.json"), resolve("fast").to_json())
    train("--resume", ".", *options)
    asked = {"data_dir": data_dir, "watch": watch}
    assert called.asked == [("train", resolve("fast"), Path("runs/mine"), asked), ("resume", Path(), asked)]


VALUES: dict[str, tuple[list[str], object]] = {
    "dataset": (["--dataset", "synthetic"], "synthetic"),
    "model": (["--model", "perceptron"], "perceptron"),
    "api": (["--api", "functional"], "functional"),
    "loop": (["--loop", "custom"], "custom"),
    "epochs": (["--epochs", "7"], 7),
    "batch_size": (["--batch-size", "7"], 7),
    "learning_rate": (["--learning-rate", "0.5"], 0.5),
    "schedule": (["--schedule", "exponential"], "exponential"),
    "warmup": (["--warmup", "0.25"], 0.25),
    "weight_decay": (["--weight-decay", "0.25"], 0.25),
    "dropout": (["--dropout", "0.25"], 0.25),
    "batch_norm": (["--no-batch-norm"], False),
    "shift": (["--shift", "0.25"], 0.25),
    "teacher": (["--teacher", "cnn"], "cnn"),
    "teacher_weight": (["--teacher-weight", "0.25"], 0.25),
    "steps_per_execution": (["--steps-per-execution", "7"], 7),
    "jit_compile": (["--jit-compile"], True),
    "checkpoint": (["--checkpoint"], True),
    "early_stopping": (["--early-stopping", "7"], 7),
    "strategy": (["--strategy", "mirrored"], "mirrored"),
    "seed": (["--seed", "7"], 7),
}


def test_every_setting_has_an_option() -> None:
    """But the recipe, whose option it is."""
    assert list(VALUES) == [name for name in SETTINGS if name != "recipe"]


@pytest.mark.parametrize("name", VALUES)
def test_an_option_changes_one_setting_of_the_recipe(called: Called, name: str) -> None:
    """`fast` unless another is named."""
    options, value = VALUES[name]
    train("--run-dir", "a", *options)
    train("--run-dir", "a", "--recipe", "fast", *options)
    config = called.asked[0][1]
    assert config == called.asked[1][1] == resolve("fast", **{name: value})
    assert getattr(config, name) == value


def test_another_recipe(called: Called) -> None:
    """With its own settings, and a run that is called by it."""
    train("--recipe", "textbook")
    [(_, config, run_dir, _)] = called.asked
    assert config == resolve("textbook")
    assert run_dir.parent == Path("runs")
    assert run_dir.name.endswith("-textbook")


def test_what_is_printed_of_a_run(called: Called) -> None:
    """One line for people; as JSON with the metrics that its file has."""
    assert train("--run-dir", "a") == "runs/x: validation accuracy 0.6667, test accuracy 0.5000, fit 12.3 s\n"
    result = called._done("train", resolve("fast"))
    facts = {"run_dir": "runs/x", "recipe": "fast"} | metrics(result)
    assert json.loads(train("--run-dir", "a", "--json")) == facts
    assert metrics(result) == {
        "validation_accuracy": result.validation.accuracy,
        "validation_loss": result.validation.loss,
        "test_accuracy": 0.5,
        "test_loss": result.test.loss,
        "test_distribution": {"classes": [0, 2, *[0] * 8], "confidence": [*[0] * 9, 2]},
        "fit_seconds": 12.346,
        "epochs": 2,
        "parameters": 101_770,
    }


def test_a_run_that_is_resumed_keeps_its_settings(called: Called) -> None:
    """Those that are named again must be the same; the first that is not is told."""
    runs.write_json(Path("config.json"), resolve("textbook", epochs=7).to_json())
    train("--resume", ".", "--recipe", "textbook", "--epochs", "7", "--no-checkpoint")
    for options, text in (
        (["--epochs", "8"], "epochs 7, not 8"),
        (["--recipe", "fast"], "recipe textbook, not fast"),
        (["--checkpoint"], "checkpoint False, not True"),
    ):
        done = invoke("train", "--resume", ".", *options)
        assert (done.exit_code, done.stdout) == (2, "")
        assert done.stderr == f"Error: . was begun with {text}: leave it out or begin a new run\n"
    assert len(called.asked) == 1


@pytest.mark.parametrize(
    ("options", "text"),
    [
        (["--recipe", "slow"], "Invalid value for '--recipe'"),
        (["--checkpoint-seconds", "-1"], "Invalid value for '--checkpoint-seconds'"),
        (["--model", "cnn"], "Invalid value for '--model'"),
        (["--resume", "a", "--run-dir", "b"], "--run-dir b does not go with --resume a: the run stays where it is"),
        (["--resume", "a"], "a holds no run to resume (config.json is missing): name an interrupted run"),
    ],
)
def test_options_that_cannot_be(called: Called, options: list[str], text: str) -> None:
    """Nothing is trained."""
    done = invoke("train", *options)
    assert (done.exit_code, text in done.stderr) == (2, True)
    assert called.asked == []

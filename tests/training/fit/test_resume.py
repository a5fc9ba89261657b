"""Runs that are interrupted go on; runs with the same seed are the same."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import keras
import numpy as np
import pytest
from numpy.typing import NDArray

from tests.support.exports import invoke
from tests.support.interrupted import interrupted_after
from training import runs
from training.errors import TrainingUsageError
from training.fit.stages import Watch
from training.recipes import resolve
from training.train import CHECKPOINT, resume, train

PLAIN = Watch(pictures=False)


def model_of(run_dir: Path) -> keras.Model:
    """The trained model of a run."""
    return keras.models.load_model(run_dir / runs.MODEL, compile=False)


def weights_of(run_dir: Path) -> list[NDArray[np.float32]]:
    """The trained weights of a run."""
    return list(model_of(run_dir).get_weights())


def begin(arguments: list[str], cwd: Path) -> subprocess.Popen[str]:
    """`fashion train` in a process of its own."""
    code = "from client.cli import main; main()"
    return subprocess.Popen(
        [sys.executable, "-c", code, "train", "--dataset", "synthetic", "--no-pictures", *arguments],
        cwd=cwd,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


def wait_for(path: Path, process: subprocess.Popen[str]) -> None:
    """Until the file is there; fails with the process's words where it ends first."""
    for _ in range(1200):
        if path.exists():
            return
        assert process.poll() is None, process.communicate()
        time.sleep(0.05)
    pytest.fail(f"{path} never appeared")


@pytest.mark.parametrize("recipe", ["fast", "textbook"])
def test_one_seed_makes_bit_identical_runs(recipe: str, tmp_path: Path) -> None:
    """Both loops; another seed gives other weights."""
    for name, seed in (("a", 7), ("b", 7), ("c", 8)):
        train(resolve(recipe, dataset="synthetic", epochs=2, seed=seed), tmp_path / name, watch=PLAIN)
    first, same, other = (weights_of(tmp_path / name) for name in "abc")
    assert all(np.array_equal(left, right) for left, right in zip(first, same, strict=True))
    assert not np.array_equal(first[0], other[0])


def test_interrupted_run_goes_on_as_if_nothing_had_happened(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Dropout, shifts, schedule and best model included, the resumed run ends bit-identical to the whole one."""
    config = resolve("fast", dataset="synthetic", epochs=5, dropout=0.2, shift=0.5, checkpoint=True)
    whole = train(config, tmp_path / "whole", watch=PLAIN)
    run_dir = tmp_path / "cut"
    message = interrupted_after(3, config, run_dir, monkeypatch)
    assert message == (
        f"interrupted after 3 of 5 epochs; the model so far is {run_dir}/model.keras; "
        f"go on with: fashion train --resume {run_dir}"
    )
    assert model_of(run_dir).count_params() == 101_770
    resumed = resume(run_dir, watch=PLAIN)
    assert resumed.history == whole.history
    assert len(resumed.history["loss"]) == 5
    for left, right in zip(weights_of(run_dir), weights_of(tmp_path / "whole"), strict=True):
        assert np.array_equal(left, right)
    assert not (run_dir / CHECKPOINT).exists()


def test_early_stopping_counts_the_epochs_before_the_interruption(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It stops at the same epoch as the whole run."""
    config = resolve("fast", dataset="synthetic", epochs=40, early_stopping=3)
    whole = train(config, tmp_path / "whole", watch=PLAIN)
    epochs = len(whole.history["loss"])
    assert 4 <= epochs < 40
    interrupted_after(epochs - 2, config, tmp_path / "cut", monkeypatch)
    assert len(resume(tmp_path / "cut", watch=PLAIN).history["loss"]) == epochs


def test_killed_run_is_resumed_to_its_last_epoch(tmp_path: Path) -> None:
    """kill -9 in the middle of the textbook's loop; the resumed run ends with all its epochs."""
    run_dir = tmp_path / "run"
    arguments = ["--recipe", "textbook", "--epochs", "60", "--run-dir", str(run_dir), "--checkpoint-seconds", "0"]
    process = begin(arguments, tmp_path)
    wait_for(run_dir / CHECKPOINT, process)
    os.kill(process.pid, signal.SIGKILL)
    process.communicate()
    assert not (run_dir / "metrics.json").exists()
    assert not (tmp_path / "latest").exists()
    config = json.loads((run_dir / "config.json").read_text())
    (run_dir / "config.json").write_text(json.dumps(config | {"epochs": 12}))  # to be done sooner
    result = resume(run_dir, watch=PLAIN)
    assert len(result.history["val_accuracy"]) == 12
    assert result.test.accuracy > 0.9


def test_ctrl_c_is_one_line_that_says_how_to_go_on(tmp_path: Path) -> None:
    """SIGINT to the command: exit code 1, no traceback, a model that loads."""
    process = begin(["--epochs", "100000", "--run-dir", "run", "--checkpoint-seconds", "0", "--quiet"], tmp_path)
    wait_for(tmp_path / "run" / CHECKPOINT, process)
    process.send_signal(signal.SIGINT)
    stdout, stderr = process.communicate(timeout=60)
    assert (process.returncode, stdout) == (1, "")
    assert stderr.startswith("Error: interrupted after ")
    assert stderr.endswith("go on with: fashion train --resume run\n")
    assert stderr.count("\n") == 1
    assert model_of(tmp_path / "run").count_params() == 101_770


def test_damaged_checkpoint_is_refused_by_name(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """One flipped byte is enough."""
    run_dir = tmp_path / "run"
    interrupted_after(1, resolve("fast", dataset="synthetic"), run_dir, monkeypatch)
    path = run_dir / CHECKPOINT
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 1
    path.write_bytes(content)
    with pytest.raises(TrainingUsageError, match=rf"{path} is damaged \(.*\): begin a new run"):
        resume(run_dir)


def test_checkpoint_of_another_model_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A run directory whose configuration was changed meanwhile."""
    run_dir = tmp_path / "run"
    interrupted_after(1, resolve("fast", dataset="synthetic"), run_dir, monkeypatch)
    runs.write_json(run_dir / "config.json", resolve("fast", dataset="synthetic", model="perceptron").to_json())
    with pytest.raises(TrainingUsageError, match=rf"{run_dir / CHECKPOINT} holds another model than perceptron"):
        resume(run_dir)


def test_there_must_be_something_to_resume(tmp_path: Path) -> None:
    """No run, and a run that is finished, are told apart."""
    with pytest.raises(TrainingUsageError, match=f"{tmp_path} holds no run to resume"):
        resume(tmp_path)
    train(resolve("fast", dataset="synthetic", epochs=1), tmp_path / "run", watch=PLAIN)
    with pytest.raises(TrainingUsageError, match="is finished: there is nothing to resume"):
        resume(tmp_path / "run")


@pytest.mark.parametrize(
    ("content", "expected"),
    [
        ("[1]", "{path} holds [1], no JSON object: name a directory that `fashion train` made"),
        ('{"epochs": [3]}', "{path}: epochs [3] must be of type int. Correct it, or begin a new run"),
        ('{"learning_rate": {}}', "{path}: learning_rate {{}} must be of type float. Correct it, or begin a new run"),
    ],
)
def test_a_configuration_that_was_changed_is_refused_by_its_file(tmp_path: Path, content: str, expected: str) -> None:
    """A list where a number or an object belongs: the file, the value, the rule, and what to do."""
    path = tmp_path / runs.CONFIG
    path.write_text(content)
    with pytest.raises(TrainingUsageError) as error:
        resume(tmp_path)
    assert str(error.value) == expected.format(path=path)


def test_resume_with_other_settings_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The command names the setting, what it was and what was asked."""
    interrupted_after(1, resolve("fast", dataset="synthetic"), tmp_path / "run", monkeypatch)
    monkeypatch.chdir(tmp_path)
    result = invoke("train", "--resume", "run", "--model", "perceptron")
    assert (result.exit_code, result.stdout) == (2, "")
    assert result.stderr == "Error: run was begun with model mlp, not perceptron: leave it out or begin a new run\n"

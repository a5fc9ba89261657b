"""`fashion train` as a user calls it."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

from tests.support.exports import invoke


def fashion(*arguments: str, cwd: Path) -> subprocess.CompletedProcess[str]:
    """The command in a process of its own."""
    code = "from client.cli import main; main()"
    return subprocess.run(  # the interpreter and a constant
        [sys.executable, "-c", code, *arguments], cwd=cwd, capture_output=True, text=True, timeout=120, check=False
    )


def test_train_prints_json_alone_on_stdout_and_progress_on_stderr(tmp_path: Path) -> None:
    """A line an epoch on stderr, no library's words anywhere, one object on stdout."""
    process = fashion("train", "--dataset", "synthetic", "--epochs", "2", "--json", cwd=tmp_path)
    assert process.returncode == 0, process.stderr
    result = json.loads(process.stdout)
    assert result["epochs"] == 2
    assert (tmp_path / result["run_dir"] / "model.keras").is_file()
    assert (tmp_path / "runs" / "latest").resolve() == (tmp_path / result["run_dir"]).resolve()
    assert [line.split(":")[0] for line in process.stderr.splitlines()] == [
        "epoch 1/2",
        "epoch 2/2",
        "Drawing the figures",
    ]


def test_train_ends_with_one_line_of_both_accuracies(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """`--quiet` leaves that line only."""
    monkeypatch.chdir(tmp_path)
    options = ("--dataset", "synthetic", "--epochs", 1, "--quiet", "--no-pictures", "--run-dir", "runs/mine")
    result = invoke("train", *options)
    assert (result.exit_code, result.stderr) == (0, "")
    assert result.stdout.startswith("runs/mine: validation accuracy 0.")
    assert ", test accuracy 0." in result.stdout
    assert result.stdout.count("\n") == 1


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--epochs", "0"], "epochs 0 must be at least 1 and at most 1,000,000,000"),
        (["--resume", "a", "--run-dir", "b"], "--run-dir b does not go with --resume a: the run stays where it is"),
    ],
    ids=["a number", "a contradiction"],
)
def test_bad_setting_is_one_line_and_exit_code_2(options: list[str], message: str, tmp_path: Path) -> None:
    """Nothing is written for it."""
    process = fashion("train", *options, cwd=tmp_path)
    assert (process.returncode, process.stdout) == (2, "")
    assert process.stderr == f"Error: {message}\n"
    assert list(tmp_path.iterdir()) == []


def test_help_shows_the_range_of_each_number(tmp_path: Path) -> None:
    """As the messages say it, at the end of the option's text."""
    text = " ".join(fashion("train", "--help", cwd=tmp_path).stdout.split())
    assert "--epochs INTEGER Times through the training images. [at least 1 and at most 1,000,000,000]" in text
    assert "--learning-rate FLOAT The (highest) learning rate. [above 0 and below inf]" in text
    assert "--seed INTEGER The seed of every random choice. [at least 0 and at most 4,294,967,295]" in text

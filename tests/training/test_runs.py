"""The run directory: its name, what is refused, and files that are whole or not there."""

from __future__ import annotations

import json
import os
from datetime import datetime, timezone
from pathlib import Path

import pytest

from tests.support.exports import children, small_model
from training import runs
from training.errors import TrainingUsageError
from training.recipes import resolve


class Clock(datetime):
    """It is 3 in the afternoon."""

    @classmethod
    def now(cls, tz: object = None) -> Clock:  # noqa: ARG003
        """Always the same."""
        return cls(2026, 1, 2, 15, 4, 5, tzinfo=timezone.utc)

    def astimezone(self, tz: object = None) -> Clock:
        """This clock's place is at UTC."""
        return self


def test_a_run_is_called_by_its_time_and_recipe(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A number stands behind a name that is taken, from 2 on."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(runs, "datetime", Clock)
    found = []
    for _ in range(3):
        found.append(runs.default_run_dir("fast"))
        found[-1].mkdir(parents=True)
    assert [str(path) for path in found] == [
        "runs/20260102-150405-fast",
        "runs/20260102-150405-fast-2",
        "runs/20260102-150405-fast-3",
    ]


def test_a_new_run_takes_an_empty_directory(tmp_path: Path) -> None:
    """It is made with those above it, or is there already; one that holds anything, or is a file, is refused."""
    runs.create(tmp_path / "a/b")
    runs.create(tmp_path / "a/b")
    with pytest.raises(TrainingUsageError) as error:
        runs.create(tmp_path / "a")
    assert str(error.value) == f"{tmp_path}/a is not empty: name a new directory for this run"
    (tmp_path / "file").touch()
    with pytest.raises(TrainingUsageError) as error:
        runs.create(tmp_path / "file")
    assert str(error.value) == f"{tmp_path}/file cannot be made (File exists): name a writable directory"


def test_an_interrupted_run_is_gone_on_with_by_its_own_configuration(tmp_path: Path) -> None:
    """Without one, or once it is finished, there is nothing to go on with."""
    with pytest.raises(TrainingUsageError) as error:
        runs.unfinished_config(tmp_path)
    assert str(error.value) == (f"{tmp_path} holds no run to resume (config.json is missing): name an interrupted run")
    config = resolve("textbook", epochs=7)
    runs.write_json(tmp_path / "config.json", config.to_json())
    assert runs.unfinished_config(tmp_path) == config
    runs.write_json(tmp_path / "metrics.json", {})
    with pytest.raises(TrainingUsageError) as error:
        runs.unfinished_config(tmp_path)
    assert str(error.value) == f"{tmp_path} is finished: there is nothing to resume; begin a new run"


def begun(run_dir: Path, *files: str, time: int = 0) -> Path:
    """A run directory with some files; time: of its configuration."""
    run_dir.mkdir(parents=True)
    for name in files:
        (run_dir / name).touch()
    if time:
        os.utime(run_dir / "config.json", (time, time))
    return run_dir


def refusal(run_dir: Path) -> str:
    """Why a run cannot be exported; empty where it can."""
    try:
        runs.check_finished(run_dir)
    except TrainingUsageError as error:
        return str(error)
    return ""


def test_a_finished_run_has_a_model_and_metrics(tmp_path: Path) -> None:
    """An interrupted one is told with how to go on, a directory of anything else with what makes a run."""
    assert refusal(begun(tmp_path / "done", "config.json", "metrics.json", "model.keras")) == ""
    assert refusal(begun(tmp_path / "bare", "model.keras")) == ""
    cut = begun(tmp_path / "cut", "config.json", "model.keras")
    assert refusal(cut) == f"{cut} is not finished: go on with: fashion train --resume {cut}"
    empty = begun(tmp_path / "empty")
    expected = "No trained model at {}/model.keras: run `fashion train` first, or name a run directory"
    assert refusal(empty) == expected.format(empty)
    no_model = begun(tmp_path / "no-model", "config.json", "metrics.json")
    assert refusal(no_model) == expected.format(no_model)


def test_without_a_latest_run_the_one_that_was_begun_last_is_meant(tmp_path: Path) -> None:
    """If it is not finished, it is named; another directory that is missing has nothing to do with it."""
    latest = tmp_path / "latest"
    begun(tmp_path / "b", "config.json", time=2000)
    begun(tmp_path / "a", "config.json", time=1000)
    assert refusal(latest).startswith(f"{tmp_path}/b is not finished: ")
    assert refusal(tmp_path / "missing").startswith(f"No trained model at {tmp_path}/missing/model.keras: ")
    (tmp_path / "b/metrics.json").touch()
    assert refusal(latest).startswith(f"No trained model at {latest}/model.keras: ")
    begun(tmp_path / "done", "config.json", "metrics.json", "model.keras", time=500)
    latest.symlink_to("done")
    begun(tmp_path / "c", "config.json", time=3000)
    assert refusal(latest) == ""


def test_json_is_written_for_people(tmp_path: Path) -> None:
    """Indented, with an end of line; it is read back as it was."""
    runs.write_json(tmp_path / "a.json", {"epochs": 3, "loss": [0.5]})
    assert (tmp_path / "a.json").read_text() == '{\n  "epochs": 3,\n  "loss": [\n    0.5\n  ]\n}\n'
    assert runs.read_json(tmp_path / "a.json") == {"epochs": 3, "loss": [0.5]}
    assert children(tmp_path) == ["a.json"]


@pytest.mark.parametrize(
    ("content", "expected"),
    [
        (None, "{} cannot be read as JSON ([Errno 2] No such file or directory: '{}'): name the directory of a "),
        (b"{", "{} cannot be read as JSON (Expecting property name enclosed in double quotes: line 1 column 2 (char 1"),
        (b"\xff", "{} cannot be read as JSON ('utf-8' codec can't decode byte 0xff in position 0: invalid start byte)"),
        (b'"text"', "{} holds 'text', no JSON object: name a directory that `fashion train` made"),
    ],
    ids=["missing", "damaged", "no text", "no object"],
)
def test_a_file_that_is_no_json_object_is_named(tmp_path: Path, content: bytes | None, expected: str) -> None:
    """With the reason, and what to do."""
    path = tmp_path / "metrics.json"
    if content is not None:
        path.write_bytes(content)
    with pytest.raises(TrainingUsageError) as error:
        runs.read_json(path)
    assert str(error.value).startswith(expected.format(path, path))


def test_a_model_is_saved_in_four_files(tmp_path: Path) -> None:
    """Together and apart; nothing half-written is beside them, and the architecture is indented JSON."""
    model = small_model()
    runs.save_model(model, tmp_path)
    assert children(tmp_path) == ["model.h5", "model.json", "model.keras", "model.weights.h5"]
    text = (tmp_path / "model.json").read_text()
    assert json.loads(text) == json.loads(model.to_json())
    assert text.startswith("{\n  ")


def test_a_model_that_cannot_be_saved_leaves_no_part_of_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The file of before stays."""
    (tmp_path / "model.keras").write_text("before")
    model = small_model()

    def full(path: Path) -> None:
        path.write_text("half")
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(model, "save", full)
    with pytest.raises(OSError, match="No space left"):
        runs.save_model(model, tmp_path)
    assert {path.name: path.read_text() for path in tmp_path.iterdir()} == {"model.keras": "before"}


def test_latest_is_a_link_that_moves(tmp_path: Path) -> None:
    """By the run's name beside it, so the directory of all runs can be moved; what a killed run left is no matter."""
    for name in ("one", "two"):
        (tmp_path / name).mkdir()
        (tmp_path / f".latest-{os.getpid()}").symlink_to("elsewhere")
        runs.point_latest(tmp_path / name)
        assert str((tmp_path / "latest").readlink()) == name
    assert children(tmp_path) == ["latest", "one", "two"]

"""Killed at any point, a promotion leaves labels that can be read: the old ones or the new ones."""

from __future__ import annotations

import json
import multiprocessing
import os
import signal
from pathlib import Path

import pytest
from click.testing import CliRunner

from client.cli import fashion
from fashion_common.evidence import Evidence, Side
from fashion_common.labels import read_labels
from fashion_common.running import RunningServer
from tests.support.killed import Step, kill_at

# In the order in which a promotion that breaks comes to them; from the rename on the version is promoted.
STEPS = (
    Step("rollout.evidence", "given_evidence"),
    Step("rollout.watch", "usual"),
    Step("rollout.move", "move_labels"),
    Step("fashion_common.files", "os.fsync"),
    Step("pathlib", "Path.replace"),
    Step("pathlib", "Path.replace", after=True),
    Step("rollout.watch", "watch"),
    Step("rollout.watch", "watch", after=True),
    Step("pathlib", "Path.replace", call=2),
    Step("pathlib", "Path.replace", call=2, after=True),
)
PROMOTED = range(5, 9)


@pytest.fixture
def base(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The versions 1 and 2, what a comparison of them has shown, and no server that runs."""
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path / "state"))
    for version in (1, 2):
        (tmp_path / "models" / str(version)).mkdir(parents=True)
    sides = Side("1", version=1), Side("2", version=2)
    evidence = Evidence("fashion_mnist", "2026-01-02T03:04:05+00:00", *sides, ("a",), "0", 10, 10, 0.0, 0.0)
    (tmp_path / "evidence.json").write_text(json.dumps(evidence.to_json()))
    return tmp_path / "models"


def promote(base: Path) -> int:
    """Promotes version 2, whose watch finds a fault; the exit code."""
    from rollout import watch
    from rollout.watch import Counts

    patch = pytest.MonkeyPatch()
    patch.setattr(watch, "_state", lambda *_: "it broke")
    server = RunningServer(str(base), str(base), "fashion_mnist", "http://127.0.0.1:1/v1/models/m", "")
    patch.setattr(watch, "counts", lambda _: {server.url: Counts()})
    patch.setattr(watch, "running_servers", lambda _: [server])
    arguments = ["--evidence", str(base.parent / "evidence.json"), "--watch", "0"]
    try:
        return CliRunner().invoke(fashion, ["promote", "--model-base-path", str(base), *arguments]).exit_code
    finally:
        patch.undo()


def killed_promotion(step: Step, base: Path) -> None:
    """The same, killed at the step."""
    kill_at(step)
    promote(base)
    os._exit(99)


@pytest.mark.parametrize("step", STEPS, ids=str)
def test_a_killed_promotion_leaves_labels_that_can_be_read(base: Path, step: Step) -> None:
    """Whole ones; the next promotion goes on from there."""
    process = multiprocessing.get_context("fork").Process(target=killed_promotion, args=(step, base))
    process.start()
    process.join(60)
    assert process.exitcode == -signal.SIGKILL
    assert read_labels(base).named([1, 2])["stable"] == (2 if STEPS.index(step) in PROMOTED else 1)
    if STEPS.index(step) not in PROMOTED:
        assert promote(base) == 1
        assert [move.action for move in read_labels(base).history][-2:] == ["promote", "rollback"]
        assert sorted(path.name for path in base.iterdir()) == ["1", "2", "labels.json"]

"""The one home of labels: what is read and written there, by whom, and what a kill leaves."""

from __future__ import annotations

import json
import multiprocessing
import os
import re
import signal
import sys
import threading
from pathlib import Path

import pytest

from fashion_common.errors import LabelsError
from fashion_common.labels import Labels, Move, check_label, labels_writer, read_labels
from tests.support.killed import Step, kill_at


@pytest.fixture
def base(tmp_path: Path) -> Path:
    """A model base path with the versions 1, 2 and 5."""
    for version in (1, 2, 5):
        (tmp_path / str(version)).mkdir()
    return tmp_path


def move(base: Path, action: str = "label", **versions: int | None) -> Labels:
    """The labels after a move."""
    with labels_writer(base) as writer:
        writer.move(versions, action=action)
        return writer.labels


@pytest.mark.parametrize(
    ("versions", "named"),
    [
        ([], {}),
        ([3], {"stable": 3, "canary": 3}),
        ([3, 4], {"stable": 3, "canary": 4}),
        ([10, 9, 2], {"stable": 9, "canary": 10}),
    ],
)
def test_labels_that_were_never_moved(tmp_path: Path, versions: list[int], named: dict[str, int]) -> None:
    """`canary` is the newest version, `stable` the newest but one, or the only one."""
    assert read_labels(tmp_path).named(versions) == named


def test_a_moved_label_stays_and_the_others_follow(base: Path) -> None:
    """What is written is what is read."""
    labels = move(base, stable=1, blue=2)
    assert read_labels(base) == labels
    assert labels.named([1, 2, 5]) == {"stable": 1, "canary": 5, "blue": 2}
    assert labels.named([1, 2, 5, 6]) == {"stable": 1, "canary": 6, "blue": 2}


def test_the_history_has_every_move(base: Path) -> None:
    """When, from, to, by which command, why and by which evidence."""
    with labels_writer(base) as writer:
        writer.move({"stable": 5}, action="promote", reason="better boots", evidence={"agreement": 0.99})
        writer.move({"stable": None, "blue": 1}, action="label")
    first, second, third = read_labels(base).history
    assert first == Move(first.time, "stable", 2, 5, "promote", "better boots", {"agreement": 0.99})
    assert second == Move(second.time, "stable", 5, None, "label", "")
    assert third == Move(third.time, "blue", None, 1, "label", "")
    assert re.fullmatch(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\+00:00", first.time)
    assert second.time == third.time
    assert read_labels(base).last_move("stable") == second
    assert (
        (base / "labels.json").read_text()
        == f"""{{
  "labels": {{
    "blue": 1
  }},
  "history": [
    {{
      "time": "{first.time}",
      "label": "stable",
      "before": 2,
      "after": 5,
      "action": "promote",
      "reason": "better boots",
      "evidence": {{
        "agreement": 0.99
      }}
    }},
    {{
      "time": "{second.time}",
      "label": "stable",
      "before": 5,
      "after": null,
      "action": "label",
      "reason": "",
      "evidence": null
    }},
    {{
      "time": "{third.time}",
      "label": "blue",
      "before": null,
      "after": 1,
      "action": "label",
      "reason": "",
      "evidence": null
    }}
  ]
}}
"""
    )
    assert read_labels(base).last_move("green") is None


def test_a_rollback_goes_back_step_by_step(base: Path) -> None:
    """Each returns to the version before the last move that was not taken back; what was put back does not count."""
    move(base, stable=1)
    move(base, stable=5)
    move(base, stable=2)
    labels = move(base, "put back", stable=5)
    assert labels.before("stable") == 1
    labels = move(base, "rollback", stable=1)
    assert labels.before("stable") == 2, "the version by default when it was first moved"
    assert move(base, "rollback", stable=2).before("stable") is None
    assert move(base, stable=5).before("stable") == 2
    assert read_labels(base).before("blue") is None


def test_what_was_only_written_down_is_no_move(base: Path) -> None:
    """As `fashion serve` does with `stable`: there is nothing to go back to."""
    assert move(base, "serve", stable=2).before("stable") is None
    assert move(base, stable=5).before("stable") == 2


def test_versions_in_use_are_the_labelled_ones_and_those_to_go_back_to(base: Path) -> None:
    """Labels by default hold no version."""
    assert Labels().in_use() == frozenset()
    assert move(base, stable=2).in_use() == {2}
    assert move(base, stable=5).in_use() == {5, 2}
    assert move(base, stable=1, blue=5).in_use() == {1, 5}


@pytest.mark.parametrize(
    "text",
    [
        "{",
        "[]",
        '{"labels": {}}',
        '{"labels": [], "history": []}',
        '{"labels": {"stable": "1"}, "history": []}',
        '{"labels": {"stable": true}, "history": []}',
        '{"labels": {"stable": -1}, "history": []}',
        '{"labels": {"a/b": 1}, "history": []}',
        '{"labels": {}, "history": [{"time": "now"}]}',
    ],
)
def test_a_damaged_file_is_told_with_the_fix(base: Path, text: str) -> None:
    """Nothing is made of it, and no move writes over it."""
    (base / "labels.json").write_text(text)
    fix = r"correct it, or move it away and set the labels with `fashion label`$"
    with pytest.raises(LabelsError, match=rf"labels\.json is damaged \(.*\): {fix}"):
        read_labels(base)
    with pytest.raises(LabelsError, match="is damaged"):
        move(base, stable=1)
    assert (base / "labels.json").read_text() == text


def test_what_cannot_be_read_or_written_is_told(base: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """With the system's reason."""
    with pytest.raises(LabelsError, match=r"none cannot be moved: No such file or directory$"):
        move(base / "none", stable=1)
    (base / "labels.json").mkdir()
    with pytest.raises(LabelsError, match=r"labels\.json cannot be read: Is a directory$"):
        read_labels(base)
    (base / "labels.json").rmdir()

    def full(*_: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(LabelsError, match=r"labels\.json cannot be written: No space left on device$"):
        move(base, stable=1)
    assert sorted(path.name for path in base.iterdir()) == ["1", "2", "5"]


@pytest.mark.parametrize(
    ("label", "good"),
    [
        ("a", True), ("x" * 100, True), ("x" * 101, False), ("", False), ("a b", False), ("a:b", False),
        ("a=b", False), ("a/b", False), ("a\tb", False), ("a\n", False),
    ],
)  # fmt: skip
def test_what_a_label_may_be(label: str, good: bool) -> None:
    """1 to 100 characters that a URL of TF Serving's can name; an error quotes no more of it."""
    if good:
        assert check_label(label) == label
    else:
        with pytest.raises(LabelsError) as raised:
            check_label(label)
        assert str(raised.value) == f"{label[:100]!r} is no label: 1 to 100 characters without / : = and spaces"
        assert raised.value.exit_code == 1


def test_the_labels_of_another_base_path_are_taken_over_as_they_are(base: Path) -> None:
    """Byte for byte, a version 0 too; what is no file of labels changes nothing."""
    text = b'{"history": [], "labels": {"blue": 0}}'
    with labels_writer(base) as writer:
        writer.replace(text)
        assert writer.labels == Labels({"blue": 0})
        with pytest.raises(LabelsError, match="is damaged"):
            writer.replace(b"{}")
        assert writer.labels == read_labels(base) == Labels({"blue": 0})
    assert (base / "labels.json").read_bytes() == text


def test_a_refused_move_moves_none_of_its_labels(base: Path) -> None:
    """Of two labels, one of which is none, neither has its version."""
    with labels_writer(base) as writer:
        with pytest.raises(LabelsError, match="is no label"):
            writer.move({"blue": 1, "a b": 2}, action="label")
        assert writer.labels == Labels()
    assert not (base / "labels.json").exists()


def test_a_base_path_whose_versions_cannot_be_listed(base: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """No label is moved, for the version that it had is not known."""

    def denied(_path: Path) -> None:
        raise PermissionError(13, "Permission denied")

    with labels_writer(base) as writer:
        monkeypatch.setattr(Path, "iterdir", denied)
        with pytest.raises(LabelsError, match=rf"^{re.escape(str(base))} cannot be read: Permission denied$"):
            writer.move({"blue": 1}, action="label")


def test_a_system_without_file_locks(base: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """It is told where labels can be moved."""
    monkeypatch.setitem(sys.modules, "fcntl", None)
    text = r"^labels need the file locks of Linux or macOS: move them there, or in WSL$"
    with pytest.raises(LabelsError, match=text), labels_writer(base):
        pass


def test_of_two_writers_one_waits_or_is_told(base: Path) -> None:
    """The second one reads what the first one wrote."""
    held, done = threading.Event(), threading.Event()

    def first() -> None:
        with labels_writer(base) as writer:
            held.set()
            assert done.wait(60)
            writer.move({"stable": 1}, action="label")

    thread = threading.Thread(target=first)
    thread.start()
    assert held.wait(60)
    told = pytest.raises(LabelsError, match=r"^another command is moving the labels of .*: wait for its end, and try")
    with told, labels_writer(base, wait_seconds=0):
        pass
    done.set()
    with labels_writer(base, wait_seconds=60) as writer:
        assert writer.labels.moved == {"stable": 1}
    thread.join()


STEPS = (
    Step("fashion_common.labels", "read_labels"),
    Step("fashion_common.files", "tempfile.mkstemp"),
    Step("fashion_common.files", "tempfile.mkstemp", after=True),
    Step("fashion_common.files", "os.fsync"),
    Step("pathlib", "Path.replace"),
    Step("pathlib", "Path.replace", after=True),
)


def killed_move(step: Step, base: Path) -> None:
    """Moves `stable` to 5, and is killed at the step."""
    kill_at(step)
    move(base, stable=5)


@pytest.mark.parametrize("step", STEPS, ids=str)
def test_a_killed_move_leaves_the_old_labels_or_the_new_ones(base: Path, step: Step) -> None:
    """Never half of them, and no lock; the next move removes what else was left."""
    move(base, stable=1)
    process = multiprocessing.get_context("fork").Process(target=killed_move, args=(step, base))
    process.start()
    process.join(60)
    assert process.exitcode == -signal.SIGKILL

    assert read_labels(base).moved == {"stable": 5 if step == STEPS[-1] else 1}
    move(base, stable=2)
    assert json.loads((base / "labels.json").read_text())["labels"] == {"stable": 2}
    assert sorted(path.name for path in base.iterdir()) == ["1", "2", "5", "labels.json"]

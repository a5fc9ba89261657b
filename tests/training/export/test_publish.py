"""Publishing: whole versions only, each with a number of its own, and nothing left lying about."""

from __future__ import annotations

import errno
import multiprocessing
import os
from multiprocessing.synchronize import Barrier, Event
from pathlib import Path

import pytest

from delivery.base_path import lock_directory
from fashion_common.layout import version_directories
from tests.support.descriptors import open_below
from training.errors import TrainingError, TrainingUsageError
from training.export.publish import publish, staging_directory

PROCESSES, EACH = 6, 5


def publish_some(base: Path, start: Barrier, mark: str) -> None:
    """Publishes versions as fast as it can once all are ready."""
    start.wait(60)
    for number in range(EACH):
        with staging_directory(base) as staging:
            (staging / "saved_model.pb").write_text(f"{mark}-{number}")
            publish(staging, base)


def hold_staging(base: Path, ready: Event) -> None:
    """Is killed while it writes a version."""
    with staging_directory(base) as staging:
        (staging / "saved_model.pb").write_text("half")
        ready.set()
        multiprocessing.Event().wait(60)


def test_exports_at_once_never_take_the_same_number(tmp_path: Path) -> None:
    """Six processes publish five versions each: thirty numbers without a gap, and none is lost or mixed."""
    context = multiprocessing.get_context("spawn")
    start = context.Barrier(PROCESSES)
    processes = [context.Process(target=publish_some, args=(tmp_path, start, str(mark))) for mark in range(PROCESSES)]
    for process in processes:
        process.start()
    for process in processes:
        process.join(60)
    assert [process.exitcode for process in processes] == [0] * PROCESSES
    versions = version_directories(tmp_path)
    assert sorted(versions) == list(range(1, PROCESSES * EACH + 1))
    written = {(path / "saved_model.pb").read_text() for path in versions.values()}
    assert written == {f"{mark}-{number}" for mark in range(PROCESSES) for number in range(EACH)}
    assert sorted(child.name for child in tmp_path.iterdir()) == sorted(map(str, versions))


def test_a_version_is_on_the_disk_before_it_has_its_number(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Every file and directory of it; after the rename the directory that has the number."""
    fsync, rename = os.fsync, Path.rename
    steps: list[str] = []

    def synced(descriptor: int) -> None:
        steps.append(str(Path(f"/proc/self/fd/{descriptor}").readlink()))
        fsync(descriptor)

    def renamed(path: Path, target: Path) -> Path:
        steps.append("renamed")
        return rename(path, target)

    monkeypatch.setattr(os, "fsync", synced)
    monkeypatch.setattr(Path, "rename", renamed)
    with staging_directory(tmp_path) as staging:
        (staging / "variables").mkdir()
        (staging / "variables" / "variables.index").write_text("index")
        (staging / "saved_model.pb").write_text("graph")
        written = [staging, *staging.rglob("*")]
        publish(staging, tmp_path)
    assert sorted(steps[: len(written)]) == sorted(map(str, written))
    assert steps[len(written) :] == ["renamed", str(tmp_path)]


def test_a_number_that_is_taken_in_between_is_passed_over(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A directory cannot be renamed onto a version, whatever the count said before."""
    (tmp_path / "1").mkdir()
    (tmp_path / "1" / "saved_model.pb").write_text("other")
    (tmp_path / "2").write_text("a file")
    monkeypatch.setattr("training.export.publish.version_directories", lambda _: {})
    with staging_directory(tmp_path) as staging:
        (staging / "saved_model.pb").write_text("ours")
        assert publish(staging, tmp_path) == tmp_path / "3"
    assert (tmp_path / "1" / "saved_model.pb").read_text() == "other"


def test_a_version_that_cannot_be_published_says_why(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Only a number that is taken is passed over; nothing stays behind."""
    (tmp_path / "4").mkdir()

    def full(*_: object) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(Path, "rename", full)

    def export() -> None:
        with staging_directory(tmp_path) as staging:
            publish(staging, tmp_path)

    with pytest.raises(TrainingError) as error:
        export()
    assert str(error.value) == f"Cannot publish {tmp_path}/5: No space left on device"
    assert [path.name for path in tmp_path.iterdir()] == ["4"]


@pytest.mark.parametrize(
    ("raised", "reason"), [(OSError(28, "No space left on device"), "No space left on device"), (OSError("odd"), "odd")]
)
def test_a_version_that_cannot_be_written_says_why(tmp_path: Path, raised: OSError, reason: str) -> None:
    """As on a full disk; others may read what is being written."""
    base = tmp_path / "deep/m"
    modes: list[int] = []

    def export() -> None:
        with staging_directory(base) as staging:
            modes.append(staging.stat().st_mode & 0o777)
            raise raised

    with pytest.raises(TrainingError) as error:
        export()
    assert str(error.value) == f"Cannot write a version under {base}: {reason}"
    assert type(error.value) is TrainingError
    assert (modes, list(base.iterdir())) == ([0o755], [])


def test_digits_of_another_script_are_no_version(tmp_path: Path) -> None:
    """`\N{ARABIC-INDIC DIGIT THREE}` is no version to a server, so the next export takes no notice of it."""
    (tmp_path / "\N{ARABIC-INDIC DIGIT THREE}").mkdir()
    with staging_directory(tmp_path) as staging:
        assert publish(staging, tmp_path) == tmp_path / "1"


def test_a_running_export_is_left_alone_and_a_killed_one_cleaned_up(tmp_path: Path) -> None:
    """The lock on what is being written goes with the process that holds it."""
    context = multiprocessing.get_context("spawn")
    ready = context.Event()
    other = context.Process(target=hold_staging, args=(tmp_path, ready))
    other.start()
    assert ready.wait(60)
    (its_directory,) = tmp_path.iterdir()
    with staging_directory(tmp_path) as ours:
        assert sorted(tmp_path.iterdir()) == sorted([its_directory, ours])
    assert list(tmp_path.iterdir()) == [its_directory]
    other.kill()
    other.join(60)
    with staging_directory(tmp_path) as ours:
        assert list(tmp_path.iterdir()) == [ours]
    assert list(tmp_path.iterdir()) == []


def test_a_directory_that_was_taken_for_a_leftover_is_made_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Before it was locked; no descriptor is kept."""
    made: list[Path] = []

    def lock(path: Path) -> int:
        descriptor = lock_directory(path)
        made.append(path)
        if len(made) == 1:
            path.rmdir()
        return descriptor

    monkeypatch.setattr("training.export.publish.lock_directory", lock)
    with staging_directory(tmp_path) as staging:
        assert staging == made[1]
        assert open_below(tmp_path) == [str(staging)]
    assert open_below(tmp_path) == []


def test_an_error_while_writing_leaves_nothing(tmp_path: Path) -> None:
    """What was begun is removed with the error."""

    def fail() -> None:
        with staging_directory(tmp_path) as staging:
            (staging / "half").write_text("half")
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        fail()
    assert list(tmp_path.iterdir()) == []
    assert open_below(tmp_path) == []


def test_a_base_path_that_cannot_be_written_is_asked_wrongly(tmp_path: Path) -> None:
    """The message names it and the option."""
    (tmp_path / "file").write_text("")
    base = tmp_path / "file" / "fashion_mnist"
    expected = f"^Cannot write versions under {base}: Not a directory: choose another --model-base-path$"
    with pytest.raises(TrainingUsageError, match=expected), staging_directory(base):
        pass

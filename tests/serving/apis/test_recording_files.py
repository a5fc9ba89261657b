"""Files of records: their bounds, and what is left of them when their writer is killed."""

from __future__ import annotations

import errno
import fcntl
import os
import signal
import stat
from multiprocessing.context import ForkServerContext
from pathlib import Path

import pytest

from serving.apis.messages import PredictionLog
from serving.apis.recording_files import RecordingFile, RecordingWriter, serialized
from serving.apis.recordings import Origin, RecordingError, read_recording
from serving.apis.tfrecord import framed
from tests.support.killed import Step, forks_with, kill_at
from tests.support.records import file_size_limit, predict_log

# All records of one digit have the same length.
RECORD_BYTES = len(framed(serialized(predict_log(0))))


class Clock:
    """Seconds that a test sets."""

    def __init__(self) -> None:
        self.now = 100.0

    def __call__(self) -> float:
        """The time."""
        return self.now


def writer(
    prefix: object, *, file: int = 3, age: float = 3600, total: int = 100, clock: Clock | None = None
) -> RecordingWriter:
    """A writer whose bounds are in records of `predict_log(0)`."""
    return RecordingWriter(
        str(prefix),
        max_file_bytes=file * RECORD_BYTES,
        max_age_seconds=age,
        max_total_bytes=total * RECORD_BYTES,
        clock=clock or Clock(),
    )


def ids(path: Path) -> list[str]:
    """The ids of the records of a file, or of all files in a directory, by name."""
    paths = sorted(path.iterdir()) if path.is_dir() else [path]
    return [Origin.of(log).request_id for path in paths for log in read_recording(path)]


def test_a_file_is_its_owners_and_new(tmp_path: Path) -> None:
    """Mode 0600 in a directory that only its owner reads; nothing that is there is written over or appended to."""
    path = tmp_path / "recordings" / "one"
    with RecordingFile(path) as file:
        file.write(predict_log(1))
        assert ids(path) == ["id-1"]
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert stat.S_IMODE(path.parent.stat().st_mode) == 0o700
    file.close()
    with pytest.raises(RecordingError, match="one exists, and a recording is a new file: give another name"):
        RecordingFile(path)
    with pytest.raises(RecordingError, match="two cannot be made: Not a directory: give a path that can be written"):
        RecordingFile(path / "two")
    assert ids(path) == ["id-1"]


def test_a_full_disk_tears_no_record(tmp_path: Path) -> None:
    """What does not fit is told, and leaves the file as it was; the next record that fits follows."""
    path = tmp_path / "one"
    with RecordingFile(path) as file:
        file.write(predict_log(1))
        with (
            file_size_limit(RECORD_BYTES * 2),
            pytest.raises(RecordingError, match=f"one cannot be written to: {os.strerror(errno.EFBIG)}"),
        ):
            file.write(predict_log(2, size=1000))
        assert path.stat().st_size == RECORD_BYTES
        file.write(predict_log(3))
    assert ids(path) == ["id-1", "id-3"]


@pytest.mark.parametrize("prefix", ["requests", "a.b*[", ""])
def test_files_have_the_prefix(tmp_path: Path, prefix: str) -> None:
    """And a time, a host, a process and a number; two writers of a process have different ones."""
    writers = [writer(f"{tmp_path}/{prefix}") for _ in range(2)]
    for each in writers:
        each.write(predict_log(1))
        each.close()
    names = [path.name for path in tmp_path.iterdir()]
    assert len(names) == 2
    assert all(
        name.startswith(prefix) and f"-{os.getpid()}_" in name and name.endswith("-000001.tfrecord") for name in names
    )


def test_a_file_ends_when_it_is_full(tmp_path: Path) -> None:
    """The record that would make it larger than it may be is the next one's first."""
    each = writer(tmp_path / "r", file=3)
    for number in range(7):
        each.write(predict_log(number))
    each.close()
    assert [len(ids(path)) for path in sorted(tmp_path.iterdir())] == [3, 3, 1]
    assert ids(tmp_path) == [f"id-{number}" for number in range(7)]


def test_a_record_that_is_larger_than_a_file(tmp_path: Path) -> None:
    """It is not written; one of just that size is."""
    large = framed(serialized(predict_log(1, size=1000)))
    for room, fits in ((len(large), True), (len(large) - 1, False)):
        each = RecordingWriter(
            str(tmp_path / f"{room}"), max_file_bytes=room, max_age_seconds=9, max_total_bytes=9 * len(large)
        )
        if fits:
            each.write(predict_log(1, size=1000))
        else:
            with pytest.raises(
                RecordingError, match=f"a record has {len(large)} bytes, and a file has room for {room}: allow larger"
            ):
                each.write(predict_log(1, size=1000))
        each.close()
    assert len(ids(tmp_path)) == 1


def test_a_file_ends_when_it_is_old(tmp_path: Path) -> None:
    """At its age to the second, whether or not there is another record."""
    clock = Clock()
    each = writer(tmp_path / "r", age=60, clock=clock)
    each.write(predict_log(1))
    clock.now += 59
    each.write(predict_log(2))
    clock.now += 1
    each.end_old()
    assert len(list(tmp_path.iterdir())) == 1
    each.write(predict_log(3))
    each.close()
    assert [ids(path) for path in sorted(tmp_path.iterdir())] == [["id-1", "id-2"], ["id-3"]]


def test_the_oldest_files_give_way(tmp_path: Path) -> None:
    """So that the newest fits; files with other names are not touched, those of earlier processes are."""
    (tmp_path / "r-notes").write_bytes(bytes(1000 * RECORD_BYTES))
    for number in range(3):
        each = writer(tmp_path / "r", file=2, total=6)
        each.write(predict_log(3 * number))
        each.write(predict_log(3 * number + 1))
        each.write(predict_log(3 * number + 2))
        each.close()
    paths = sorted(path for path in tmp_path.iterdir() if path.suffix == ".tfrecord")
    assert sum(path.stat().st_size for path in paths) <= 6 * RECORD_BYTES
    assert {name for path in paths for name in ids(path)} >= {"id-6", "id-7", "id-8"}


def test_no_writer_removes_what_another_one_writes(tmp_path: Path) -> None:
    """It counts as full, and is removed as any other once it is complete."""
    first, second = writer(tmp_path / "r", file=2, total=4), writer(tmp_path / "r", file=2, total=4)
    first.write(predict_log(0))
    for number in range(1, 8):
        second.write(predict_log(number))
    assert len(list(tmp_path.iterdir())) == 2
    first.write(predict_log(8))
    first.close()
    second.close()
    remaining = {name for path in tmp_path.iterdir() for name in ids(path)}
    assert remaining == {"id-0", "id-8", "id-7"}
    third = writer(tmp_path / "r", file=2, total=4)
    third.write(predict_log(9))
    third.close()
    assert {name for path in tmp_path.iterdir() for name in ids(path)} == {"id-7", "id-9"}


def test_a_directory_that_cannot_be_written_to(tmp_path: Path) -> None:
    """Every record is refused, until it can."""
    (tmp_path / "d").write_bytes(b"")
    each = writer(tmp_path / "d" / "r")
    for _ in range(2):
        with pytest.raises(RecordingError, match="cannot be made: Not a directory"):
            each.write(predict_log(0))
    (tmp_path / "d").unlink()
    each.write(predict_log(1))
    each.close()
    assert ids(tmp_path / "d") == ["id-1"]


def test_a_file_that_is_ended_is_nobodys_any_more(tmp_path: Path) -> None:
    """Others may lock it then; ending it again does nothing."""
    with (
        RecordingFile(tmp_path / "one") as file,
        (tmp_path / "one").open("rb") as reader,
        pytest.raises(BlockingIOError),
    ):
        fcntl.flock(reader, fcntl.LOCK_SH | fcntl.LOCK_NB)
    file.close()
    with (tmp_path / "one").open("rb") as reader:
        fcntl.flock(reader, fcntl.LOCK_SH | fcntl.LOCK_NB)
    os.fstat(0)


def test_the_same_message_is_the_same_record() -> None:
    """In whatever order its inputs were set."""
    names = [f"input{number}" for number in range(20)]
    logs = []
    for ordered in (names, names[::-1]):
        log = PredictionLog()
        for name in ordered:
            log.predict_log.request.inputs[name].dtype = 1
        logs.append(serialized(log))
    assert logs[0] == logs[1]


def test_an_old_file_ends_with_the_next_record(tmp_path: Path) -> None:
    """Which begins another one, though nobody has looked."""
    clock = Clock()
    each = writer(tmp_path / "r", age=60, clock=clock)
    for number in range(3):
        each.write(predict_log(number))
        clock.now += 60
    each.close()
    assert [len(ids(path)) for path in sorted(tmp_path.iterdir())] == [1, 1, 1]


def test_records_that_come_together_fill_files_to_the_byte(tmp_path: Path) -> None:
    """One that does not fit begins the next file."""
    for name, room, counts in (("exact", 3 * RECORD_BYTES, [3, 2]), ("short", 3 * RECORD_BYTES - 1, [2, 2, 1])):
        each = RecordingWriter(
            str(tmp_path / name / "r"), max_file_bytes=room, max_age_seconds=9, max_total_bytes=100 * RECORD_BYTES
        )
        each.extend([framed(serialized(predict_log(number))) for number in range(5)])
        each.close()
        assert [len(ids(path)) for path in sorted((tmp_path / name).iterdir())] == counts
        assert ids(tmp_path / name) == [f"id-{number}" for number in range(5)]


@pytest.mark.parametrize(("missing", "left"), [(0, 2), (1, 1)])
def test_files_give_way_when_there_is_no_room_for_a_full_one(tmp_path: Path, missing: int, left: int) -> None:
    """To the byte."""
    each = RecordingWriter(
        str(tmp_path / "r"),
        max_file_bytes=2 * RECORD_BYTES,
        max_age_seconds=9,
        max_total_bytes=4 * RECORD_BYTES - missing,
    )
    for number in range(3):
        each.write(predict_log(number))
    each.close()
    assert len(list(tmp_path.iterdir())) == left


STEPS = (
    Step("os", "open"),
    Step("fcntl", "flock"),
    Step("os", "write"),
    Step("os", "write", after=True),
    Step("os", "write", call=5),
    Step("tests.serving.apis.test_recording_files", "half_written", call=5),
    Step("os", "close", call=2),
    Step("pathlib", "Path.unlink"),
    Step("pathlib", "Path.unlink", after=True),
    Step("os", "open", call=3),
)


def half_written(descriptor: int, data: bytes) -> None:
    """A step of its own: the kernel had time for half of a record."""


def write_killed_at(step: Step, directory: Path) -> None:
    """Writes six records, two a file, and kills its own process at the step; never returns."""
    write = os.write

    def write_half(descriptor: int, data: bytes) -> int:
        write(descriptor, data[: len(data) // 2])
        os.kill(os.getpid(), signal.SIGKILL)
        raise AssertionError

    if step.function == "half_written":
        step = Step("os", "write", step.call)
        calls = 0

        def counted(descriptor: int, data: bytes) -> int:
            nonlocal calls
            calls += 1
            return write_half(descriptor, data) if calls == step.call else write(descriptor, data)

        os.write = counted  # type: ignore[assignment]
    else:
        kill_at(step)
    each = writer(directory / "r", file=2, total=4)
    for number in range(6):
        each.write(predict_log(number))
    os._exit(99)


@pytest.fixture(scope="module")
def context() -> ForkServerContext:
    """Processes that find the modules imported."""
    return forks_with("serving.apis.recording_files", "tests.support.records")


@pytest.mark.parametrize("step", STEPS, ids=str)
def test_a_killed_writer_leaves_readable_files(context: ForkServerContext, tmp_path: Path, step: Step) -> None:
    """Whatever it was doing: every record that was written whole is read, in order, and the next writer goes on."""
    process = context.Process(target=write_killed_at, args=(step, tmp_path))
    process.start()
    process.join(60)
    assert process.exitcode == -signal.SIGKILL
    left = ids(tmp_path)
    first = int(left[0].removeprefix("id-")) if left else 0
    assert left == [f"id-{number}" for number in range(first, first + len(left))]
    each = writer(tmp_path / "r", file=2, total=8)
    each.write(PredictionLog.FromString(predict_log(9).SerializeToString()))
    each.close()
    assert ids(tmp_path) == [*left, "id-9"]

"""The configuration that all workers have: the newest always wins."""

from __future__ import annotations

import random
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from fashion_common.files import write_whole
from serving.apis.messages import ModelServerConfig
from serving.embedded.workers import configuration
from serving.embedded.workers.configuration import Record, SharedConfig, digest, record_path
from serving.errors import InvalidArgument, ServingError, Unavailable


def config(name: str) -> ModelServerConfig:
    """A configuration of one model."""
    result = ModelServerConfig()
    result.model_config_list.config.add(name=name, base_path=f"/{name}")
    return result


class Worker:
    """One worker's hold on what a directory has; its core only keeps the name of the model. refuses: a name."""

    def __init__(self, directory: Path, refuses: str = "") -> None:
        core: Any = self
        self.shared = SharedConfig(core, directory)
        self.model = ""
        # Whether the last that it took over is the operator's own.
        self.own: bool | None = None
        self._refuses = refuses
        record = self.shared.first()
        self.take(record.reloaded or record.own)

    def take(self, new: ModelServerConfig) -> None:
        """Keeps the name of its model."""
        self.model = new.model_config_list.config[0].name

    def reload(self, new: ModelServerConfig, *, own: bool, before: Callable[[], None]) -> None:
        """As the core has it."""
        if self._refuses and new.model_config_list.config[0].name == self._refuses:
            raise InvalidArgument(f"no {self._refuses} here")
        before()
        self.take(new)
        self.own = own


@pytest.fixture
def file(tmp_path: Path) -> Path:
    """--model_config_file; its text is the model's name."""
    path = tmp_path / "models.config"
    path.write_text("first")
    return path


@pytest.fixture
def directory(tmp_path: Path, file: Path) -> Path:
    """What the workers of a server share, as its parent leaves it."""
    shared = tmp_path / "shared"
    shared.mkdir()
    write_whole(record_path(shared), Record(config("first"), file=digest(str(file))).to_bytes())
    return shared


def look(worker: Worker, file: Path) -> None:
    """One worker's look at the file."""
    worker.shared.look_at(str(file), lambda: config(file.read_text()))


def test_the_newest_wins(directory: Path, file: Path) -> None:
    """Of a reload by a caller and an edit of the file, whichever came last, for workers that start later too."""
    one, other = Worker(directory), Worker(directory)
    one.shared.reload(config("reloaded"))
    other.shared.poll()
    assert one.model == other.model == Worker(directory).model == "reloaded"

    file.write_text("edited")
    look(other, file)
    one.shared.poll()
    assert one.model == other.model == Worker(directory).model == "edited"

    one.shared.reload(config("again"))
    # It is told of the edit only now, which another one took over before the reload.
    look(other, file)
    other.shared.poll()
    assert one.model == other.model == Worker(directory).model == "again"


def test_an_edit_before_a_worker_began(directory: Path, file: Path) -> None:
    """Its first look finds it."""
    file.write_text("edited")
    late = Worker(directory)
    assert late.model == "first"
    look(late, file)
    assert late.model == "edited"


def test_an_edit_that_cannot_be(directory: Path, file: Path, caplog: pytest.LogCaptureFixture) -> None:
    """It is told once, changes nothing, and does not come back after a newer reload."""
    one, other = Worker(directory, refuses="bad"), Worker(directory)
    file.write_text("bad")
    look(one, file)
    look(other, file)
    assert one.model == other.model == "first"
    assert [record.getMessage() for record in caplog.records] == [f"{file} was not taken over: no bad here"]

    other.shared.reload(config("reloaded"))
    late = Worker(directory)
    look(late, file)
    assert late.model == "reloaded"


def test_a_reload_that_is_refused_changes_nothing(directory: Path) -> None:
    """Neither here nor there."""
    worker = Worker(directory, refuses="bad")
    with pytest.raises(InvalidArgument):
        worker.shared.reload(config("bad"))
    assert Worker(directory).model == "first"


def test_a_worker_that_cannot_follow_tries_again(directory: Path, caplog: pytest.LogCaptureFixture) -> None:
    """It says so once."""
    one, other = Worker(directory), Worker(directory, refuses="new")
    one.shared.reload(config("new"))
    with pytest.raises(InvalidArgument):
        other.shared.follow()
    other.shared.poll()
    other.shared.poll()
    assert len(caplog.records) == 1
    other._refuses = ""
    other.shared.poll()
    assert other.model == "new"


def test_a_directory_that_is_gone(directory: Path, file: Path) -> None:
    """Nothing is taken over that the others would not get, and nobody ends."""
    worker = Worker(directory)
    for path in directory.iterdir():
        path.unlink()
    directory.rmdir()
    with pytest.raises(Unavailable):
        worker.shared.reload(config("new"))
    worker.shared.poll()
    assert worker.model == "first"
    file.write_text("edited")
    with pytest.raises(ServingError):
        look(worker, file)


def test_reloads_at_once(directory: Path) -> None:
    """All workers end in the same configuration, one that was asked for, and so does one that starts meanwhile."""
    workers = [Worker(directory) for _ in range(3)]

    def work(seed: int) -> None:
        numbers = random.Random(seed)
        for step in range(10):
            if numbers.random() < 0.5:
                workers[seed].shared.reload(config(f"{seed}-{step}"))
            workers[seed].shared.poll()

    threads = [threading.Thread(target=work, args=(seed,)) for seed in range(3)]
    for thread in threads:
        thread.start()
    late = Worker(directory)
    for thread in threads:
        thread.join(30)
    for worker in (*workers, late):
        worker.shared.poll()
    assert {worker.model for worker in (*workers, late)} == {Worker(directory).model}


def test_a_record_comes_back_as_it_was() -> None:
    """With and without what a caller has replaced it by, and with its file's digest."""
    for record in (
        Record(config("own")),
        Record(config("own"), file="digest"),
        Record(config("own"), config("reloaded"), "digest"),
    ):
        assert Record.from_bytes(record.to_bytes()) == record


def test_the_digest_of_a_file_is_of_what_it_holds(tmp_path: Path) -> None:
    """One that cannot be read counts as empty."""
    path = tmp_path / "file"
    assert digest(str(path)) == digest(str(tmp_path)) == ""
    path.write_bytes(b"abc")
    assert digest(str(path)) == "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad"


def test_a_worker_knows_whose_configuration_it_takes_over(directory: Path, file: Path) -> None:
    """The operator's own, or a caller's: by itself, and as it follows another."""
    one, other = Worker(directory), Worker(directory)
    one.shared.reload(config("reloaded"))
    other.shared.follow()
    assert (one.own, other.own) == (False, False)
    file.write_text("edited")
    look(one, file)
    other.shared.follow()
    assert (one.own, other.own) == (True, True)
    other.own = None
    other.shared.follow()
    assert other.own is None, "there is nothing to take over"


def test_a_file_that_says_what_it_said_is_not_read_again(directory: Path, file: Path) -> None:
    """Nor is one that another worker has taken over."""
    one, other = Worker(directory), Worker(directory)
    one.shared.look_at(str(file), lambda: pytest.fail("it has not changed"))
    file.write_text("edited")
    look(one, file)
    other.shared.look_at(str(file), lambda: pytest.fail("it was taken over"))
    assert other.model == "first"
    other.shared.poll()
    assert other.model == "edited"


def test_what_cannot_be_written_down_is_not_taken_over(directory: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The others would not get it."""
    worker = Worker(directory)

    def full(*_: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(configuration, "write_whole", full)
    with pytest.raises(Unavailable) as raised:
        worker.shared.reload(config("new"))
    assert str(raised.value) == "the other workers cannot be told of a configuration: No space left on device"
    assert worker.model == "first"


def test_what_is_missing_in_a_directory_is_said(directory: Path) -> None:
    """The record, or the directory."""
    worker = Worker(directory)
    record_path(directory).unlink()
    with pytest.raises(Unavailable) as raised:
        worker.shared.follow()
    assert str(raised.value) == "the configuration of the workers cannot be read: No such file or directory"
    (directory / "turn").unlink(missing_ok=True)
    directory.rmdir()
    with pytest.raises(Unavailable) as raised:
        worker.shared.reload(config("new"))
    assert str(raised.value) == "the workers' directory cannot be written to: No such file or directory"


def test_what_cannot_be_followed_is_told_again_when_it_is_another(
    directory: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """With its reason."""
    one, other = Worker(directory), Worker(directory, refuses="bad")
    for name in ("bad", "good", "bad"):
        one.shared.reload(config(name))
        other.shared.poll()
        other.shared.poll()
    refused = "the configuration of the other workers was not taken over: no bad here"
    assert caplog.messages == [refused]
    file = Record(config("first"), config("bad"), "other file")
    write_whole(record_path(directory), file.to_bytes())
    other.shared.poll()
    assert caplog.messages == [refused] * 2

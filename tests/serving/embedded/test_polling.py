"""What is looked at from time to time: how often, and what becomes of what it says."""

from __future__ import annotations

import logging
import threading
from pathlib import Path

import pytest

from serving.embedded.event_log import TOKENS_REFUSED
from serving.embedded.polling import ConfigWatch, Poller
from serving.errors import InvalidArgument, ServerConfigError
from tests.support.live import wait_until


class Stop(threading.Event):
    """Lets the time of each wait pass at once, until there were so many."""

    def __init__(self, waits: int) -> None:
        super().__init__()
        self.seconds: list[float | None] = []
        self._waits = waits

    def wait(self, timeout: float | None = None) -> bool:
        """Notes it."""
        self.seconds.append(timeout)
        return len(self.seconds) > self._waits


def polling() -> set[threading.Thread]:
    """The threads of pollers: others of the process begin and end at any time."""
    return {thread for thread in threading.enumerate() if thread.name == "poll"}


def test_it_is_polled_again_when_it_is_to_be(caplog: pytest.LogCaptureFixture) -> None:
    """After the interval, or sooner where there is a hurry; an error ends nothing."""
    answers: list[float | None] = [None, 0.25, 7.0, 0.0]

    def poll() -> float | None:
        if not answers:
            raise KeyError("no")
        return answers.pop(0)

    poller = Poller(5.0, poll)
    poller._stop = stop = Stop(6)
    poller.start()
    wait_until(lambda: len(stop.seconds) == 7)
    assert stop.seconds == [5.0, 5.0, 0.25, 5.0, 5.0, 5.0, 5.0]
    assert [record.getMessage() for record in caplog.records] == ["unforeseen error in a poll"] * 2
    assert all(record.exc_info for record in caplog.records)


@pytest.mark.parametrize("seconds", [0.0, -1.0])
def test_without_an_interval_there_is_no_poll(seconds: float) -> None:
    """And no thread."""
    before = polling()
    Poller(seconds, lambda: pytest.fail("it was polled")).start()
    assert not polling() - before


def test_a_poller_ends_when_it_is_told_to() -> None:
    """In its wait."""
    poller = Poller(3600.0, lambda: None)
    before = polling()
    poller.start()
    (thread,) = polling() - before
    assert thread.daemon
    poller.stop()
    thread.join(10)
    assert not thread.is_alive()


def test_a_file_is_taken_over_when_it_has_changed(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    """Once for each change; one that cannot be read is empty; what cannot be taken over is told once."""
    file = tmp_path / "models.config"
    errors: list[Exception] = []
    reloads: list[str] = []

    def reload() -> None:
        reloads.append(file.read_text() if file.exists() else "")
        if errors:
            raise errors.pop()

    file.write_text("one")
    watch = ConfigWatch(str(file), reload)
    watch.poll()
    assert reloads == []
    file.write_text("two")
    for _ in range(2):
        watch.poll()
    assert reloads == ["two"]
    file.unlink()
    for _ in range(2):
        watch.poll()
    assert reloads == ["two", ""]
    for text, error in (("three", ServerConfigError("no")), ("four", InvalidArgument("no", log_text="in the log"))):
        file.write_text(text)
        errors.append(error)
        for _ in range(2):
            watch.poll()
    assert reloads == ["two", "", "three", "four"]
    assert [(record.levelno, record.getMessage()) for record in caplog.records] == [
        (logging.ERROR, f"{file} was not taken over: no"),
        (logging.ERROR, f"{file} was not taken over: in the log"),
    ]
    assert {vars(record)["event"] for record in caplog.records} == {"configuration_refused"}


def test_other_files_have_events_of_their_own(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    """As one of tokens; what nobody foresaw is not swallowed."""

    def refuse() -> None:
        raise ServerConfigError("no")

    def fail() -> None:
        raise KeyError

    watch = ConfigWatch(str(tmp_path / "tokens"), refuse, TOKENS_REFUSED)
    (tmp_path / "tokens").touch()
    watch.poll()
    assert not caplog.records
    (tmp_path / "tokens").write_text("x")
    watch.poll()
    assert [vars(record)["event"] for record in caplog.records] == ["tokens_refused"]
    other = ConfigWatch(str(tmp_path / "tokens"), fail)
    (tmp_path / "tokens").write_text("y")
    with pytest.raises(KeyError):
        other.poll()

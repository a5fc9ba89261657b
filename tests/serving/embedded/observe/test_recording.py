"""Which requests are recorded, what that may hold, and what becomes of errors."""

from __future__ import annotations

import logging
import random
import threading
import time
from collections import Counter
from collections.abc import Iterator
from functools import partial
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest

from fashion_common.trace_context import parse
from serving.apis.messages import ModelSpec, PredictRequest
from serving.apis.recording_files import RecordingWriter
from serving.apis.recordings import Origin, read_recording
from serving.apis.status import Code
from serving.embedded.access.tokens import FOR_ANYONE
from serving.embedded.admission.budget import Budget
from serving.embedded.admission.samples import Sample, Samples
from serving.embedded.inference.exchange import ask_examples
from serving.embedded.models.request_logging import RequestLogging
from serving.embedded.observe import recording
from serving.embedded.observe.calls import Call, Interceptor, Operation
from serving.embedded.observe.recording import MAX_HELD_BYTES, Record, Recording
from serving.errors import Internal
from tests.support.live import wait_until
from tests.support.records import TRACEPARENT

WRITER = partial(RecordingWriter, max_file_bytes=2**20, max_age_seconds=3600, max_total_bytes=2**30)
PREDICT = Operation("GRPC", "Predict", FOR_ANYONE)


class Server:
    """A recording of model `m`, all of whose requests are recorded unless said otherwise, and its counts."""

    def __init__(self, directory: Path, rate: float = 1.0, *, limit: int = 0, answers_only: bool = False) -> None:
        self.directory = directory
        self.counts: Counter[tuple[str, str]] = Counter()
        self.budget = Budget(limit, time.monotonic)
        self.recording = Recording(
            WRITER,
            self.budget,
            lambda work: work(),
            answers_only=answers_only,
            count=lambda model, outcome, count: self.counts.update({(model, outcome): count}),
        )
        self.interceptor = Interceptor(lambda: ["m"], budget=self.budget, samplers=[self.recording])
        self.set_rate(rate)

    def set_rate(self, rate: float, name: str = "r") -> None:
        """Records `m` at another rate, or another place."""
        self.recording.set_models({"m": RequestLogging(str(self.directory / name), rate)})

    def chosen(self) -> Record:
        """What a request is recorded with."""
        sample = self.recording.sample("m")
        assert sample is not None
        return sample

    def call(self, request_id: str = "", **metadata: str) -> Call:
        """A call."""
        headers = {name.encode(): value.encode() for name, value in metadata.items()}
        return Call(self.interceptor, PREDICT, "/p", str, request_id, metadata=headers)

    def answered(self, call: Call, size: int = 100, code: Code = Code.OK) -> None:
        """A call that is answered after a request of `size` bytes."""
        with call:
            sample = call.sample("m")
            assert sample is not None
            fill(sample, size)
            call.code = code

    def ids(self) -> list[str]:
        """The request ids of all files, once they are closed."""
        self.recording.close()
        paths = sorted(self.directory.iterdir())
        return [Origin.of(log).request_id for path in paths for log in read_recording(path)]


def fill(sample: Sample | Samples, size: int) -> None:
    """Has it hold a request of `size` bytes and an empty answer. Raises ValueError for a negative size, halfway."""
    sample.ask("PredictRequest", b"\x0a\x03\x0a\x01m", abs(size), list)
    if size < 0:
        raise ValueError
    sample.answer(ModelSpec(name="m"), 0, list)


@pytest.fixture
def server(tmp_path: Path) -> Iterator[Server]:
    """A recording of everything."""
    server = Server(tmp_path)
    yield server
    server.recording.close()


def test_nothing_is_recorded_unless_asked_for(tmp_path: Path) -> None:
    """No thread, no file; a call has no more than a look at an attribute."""
    server = Server(tmp_path, rate=0)
    assert server.recording.sample("m") is None
    assert server.recording._thread is None
    with server.call() as call:
        assert call.sample("m") is None
        assert not call.samples
    with Call(Interceptor(list), PREDICT, "/p", str, "") as call:
        assert call.sample("m") is None
    server.recording.close()
    assert list(tmp_path.iterdir()) == []


def test_requests_are_chosen_by_chance(tmp_path: Path) -> None:
    """As many as the rate says, within five standard deviations; of other models none."""
    random.seed(15)
    server = Server(tmp_path, rate=0.25)
    count = sum(server.recording.sample("m") is not None for _ in range(20_000))
    assert abs(count - 5000) < 5 * (20_000 * 0.25 * 0.75) ** 0.5
    assert server.recording.sample("other") is None
    server.recording.close()


def test_a_record_says_where_it_came_from(server: Server) -> None:
    """The id and the traceparent of its headers, or new ones where those are none, and when it came."""
    server.answered(server.call("first", traceparent=TRACEPARENT))
    server.answered(server.call("", traceparent="\u00e9"))
    first, second = server.ids()
    (path,) = server.directory.iterdir()
    log, other = read_recording(path)
    assert Origin.of(log) == ("first", TRACEPARENT)
    assert abs(log.log_metadata.timestamp_secs - time.time()) < 60
    assert first == "first"
    assert second
    request_id, own = Origin.of(other)
    assert request_id == second
    assert parse(own)
    assert server.counts == {("m", "written"): 2}
    assert server.budget.used == 0


def test_a_request_that_failed_is_not_recorded(server: Server) -> None:
    """Whether its handler says so, or raises; nothing stays held."""
    server.answered(server.call("no"), code=Code.INVALID_ARGUMENT)
    with pytest.raises(Internal):
        server.answered(server.call("no"), size=-100)
    server.answered(server.call("yes"))
    assert server.ids() == ["yes"]
    assert server.budget.used == 0


def test_what_waits_is_bounded(server: Server) -> None:
    """To the byte: what is more is dropped and counted, and keeps nothing."""
    held, more = server.chosen(), server.chosen()
    fill(held, MAX_HELD_BYTES)
    fill(more, 1)
    assert server.budget.used == MAX_HELD_BYTES
    assert (more.is_dropped, more.inputs, more.response) == (True, None, None)
    server.recording.end(more, Origin("more"), 0.0)
    server.recording.end(held, None, 0.0)
    assert server.counts == {("m", "dropped"): 1}
    fill(held, MAX_HELD_BYTES)
    assert server.ids() == []


def test_an_answer_that_does_not_fit_drops_its_request(server: Server) -> None:
    """Its bytes are there for others at once."""
    sample = server.chosen()
    sample.ask("PredictRequest", b"", MAX_HELD_BYTES, list)
    sample.answer(ModelSpec(), 1, list)
    assert sample.is_dropped
    assert server.budget.used == 0


def test_records_take_what_is_spare(tmp_path: Path) -> None:
    """No more than half of the budget is used while they hold something: requests go first."""
    server = Server(tmp_path, limit=1000)
    first, second = server.chosen(), server.chosen()
    server.budget.charge(300)
    fill(first, 200)
    fill(second, 1)
    assert (first.is_dropped, second.is_dropped) == (False, True)
    server.budget.charge(500)
    server.recording.end(first, None, 0.0)
    assert server.budget.used == 800
    server.recording.close()


def test_answers_only(tmp_path: Path) -> None:
    """Inputs are not even held."""
    server = Server(tmp_path, answers_only=True)
    sample = server.chosen()
    sample.ask("PredictRequest", b"\x0a\x03\x0a\x01m", 10**9, list)
    assert server.budget.used == 0
    sample.answer(ModelSpec(name="m"), 10, list)
    server.recording.end(sample, Origin("id"), 0.0)
    assert server.ids() == ["id"]


def test_a_slice_of_a_merged_answer_keeps_no_more_than_itself(server: Server) -> None:
    """One row of a batch would hold all others, for which nobody pays."""
    from serving.embedded.inference.exchange import _own

    batch = np.zeros((100, 10))
    assert _own(batch[:50]).base is batch
    assert _own(batch[:49]).base is None
    sample = server.chosen()
    ask_examples(sample, PredictRequest(), np.array([b"abc", b""], object))
    assert sample.inputs is not None
    assert b"".join(sample.inputs()) == b"\x12\x09\x0a\x07\x0a\x03abc\x0a\x00"
    server.recording.end(sample, None, 0.0)


def test_errors_of_the_disk_reach_nobody(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    """They are counted, and logged once a minute; records go on once the disk does."""
    server = Server(tmp_path)
    (tmp_path / "d").touch()
    server.set_rate(1.0, "d/r")
    with caplog.at_level(logging.ERROR):
        for number in range(5):
            server.answered(server.call(f"lost-{number}"))
        wait_until(lambda: server.counts["m", "failed"] == 5)
        assert [record.getMessage() for record in caplog.records] == [caplog.records[0].getMessage()]
        assert "A request was not recorded: " in caplog.text
        assert "cannot be made: Not a directory: give a path that can be written" in caplog.text
    (tmp_path / "d").unlink()
    server.answered(server.call("kept"))
    server.recording.close()
    assert server.counts == {("m", "failed"): 5, ("m", "written"): 1}
    assert server.budget.used == 0
    (path,) = (tmp_path / "d").iterdir()
    assert [Origin.of(log).request_id for log in read_recording(path)] == ["kept"]


def test_an_error_is_logged_once_a_minute(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    """One that nobody foresaw with its traceback; each record counts all the same."""
    server = Server(tmp_path)
    (tmp_path / "d").touch()
    server.set_rate(1.0, "d/r")
    now = [1000.0]
    monkeypatch.setattr(recording, "time", SimpleNamespace(monotonic=lambda: now[0], time=lambda: 1_700_000_000.9))
    for count, seconds in ((1, 0.0), (2, 59.9), (3, 0.1), (4, 0.1)):
        now[0] += seconds
        server.answered(server.call("lost"))
        wait_until(lambda count=count: server.counts["m", "failed"] == count)  # type: ignore[misc]
    # Threads of libraries that other tests have used may say something too.
    assert [record.exc_info for record in caplog.records if record.name == recording.__name__] == [None, None]

    def fail() -> list[bytes]:
        raise ZeroDivisionError

    now[0] += 60
    sample = server.chosen()
    sample.ask("PredictRequest", b"", 0, fail)
    sample.answer(ModelSpec(), 0, list)
    server.recording.end(sample, Origin("id"), 0.0)
    server.recording.close()
    assert caplog.records[-1].exc_info
    assert caplog.records[-1].getMessage() == "A request was not recorded: "


def test_a_record_says_when_its_request_came(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """In whole seconds: those that it took are taken off."""
    server = Server(tmp_path)
    monkeypatch.setattr(recording, "time", SimpleNamespace(monotonic=lambda: 0.0, time=lambda: 1_700_000_000.9))
    for seconds in (0.5, 1.0):
        sample = server.chosen()
        fill(sample, 1)
        server.recording.end(sample, Origin("id"), seconds)
    server.recording.close()
    (path,) = tmp_path.iterdir()
    assert [log.log_metadata.timestamp_secs for log in read_recording(path)] == [1_700_000_000, 1_699_999_999]
    assert {log.log_metadata.sampling_config.sampling_rate for log in read_recording(path)} == {1.0}


def test_much_that_waits_is_written_at_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """More than a quarter of what may be held is not gathered any longer."""
    monkeypatch.setattr(recording, "_GATHER_SECONDS", 3600.0)
    server = Server(tmp_path)
    first, second = server.chosen(), server.chosen()
    fill(first, MAX_HELD_BYTES // 4)
    server.recording.end(first, Origin("first"), 0.0)
    assert not server.recording._is_urgent.is_set()
    fill(second, 1)
    server.recording.end(second, Origin("second"), 0.0)
    wait_until(lambda: server.counts["m", "written"] == 2)
    assert server.ids() == ["first", "second"]


def test_a_record_that_cannot_be_made_is_counted(server: Server) -> None:
    """The others of its time are written; all of them by the thread."""
    made: list[str] = []

    def pieces() -> list[bytes]:
        made.append(threading.current_thread().name)
        raise ZeroDivisionError

    server.answered(server.call("first"))
    sample = server.chosen()
    sample.ask("PredictRequest", b"", 0, pieces)
    sample.answer(ModelSpec(), 0, list)
    server.recording.end(sample, Origin("id"), 0.0)
    server.answered(server.call("second"))
    assert server.ids() == ["first", "second"]
    assert made == ["recording"]
    assert server.counts == {("m", "written"): 2, ("m", "failed"): 1}


def test_a_record_that_is_larger_than_a_file_is_counted(server: Server) -> None:
    """As an error, whose text says what to do."""
    sample = server.chosen()
    sample.ask("PredictRequest", b"", 100, lambda: [b"\x1a\x80\x80\x40" + bytes(2**20)])
    sample.answer(ModelSpec(), 0, list)
    server.recording.end(sample, Origin("large"), 0.0)
    assert server.ids() == []
    assert server.counts == {("m", "failed"): 1}


def test_a_new_place_ends_the_files_of_the_old_one(server: Server) -> None:
    """While the server runs; what was chosen before is still written."""
    server.answered(server.call("old"))
    wait_until(lambda: server.counts["m", "written"] == 1)
    writer = server.recording._writers[str(server.directory / "r")]
    server.set_rate(1.0, "new")
    wait_until(lambda: writer._file is None)
    server.answered(server.call("new"))
    assert sorted(server.ids()) == ["new", "old"]
    assert len(list(server.directory.iterdir())) == 2

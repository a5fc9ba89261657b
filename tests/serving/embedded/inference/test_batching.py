"""Merging of waiting requests: what is merged, split, padded and refused."""

from __future__ import annotations

import asyncio
import os
import threading
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
from google.protobuf import text_format

from serving.apis.messages import BatchingParameters, SignatureDef
from serving.embedded.inference.batch_queue import BatchingOptions, Task, batching_options, common_rows, merged
from serving.embedded.inference.batching import BatchingRunner
from serving.embedded.inference.model import LoadedModel
from serving.embedded.inference.runner import Run, Runner
from serving.embedded.models.storage import VersionDirectory
from serving.embedded.models.versions import Version
from serving.errors import DeadlineExceeded, InvalidArgument, ServerConfigError, Unavailable
from tests.support.http2_server import simulated_loop

Array = npt.NDArray[Any]


class Doubler:
    """y = 2 x; remembers the batches; slow enough to make others wait; rows of -1 fail.

    started: set by the first run. gate: what each run waits for.
    """

    def __init__(self) -> None:
        self.signatures: Mapping[str, SignatureDef] = {}
        self.loop_free: frozenset[str] = frozenset()
        self.runtime = "none"
        self.batches: list[list[Any]] = []
        self.seconds = 0.02
        self.started = threading.Event()
        self.gate = threading.Event()
        self.gate.set()
        self.whole = False
        self.error: Exception | None = None

    def run(self, feeds: Mapping[str, Array], fetches: Sequence[str]) -> list[Array]:
        """One value a row, or one for all when `whole`."""
        x = feeds["x"]
        self.batches.append(x.tolist())
        time.sleep(self.seconds)
        self.started.set()
        assert self.gate.wait(30)
        if self.error is not None:
            raise self.error
        if (x == -1).any():
            raise InvalidArgument("row of -1")
        return [np.array(x.sum()) if self.whole else 2 * x for _ in fetches]

    def close(self) -> None:
        """Nothing to free."""


class Bench:
    """A servable behind a batching runner with these options."""

    def __init__(self, **options: Any) -> None:
        self.servable = Doubler()
        batching = BatchingOptions(
            **{"max_batch_size": 8, "num_batch_threads": 1, "max_enqueued_batches": 100, **options}
        )
        directory = VersionDirectory(Path("/m/1"))
        self.version: Version[LoadedModel] = Version("m", 1, directory, threading.RLock())
        self.version.put(LoadedModel("m", 1, self.servable, batching))
        self.observed: list[int] = []
        self.runner = BatchingRunner(Runner(4), lambda _, rows: self.observed.append(rows))

    @property
    def queues(self) -> int:
        """How many queues there are."""
        return len(self.version.servable.queues)

    async def ask(self, *rows: float, seconds: float | None = None, dtype: npt.DTypeLike = np.float32) -> list[float]:
        """One request of these rows."""
        deadline = None if seconds is None else time.monotonic() + seconds
        values = await self.runner.run(Run(self.version, {"x": np.array(rows, dtype)}, ("y",), deadline))
        result: list[float] = values[0].tolist()
        return result

    def all(self, *requests: Any) -> list[Any]:
        """Requests sent at the same time, and their answers or errors."""

        async def together() -> list[Any]:
            return await asyncio.gather(*requests, return_exceptions=True)

        return asyncio.run(together())


def test_waiting_requests_run_together() -> None:
    """Each gets its own rows back."""
    bench = Bench()

    assert bench.all(bench.ask(1), bench.ask(2, 3), bench.ask(4)) == [[2], [4, 6], [8]]
    assert bench.servable.batches == [[1, 2, 3, 4]]


def test_a_batch_holds_whole_requests_up_to_its_size() -> None:
    """What does not fit waits for the next one."""
    bench = Bench(max_batch_size=3)

    assert bench.all(bench.ask(1, 2), bench.ask(3, 4), bench.ask(5)) == [[2, 4], [6, 8], [10]]
    assert bench.servable.batches == [[1, 2], [3, 4, 5]]


def test_other_dtypes_and_scalars_are_not_merged() -> None:
    """They run by themselves."""
    bench = Bench()
    scalar = bench.runner.run(Run(bench.version, {"x": np.array(7.0)}, ("y",)))

    answers = bench.all(bench.ask(1), bench.ask(2, dtype=np.float64), scalar)

    assert answers[:2] == [[2], [4]]
    assert answers[2][0] == 14.0
    assert len(bench.servable.batches) == 3


def test_a_bad_row_fails_its_own_request_only() -> None:
    """The others of its batch are run again without it."""
    bench = Bench()

    good, bad = bench.all(bench.ask(1), bench.ask(-1))

    assert good == [2]
    assert isinstance(bad, InvalidArgument)


def test_outputs_that_do_not_go_by_rows_are_not_shared_out() -> None:
    """Each request is run alone; a request that waited for nobody keeps its outputs as they are."""
    bench = Bench()
    bench.servable.whole = True

    assert bench.all(bench.ask(1, 2), bench.ask(3)) == [3.0, 3.0]
    assert bench.servable.batches == [[1, 2, 3], [1, 2], [3]]
    assert bench.all(bench.ask(4, 5)) == [9.0]
    assert bench.servable.batches[3:] == [[4, 5]]


def test_allowed_batch_sizes_are_filled_up() -> None:
    """With copies of a row, which nobody gets back."""
    bench = Bench(allowed_batch_sizes=(4, 8))

    assert bench.all(bench.ask(1), bench.ask(2)) == [[2], [4]]
    assert bench.servable.batches == [[1, 2, 2, 2]]


@pytest.mark.parametrize("rows", [4, 8])
def test_an_allowed_batch_size_is_not_filled_up(rows: int) -> None:
    """A batch that has exactly that many rows runs as it is."""
    bench = Bench(allowed_batch_sizes=(4, 8))

    assert bench.all(bench.ask(*range(rows - 1)), bench.ask(7)) == [[2 * row for row in range(rows - 1)], [14]]
    assert bench.servable.batches == [[*range(rows - 1), 7]]


def test_a_request_may_be_as_large_as_a_batch() -> None:
    """Exactly; it is neither refused nor split."""
    for bench in (Bench(max_batch_size=3), Bench(max_batch_size=3, enable_large_batch_splitting=True)):
        assert bench.all(bench.ask(1, 2, 3)) == [[2, 4, 6]]
        assert bench.servable.batches == [[1, 2, 3]]


def test_variable_lengths_are_padded_where_asked() -> None:
    """Shorter rows get zeros at their end."""
    bench = Bench(pad_variable_length_inputs=True)
    requests = [
        bench.runner.run(Run(bench.version, {"x": np.array([row], np.float32)}, ("y",))) for row in ([1, 2, 3], [4])
    ]

    answers = bench.all(*requests)

    assert [answer[0].tolist() for answer in answers] == [[[2, 4, 6]], [[8, 0, 0]]]
    assert len(bench.servable.batches) == 1


def test_requests_larger_than_a_batch() -> None:
    """Refused, or split where that is enabled."""
    bench, splitting = Bench(max_batch_size=2), Bench(max_batch_size=2, enable_large_batch_splitting=True)

    (refused,) = bench.all(bench.ask(1, 2, 3))

    assert str(refused) == "Task size 3 is larger than maximum input batch size 2"
    assert splitting.all(splitting.ask(1, 2, 3)) == [[2, 4, 6]]
    assert splitting.servable.batches == [[1, 2], [3]]


def test_one_failed_part_of_a_split_request_takes_the_others_with_it() -> None:
    """Nobody waits for them, or holds their version, any more."""
    bench = Bench(max_batch_size=1, enable_large_batch_splitting=True)

    async def ask() -> object:
        (answer,) = await asyncio.gather(bench.ask(-1, 2, 3, 4), return_exceptions=True)
        await asyncio.sleep(0.1)
        return answer

    assert isinstance(asyncio.run(ask()), InvalidArgument)
    assert bench.servable.batches in ([[-1]], [[-1], [2]])
    assert bench.queues == 0


def test_a_batch_holds_its_version_before_it_begins() -> None:
    """All its requests may be given up between the two."""
    bench = Bench()
    unloaded = threading.Event()

    async def ask() -> None:
        bench.version.use()
        asked = asyncio.create_task(bench.ask(1))
        while not bench.queues or asked.done():
            await asyncio.sleep(0)
        (queue,) = bench.version.servable.queues.values()
        while not queue._running:
            await asyncio.sleep(0)
        asked.cancel()
        bench.version.release()
        bench.version.take(unloaded.set)
        assert not unloaded.is_set()
        assert await asyncio.to_thread(unloaded.wait, 10)

    asyncio.run(ask())
    assert bench.servable.batches == [[1]]


def test_a_full_queue_is_unavailable() -> None:
    """max_enqueued_batches counts batches that wait."""
    bench = Bench(max_batch_size=1, max_enqueued_batches=2, num_batch_threads=1)

    answers = bench.all(*(bench.ask(number) for number in range(5)))

    assert answers[:2] == [[0], [2]]
    assert [(type(answer), str(answer)) for answer in answers[2:]] == 3 * [
        (
            Unavailable,
            (
                "The batch scheduling queue to which this task was submitted is full; currently 2 batches enqueued and "
                "max_enqueued_batches is 2"
            ),
        )
    ]


def test_rows_that_wait_are_counted_as_whole_batches() -> None:
    """A batch that is not full is none; what was taken into a batch waits no more."""
    bench = Bench(max_batch_size=4, max_enqueued_batches=1)

    answers = bench.all(bench.ask(1), bench.ask(2, 3), bench.ask(4, 5), bench.ask(6))

    assert answers[:3] == [[2], [4, 6], [8, 10]]
    assert isinstance(answers[3], Unavailable)
    assert bench.servable.batches == [[1, 2, 3], [4, 5]]


def test_as_many_batches_run_at_once_as_there_are_threads() -> None:
    """The others wait for one of them to end."""
    bench = Bench(max_batch_size=1, num_batch_threads=2)
    bench.servable.seconds = 0.0
    bench.servable.gate.clear()
    with simulated_loop() as loop:
        asked = [loop.create_task(bench.ask(number)) for number in range(4)]
        loop.pass_time()
        end = time.monotonic() + 30
        while len(bench.servable.batches) < 2:
            assert time.monotonic() < end
        loop.pass_time(1)
        assert sorted(bench.servable.batches) == [[0], [1]]
        bench.servable.gate.set()
        assert [loop.run_until_complete(each) for each in asked] == [[0], [2], [4], [6]]
    assert bench.servable.batches[2:] == [[2], [3]]
    assert bench.queues == 0


def test_a_request_that_was_given_up_while_it_waited_takes_no_place_in_a_batch() -> None:
    """Its rows are nobody's."""
    bench = Bench(max_batch_size=2, batch_timeout_seconds=60)
    with simulated_loop() as loop:
        asked = [loop.create_task(bench.ask(number)) for number in range(2, 4)]
        given_up = loop.create_task(bench.ask(1))
        loop.call_soon(given_up.cancel)
        loop.pass_time()
        loop.pass_time(61)
        assert [loop.run_until_complete(each) for each in asked] == [[4], [6]]
    assert bench.servable.batches == [[2, 3]]


def test_deadlines_while_waiting() -> None:
    """A request whose time is over is answered, and not run."""
    bench = Bench(max_batch_size=1)
    bench.servable.gate.clear()
    with simulated_loop() as loop:
        first, second = loop.create_task(bench.ask(1)), loop.create_task(bench.ask(2, seconds=30))
        loop.pass_time()
        assert bench.servable.started.wait(30)
        loop.pass_time(29)
        assert not second.done()
        loop.pass_time(1.1)

        assert isinstance(second.exception(), DeadlineExceeded)
        assert str(second.exception()) == "The deadline passed while the request waited for its batch."
        assert not first.done()
        bench.servable.gate.set()
        assert loop.run_until_complete(first) == [2]
    assert bench.servable.batches == [[1]]


@pytest.mark.parametrize("seconds", [(30, None), (None, 30), (30, 60), (60, 30)])
def test_one_deadline_in_a_merged_run_spares_the_others(seconds: tuple[float | None, ...]) -> None:
    """Whichever comes first: one is answered when its time is over, the other by the run that both are in."""
    bench = Bench()
    bench.servable.gate.clear()
    with simulated_loop() as loop:
        asked = [loop.create_task(bench.ask(row, seconds=each)) for row, each in enumerate(seconds)]
        short, other = sorted(asked, key=lambda each: seconds[asked.index(each)] != 30)
        loop.pass_time()
        assert bench.servable.started.wait(30)
        loop.pass_time(31)

        assert isinstance(short.exception(), DeadlineExceeded)
        assert not other.done()
        bench.servable.gate.set()
        assert loop.run_until_complete(other) == [2 * asked.index(other)]
    assert bench.servable.batches == [[0, 1]]


def test_the_deadline_that_began_a_queue_is_its_own(monkeypatch: pytest.MonkeyPatch) -> None:
    """Requests that came later are run each by itself, as one of them was bad, when it has long passed."""
    # Every run counts as quick.
    monkeypatch.setattr(time, "perf_counter", lambda: 0.0)
    now = time.monotonic()
    monkeypatch.setattr(time, "monotonic", lambda: now)
    bench = Bench()
    bench.version.servable.loop_free = frozenset({"y"})
    bench.servable.gate.clear()
    with simulated_loop() as loop:
        first = loop.create_task(bench.ask(0, seconds=1))
        loop.pass_time()
        assert bench.servable.started.wait(30)
        bad, good = loop.create_task(bench.ask(-1)), loop.create_task(bench.ask(2))
        loop.pass_time()
        now += 2
        bench.servable.gate.set()
        answers = loop.run_until_complete(asyncio.gather(first, bad, good, return_exceptions=True))
    assert (answers[0], answers[2]) == ([0], [4])
    assert isinstance(answers[1], InvalidArgument)
    assert bench.servable.batches == [[0], [-1, 2], [-1], [2]]


def test_requests_wait_for_others_until_the_timeout() -> None:
    """Requests that come within batch_timeout_micros of the first one run with it."""
    bench = Bench(batch_timeout_seconds=60)
    with simulated_loop() as loop:
        first = loop.create_task(bench.ask(1))
        loop.pass_time()
        loop.pass_time(59.9)
        second = loop.create_task(bench.ask(2))
        loop.pass_time(0.05)
        assert bench.servable.batches == []

        loop.pass_time(0.1)

        assert [loop.run_until_complete(each) for each in (first, second)] == [[2], [4]]
    assert bench.servable.batches == [[1, 2]]


def test_the_timeout_ends_when_a_batch_is_full() -> None:
    """Nobody waits for requests that would not fit."""
    bench = Bench(max_batch_size=2, batch_timeout_seconds=60)

    assert bench.all(bench.ask(1), bench.ask(2)) == [[2], [4]]
    assert bench.servable.batches == [[1, 2]]


def test_a_full_batch_does_not_wait_for_the_timeout_when_a_thread_is_free_again() -> None:
    """Its requests came while the only thread was busy."""
    bench = Bench(max_batch_size=2, batch_timeout_seconds=60)

    assert bench.all(*(bench.ask(number) for number in range(4))) == [[0], [2], [4], [6]]
    assert bench.servable.batches == [[0, 1], [2, 3]]


def test_lone_requests_run_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    """All but the first and every eighth, which wait for others; a merged batch ends it."""
    monkeypatch.setattr(time, "perf_counter", lambda: 0.0)
    bench = Bench()
    bench.version.servable.loop_free = frozenset({"y"})
    bench.version.servable.quick_bytes["y",] = 1000.0

    async def waits() -> bool:
        request = asyncio.create_task(bench.ask(1))
        await asyncio.sleep(0)
        queued = bench.queues > 0
        await request
        return queued

    async def one_by_one(count: int) -> list[bool]:
        return [await waits() for _ in range(count)]

    assert asyncio.run(one_by_one(8)) == [True, *[False] * 7]
    assert bench.all(bench.ask(1), bench.ask(2)) == [[2], [4]]
    assert asyncio.run(one_by_one(2)) == [True, False]
    assert bench.observed == [*[1] * 8, 2, 1, 1]


def test_an_unforeseen_error_is_the_answer() -> None:
    """No request waits for ever because the joint run raised what nobody expected."""
    bench = Bench(allowed_batch_sizes=(4, 8))
    bench.servable.error = MemoryError("no room")

    answers = bench.all(bench.ask(1), bench.ask(2), bench.ask(3, dtype=np.float64))

    assert answers == [bench.servable.error] * 3


def test_queues_are_forgotten_when_nothing_waits() -> None:
    """Whatever shapes clients send; after an answer, an error and a deadline alike."""
    bench = Bench(num_batch_threads=2)
    rows = [bench.runner.run(Run(bench.version, {"x": np.zeros((1, width))}, ("y",))) for width in range(20)]

    bench.all(*rows, bench.ask(-1), bench.ask(1, seconds=0.001))

    assert len(bench.servable.batches) >= 21
    assert bench.queues == 0


def test_copies_of_a_row_are_no_answers_that_are_counted() -> None:
    """Of a merged run, only what was asked; the run says how many requests it is of, and which of them are traced."""
    counted: list[list[float]] = []
    traced: list[Run] = []
    bench = Bench(allowed_batch_sizes=(4, 8))
    bench.version.servable.probabilities = frozenset({"y"})
    runner = Runner(
        1,
        count=lambda _name, _number, rows: counted.append(rows.tolist()),
        trace=lambda run, _b, _e: traced.append(run),
    )
    bench.runner = BatchingRunner(runner)
    span: Any = object()

    async def ask(*rows: float, spans: tuple[Any, ...] = ()) -> list[float]:
        values = await bench.runner.run(Run(bench.version, {"x": np.array(rows)}, ("y",), spans=spans))
        answer: list[float] = values[0].tolist()
        return answer

    assert bench.all(ask(1, 2), ask(3, spans=(span,))) == [[2, 4], [6]]
    assert counted == [[2, 4, 6]]
    assert [(run.requests, run.rows, run.spans, run.deadline) for run in traced] == [(2, 3, (span,), None)]
    assert bench.all(ask(-1, spans=(span,)), ask(5, spans=(span,)))[1] == [10]
    assert [(run.requests, run.spans) for run in traced[1:]] == [(1, (span,))]
    runner.stop()


def waiting(*arrays: Array) -> list[Task]:
    """Requests of one input each."""
    future: Any = None
    return [Task({"x": array}, len(array), future) for array in arrays]


def test_the_arrays_of_a_merged_run() -> None:
    """One request alone keeps its own; strings are filled up with empty ones; every dimension grows."""
    one = np.ones((2, 3), np.int8)
    assert merged(waiting(one), BatchingOptions())["x"] is one
    assert merged(waiting(one), BatchingOptions(2, allowed_batch_sizes=(2,)))["x"] is one
    strings = [np.array([["a", "b"]], object), np.array([["c"]], object)]
    joined = merged(waiting(*strings), BatchingOptions())["x"]
    assert joined.tolist() == [["a", "b"], ["c", b""]]
    grown = merged(waiting(np.ones((1, 1, 2), np.int8), np.full((1, 2, 1), 2, np.int8)), BatchingOptions())["x"]
    assert grown.dtype == np.int8
    assert grown.tolist() == [[[1, 1], [0, 0]], [[2, 0], [2, 0]]]
    padded = merged(waiting(np.array([1, 2]), np.array([3, 4])), BatchingOptions(8, allowed_batch_sizes=(2, 6, 8)))
    assert padded["x"].tolist() == [1, 2, 3, 4, 3, 3]
    # More rows than any size allows are left as they are.
    assert merged(waiting(np.arange(5)), BatchingOptions(4, allowed_batch_sizes=(4,)))["x"].tolist() == [0, 1, 2, 3, 4]


@pytest.mark.parametrize(
    ("shapes", "rows"),
    [([(2, 3), (2,)], 2), ([(1,)], 1), ([(2,), (3,)], None), ([(2,), ()], None), ([(0, 2)], None), ([], None)],
)
def test_the_rows_of_a_request(shapes: list[tuple[int, ...]], rows: int | None) -> None:
    """All inputs have as many; without rows there is nothing to merge."""
    assert common_rows({str(number): np.zeros(shape) for number, shape in enumerate(shapes)}) == rows


def test_options_are_those_of_the_parameters() -> None:
    """Microseconds become seconds, and fewer than none are none; what is not given is as TF Serving has it."""
    text = """
        max_batch_size { value: 8 } batch_timeout_micros { value: 2500 } max_enqueued_batches { value: 1 }
        num_batch_threads { value: 1 } allowed_batch_sizes: 1 allowed_batch_sizes: 8 pad_variable_length_inputs: true
        enable_large_batch_splitting { value: true }
    """
    assert batching_options(text_format.Parse(text, BatchingParameters())) == (8, 0.0025, 1, 1, (1, 8), True, True)
    late = text_format.Parse("batch_timeout_micros { value: -1 }", BatchingParameters())
    assert batching_options(late) == (1000, 0, 10, os.cpu_count(), (), False, False)


def test_the_committed_configuration() -> None:
    """What all backends are given."""
    text = (Path(__file__).parents[4] / "serving" / "config" / "batching.config").read_text()

    options = batching_options(text_format.Parse(text, BatchingParameters()))

    assert options == BatchingOptions(8192, 0, 1_000_000, 8)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("max_batch_size { value: 0 }", "max_batch_size must be positive; was 0"),
        ("max_enqueued_batches { value: 0 }", "max_enqueued_batches must be positive; was 0"),
        ("num_batch_threads { value: -2 }", "num_batch_threads must be positive; was -2"),
        (
            "allowed_batch_sizes: 4 allowed_batch_sizes: 2",
            "allowed_batch_sizes entries must be monotonically increasing: got [4, 2]",
        ),
        (
            "allowed_batch_sizes: 4 allowed_batch_sizes: 4 max_batch_size { value: 4 }",
            "allowed_batch_sizes entries must be monotonically increasing: got [4, 4]",
        ),
        (
            "allowed_batch_sizes: 4 max_batch_size { value: 8 }",
            "Last entry in allowed_batch_sizes must match max_batch_size; last entry was 4; expected 8",
        ),
    ],
)
def test_parameters_that_cannot_be(text: str, message: str) -> None:
    """In TF Serving's words."""
    with pytest.raises(ServerConfigError) as raised:
        batching_options(text_format.Parse(text, BatchingParameters()))
    assert str(raised.value) == message

"""Where a run happens: on the event loop when it is sure to be quick, else in a thread; and its deadline."""

from __future__ import annotations

import asyncio
import threading
import time
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from serving.apis.messages import SignatureDef
from serving.apis.tensors import Array
from serving.embedded.inference.model import LoadedModel
from serving.embedded.inference.runner import QUICK_SECONDS, Run, Runner
from serving.embedded.models.storage import VersionDirectory
from serving.embedded.models.versions import Version
from serving.errors import DeadlineExceeded, InvalidArgument

X = {"x": np.zeros(2, np.float32)}


class Clock:
    """A servable that seems to take `seconds`, and tells in which thread it ran; y depends on no loop, z does.

    broken: the value of the input that fails.
    """

    def __init__(self) -> None:
        self.signatures: Mapping[str, SignatureDef] = {}
        self.loop_free = frozenset({"y"})
        self.runtime = "none"
        self.now = 0.0
        self.seconds = 0.0
        self.threads: list[str] = []
        self.broken = -1.0
        self.gate = threading.Event()
        self.gate.set()

    def run(self, feeds: Mapping[str, Array], fetches: Sequence[str]) -> list[Array]:
        """The first feed for every fetch."""
        self.threads.append(threading.current_thread().name)
        self.now += self.seconds
        assert self.gate.wait(10)
        if self.broken in next(iter(feeds.values())):
            raise InvalidArgument("broken")
        return [next(iter(feeds.values())) for _ in fetches]

    def close(self) -> None:
        """Nothing to free."""


class Gate(threading.Event):
    """An event that counts how often it was cleared."""

    closed = 0

    def clear(self) -> None:
        """Counts it."""
        self.closed += 1
        super().clear()


class Bench:
    """A version of a Clock, and the runner that runs it."""

    def __init__(self) -> None:
        self.clock = Clock()
        self.observed: list[tuple[str, float]] = []
        self.runner = Runner(1, lambda name, _, seconds: self.observed.append((name, seconds)))
        self.version: Version[LoadedModel] = Version("m", 1, VersionDirectory(Path("/m/1")), threading.RLock())
        self.version.put(LoadedModel("m", 1, self.clock))

    def run(
        self, *, feeds: Mapping[str, Array] = X, fetches: tuple[str, ...] = ("y",), seconds: float | None = None
    ) -> str:
        """Runs once, within so many seconds; gives the name of the thread that it ran in."""
        deadline = None if seconds is None else time.monotonic() + seconds
        asyncio.run(self.runner.run(Run(self.version, feeds, fetches, deadline)))
        return self.clock.threads[-1].partition("_")[0]


@pytest.fixture
def bench(monkeypatch: pytest.MonkeyPatch) -> Iterator[Bench]:
    """A runner of one thread, whose time the clock tells."""
    bench = Bench()
    monkeypatch.setattr(time, "perf_counter", lambda: bench.clock.now)
    yield bench
    bench.runner.stop()


async def ask(bench: Bench, count: int) -> list[asyncio.Task[list[Array]]]:
    """Asks for so many runs in one turn of the event loop, each with its number as the input."""
    feeds = [{"x": np.full(1, number, np.float32)} for number in range(count)]
    runs = [asyncio.ensure_future(bench.runner.run(Run(bench.version, feed, ("y",)))) for feed in feeds]
    await asyncio.sleep(0)
    return runs


def test_quick_runs_of_one_turn_go_together(bench: Bench) -> None:
    """All that were asked for are made before the first answer is gone on with, and each has its own."""
    bench.run()
    begun: list[int] = []

    async def asked() -> list[float]:
        runs = await ask(bench, 5)
        assert len(bench.clock.threads) == 1
        for run in runs:
            run.add_done_callback(lambda _: begun.append(len(bench.clock.threads)))
        return [float(values[0][0]) for values in await asyncio.gather(*runs)]

    assert asyncio.run(asked()) == [0, 1, 2, 3, 4]
    assert begun == [6] * 5


def test_the_loop_takes_a_turn_after_64_runs(bench: Bench) -> None:
    """However many came in one turn."""
    bench.run()

    async def asked() -> int:
        runs = await ask(bench, 130)
        await asyncio.sleep(0)
        made = len(bench.clock.threads) - 1
        await asyncio.gather(*runs)
        return made

    assert asyncio.run(asked()) == 64
    assert len(bench.clock.threads) == 131


def test_a_run_that_fails_is_its_own_requests_answer(bench: Bench) -> None:
    """Those beside it have theirs."""
    bench.run()
    bench.clock.broken = 1.0

    async def asked() -> list[object]:
        return await asyncio.gather(*await ask(bench, 3), return_exceptions=True)

    first, second, third = asyncio.run(asked())
    assert isinstance(second, InvalidArgument)
    assert [type(first), type(third)] == [list, list]


def test_a_request_that_was_given_up_is_not_run(bench: Bench) -> None:
    """Its version may be gone."""
    bench.run()

    async def asked() -> None:
        runs = await ask(bench, 3)
        runs[1].cancel()
        await asyncio.gather(*runs, return_exceptions=True)

    asyncio.run(asked())
    assert len(bench.clock.threads) == 3


def test_a_run_without_company_is_made_at_once(bench: Bench) -> None:
    """After one that was alone in its turn the next 31 wait for nothing; then it is looked again."""
    bench.run()

    async def made_at_once() -> bool:
        before = len(bench.clock.threads)
        (run,) = await ask(bench, 1)
        made = len(bench.clock.threads) - before
        await run
        return bool(made)

    async def asked() -> list[bool]:
        return [await made_at_once() for _ in range(34)]

    assert asyncio.run(asked()) == [False, *[True] * 31, False, True]


def test_what_was_quick_stays_on_the_event_loop(bench: Bench) -> None:
    """The first run is in a thread, since nobody knows; one that was slow sends the next one to a thread again."""
    assert [bench.run() for _ in range(3)] == ["run", "MainThread", "MainThread"]
    bench.clock.seconds = 2 * QUICK_SECONDS
    assert [bench.run() for _ in range(2)] == ["MainThread", "run"]
    bench.clock.seconds = 0
    assert [bench.run() for _ in range(2)] == ["run", "MainThread"]


def numbers(count: int) -> Mapping[str, Array]:
    """An input of so many bytes."""
    return {"x": np.zeros(count, np.uint8)}


def test_how_large_a_quick_run_may_be_follows_from_those_before(bench: Bench) -> None:
    """What takes a quarter of the time at 100 bytes may have 400; a larger one that is as quick raises that."""
    bench.clock.seconds = QUICK_SECONDS / 4
    assert bench.run(feeds=numbers(100)) == "run"
    assert [bench.run(feeds=numbers(count)) for count in (400, 1601)] == ["MainThread", "run"]
    assert [bench.run(feeds=numbers(count)) for count in (6400, 1)] == ["MainThread", "MainThread"]
    bench.clock.seconds = QUICK_SECONDS * 2
    assert bench.run(feeds=numbers(1000)) == "MainThread"
    assert bench.run(feeds=numbers(501)) == "run"


def test_many_subsets_of_the_outputs_are_not_all_remembered(bench: Bench) -> None:
    """A client can ask for any: 64 are known at a time."""
    known = []
    for number in range(66):
        bench.run(fetches=("y",) * (number + 1))
        known.append(len(bench.version.servable.quick_bytes))
    assert known == [*range(1, 65), 1, 2]


@pytest.mark.parametrize(
    ("feeds", "fetches"),
    [
        (X, ("y", "z")),
        ({"x": np.zeros(2**17 + 1, np.uint8)}, ("y",)),
        ({"x": np.array([b"0" * 2**17, b"1"], object)}, ("y",)),
    ],
    ids=["a loop", "many numbers", "long strings"],
)
def test_what_may_take_long_runs_in_a_thread(
    bench: Bench, feeds: Mapping[str, Array], fetches: tuple[str, ...]
) -> None:
    """However quick its last run was."""
    assert {bench.run(feeds=feeds, fetches=fetches) for _ in range(3)} == {"run"}


@pytest.mark.parametrize(
    "feeds",
    [{"x": np.zeros(2**17, np.uint8)}, {"x": np.array([b"0" * (2**17 - 1), b"1"], object)}],
    ids=["numbers", "strings"],
)
def test_as_much_as_may_be_runs_on_the_event_loop(bench: Bench, feeds: Mapping[str, Array]) -> None:
    """128 KiB, of all inputs together."""
    assert [bench.run(feeds=feeds) for _ in range(2)] == ["run", "MainThread"]
    more = {**feeds, "y": np.zeros(1, np.uint8)}
    assert [bench.run(feeds=more) for _ in range(2)] == ["run", "run"]


def test_a_run_of_a_millisecond_is_not_quick(bench: Bench) -> None:
    """A little less is, and lets inputs of as many bytes be run at once."""
    bench.clock.seconds = 0.001
    assert [bench.run(feeds=numbers(10)) for _ in range(2)] == ["run", "run"]
    bench.clock.seconds = 0.0009
    assert [bench.run(feeds=numbers(10)) for _ in range(2)] == ["run", "MainThread"]
    assert [bench.run(feeds=numbers(count)) for count in (12, 11)] == ["run", "MainThread"]


def test_a_run_that_takes_no_time_says_little_about_larger_ones(bench: Bench) -> None:
    """It counts as a microsecond."""
    assert bench.run(feeds=numbers(10)) == "run"
    assert bench.runner.run_now(Run(bench.version, numbers(10_001), ("y",))) is None
    assert bench.run(feeds=numbers(10_000)) == "MainThread"


def test_a_deadline_is_passed_when_it_is_reached(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    """Nothing runs then; a moment before it does, without a thread too."""
    bench.run()
    monkeypatch.setattr(time, "monotonic", lambda: 50.0)
    run = Run(bench.version, X, ("y",), 50.0)
    with pytest.raises(DeadlineExceeded, match=r"^The deadline had passed before the model could run\.$"):
        asyncio.run(bench.runner.run(run))
    asyncio.run(bench.runner.run(run._replace(deadline=50.001)))
    assert bench.clock.threads[1:] == ["MainThread"]


def test_classes_are_counted_and_traced_runs_told(bench: Bench) -> None:
    """Once a run, by the model's name and version, for the rows that were asked for; only runs with spans are told."""
    counted: list[tuple[str, int, int]] = []
    told: list[tuple[Run, float, float]] = []
    runner = Runner(
        1,
        count=lambda name, number, rows: counted.append((name, number, len(rows))),
        trace=lambda run, begin, end: told.append((run, begin, end)),
    )
    bench.clock.seconds = 0.5
    bench.clock.now = 3.0
    span: Any = object()
    run = Run(bench.version, {"x": np.zeros(5, np.float32)}, ("z", "y"), rows=4)
    asyncio.run(runner.run(run))
    assert (counted, told) == ([], [])
    bench.version.servable.probabilities = frozenset({"y", "z"})
    asyncio.run(runner.run(run._replace(spans=(span,))))
    assert counted == [("m", 1, 4)]
    assert told == [(run._replace(spans=(span,)), 3.5, 4.0)]
    bench.version.servable.probabilities = frozenset({"other"})
    asyncio.run(runner.run(run))
    asyncio.run(Runner(1).run(run._replace(spans=(span,))))
    assert (len(counted), len(told)) == (1, 1)
    runner.stop()


def test_a_runner_that_was_stopped_begins_nothing(bench: Bench) -> None:
    """What runs is not waited for; what waited is given up."""
    bench.clock.gate.clear()

    async def stopped() -> object:
        first, second = (asyncio.ensure_future(bench.runner.run(Run(bench.version, X, ("y",)))) for _ in range(2))
        while not bench.clock.threads:
            await asyncio.sleep(0)
        bench.runner.stop()
        while not second.done():
            await asyncio.sleep(0)
        assert not first.done()
        bench.clock.gate.set()
        await first
        with pytest.raises(RuntimeError):
            await bench.runner.run(Run(bench.version, X, ("z",)))
        (error,) = await asyncio.gather(second, return_exceptions=True)
        return error

    assert isinstance(asyncio.run(stopped()), asyncio.CancelledError)
    assert len(bench.clock.threads) == 1


def test_a_result_of_a_mebibyte_holds_nobody_up(bench: Bench) -> None:
    """After one byte more the next run waits for the event loop."""
    bench.runner._gate = gate = Gate()
    gate.set()
    for size, closed in ((2**20, 0), (2**20 + 1, 1)):
        bench.run(feeds={"x": np.ones(size, np.int8)}, fetches=("z",))
        assert gate.closed == closed


def test_whoever_waits_for_a_large_result_goes_on_before_the_next_run(bench: Bench) -> None:
    """So many turns of the event loop later."""
    gate = bench.runner._gate

    async def turns(count: int) -> int:
        gate.clear()
        bench.runner._open(asyncio.get_running_loop(), count)
        taken = 0
        while not gate.is_set():
            await asyncio.sleep(0)
            taken += 1
        return taken

    assert [asyncio.run(turns(count)) for count in (0, 1, 4)] == [0, 1, 4]


def test_run_now_runs_only_what_is_quick(bench: Bench) -> None:
    """It gives None, and runs nothing, for the rest."""
    run = Run(bench.version, X, ("y",))

    assert bench.runner.run_now(run) is None
    assert bench.clock.threads == []
    bench.run()
    values = bench.runner.run_now(run)

    assert values is not None
    assert values[0] is X["x"]


def test_a_deadline_that_has_passed(bench: Bench) -> None:
    """Nothing runs."""
    with pytest.raises(DeadlineExceeded, match="had passed before the model could run"):
        bench.run(seconds=-1)
    assert bench.clock.threads == []


def test_a_deadline_that_passes_during_the_run(bench: Bench) -> None:
    """The caller is answered at once; the run goes on and holds its version until it ends."""
    bench.clock.gate.clear()
    unloaded = threading.Event()

    with pytest.raises(DeadlineExceeded, match="passed before the model had answered"):
        bench.run(seconds=0.05)
    bench.version.take(unloaded.set)

    assert not unloaded.is_set()
    bench.clock.gate.set()
    assert unloaded.wait(10)


def test_a_deadline_that_passes_before_the_run_begins(bench: Bench) -> None:
    """It never runs, and does not hold its version."""
    bench.clock.gate.clear()
    unloaded = threading.Event()

    for _ in range(2):  # the first has the only thread
        with pytest.raises(DeadlineExceeded, match="passed before the model had answered"):
            bench.run(seconds=0.05)
    bench.clock.gate.set()
    bench.version.take(unloaded.set)

    assert unloaded.wait(10)
    assert len(bench.clock.threads) == 1


def test_runs_are_observed(bench: Bench) -> None:
    """With the model's name and the seconds, wherever they happen."""
    for bench.clock.seconds in (0.25, 0.0, 0.5):
        bench.run()

    assert bench.clock.threads[-1] == "MainThread"
    assert bench.observed == [("m", 0.25), ("m", 0.0), ("m", 0.5)]


def test_large_results_do_not_pile_up(bench: Bench) -> None:
    """The next run begins once the event loop has taken the last one's, or after a second at most."""
    large = {"x": np.zeros(2**20, np.float32)}

    async def both() -> None:
        await asyncio.gather(*(bench.runner.run(Run(bench.version, large, ("z",))) for _ in range(2)))
        assert len(bench.clock.threads) == 2
        while not bench.runner._gate.is_set():
            await asyncio.sleep(0)
        bench.runner._gate.clear()
        waiting = asyncio.ensure_future(bench.runner.run(Run(bench.version, large, ("z",))))
        await asyncio.sleep(0.05)
        assert len(bench.clock.threads) == 2
        bench.runner._gate.set()
        await waiting

    asyncio.run(both())
    assert len(bench.clock.threads) == 3

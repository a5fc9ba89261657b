"""Whatever becomes of requests, their versions are let go: random cancellations, deadlines, reloads, batches."""

from __future__ import annotations

import asyncio
import tempfile
import threading
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from serving.apis.messages import SignatureDef
from serving.apis.tensors import Array
from serving.embedded.inference.batch_queue import BatchingOptions
from serving.embedded.inference.batching import BatchingRunner
from serving.embedded.inference.model import LoadedModel
from serving.embedded.inference.runner import Run, Runner
from serving.embedded.models.manager import Manager
from serving.embedded.models.storage import VersionDirectory
from serving.embedded.models.versions import State
from serving.errors import InvalidArgument, NotFound, ServingError
from tests.support.fakes import aspire

_SLEEPS = (0.0, 0.0005, 0.003)


class Toy:
    """y = x + its number, after a while; it must not run, nor be closed, once it is closed, nor while it runs."""

    def __init__(self, number: int) -> None:
        self.number = number
        self.signatures: Mapping[str, SignatureDef] = {}
        self.loop_free = frozenset({"y"})
        self.runtime = "none"
        self.wrong: list[str] = []
        self._lock = threading.Lock()
        self._running = 0
        self._closed = False

    def run(self, feeds: Mapping[str, Array], fetches: Sequence[str]) -> list[Array]:
        """A first value below zero fails; `scalar` goes not by rows."""
        with self._lock:
            self._running += 1
            if self._closed:
                self.wrong.append("ran when it was closed")
        x = next(iter(feeds.values()))
        time.sleep(_SLEEPS[int(abs(x[0])) % len(_SLEEPS)])
        with self._lock:
            self._running -= 1
        if x[0] < 0:
            raise InvalidArgument("below zero")
        return [np.asarray(len(x) if fetch == "scalar" else x + self.number, np.float32) for fetch in fetches]

    def close(self) -> None:
        """Nothing may run."""
        with self._lock:
            if self._running or self._closed:
                self.wrong.append("closed while it ran, or twice")
            self._closed = True


class Bench:
    """A manager of toys and the runners of a server, with little of everything."""

    def __init__(self, base: Path, batching: BatchingOptions | None) -> None:
        self.toys: list[Toy] = []
        self._batching = batching
        self._base = base
        self.manager: Manager[LoadedModel] = Manager(self._load, num_load_threads=2)
        self.runner = Runner(2)
        self.batches = BatchingRunner(self.runner)
        self.numbers: list[int] = []
        self.newest = 0

    def _load(self, name: str, number: int, _: VersionDirectory) -> LoadedModel:
        toy = Toy(number)
        self.toys.append(toy)
        return LoadedModel(name, number, toy, self._batching)

    def publish(self, count: int) -> None:
        """The next version; `count` of them are to stay."""
        self.newest += 1
        self.numbers = [*self.numbers, self.newest][-count:]
        aspire(self.manager, self._base, *self.numbers)  # type: ignore[arg-type]

    def retire(self) -> None:
        """The newest version goes, unless it is the last."""
        self.numbers = self.numbers[:-1] or self.numbers
        aspire(self.manager, self._base, *self.numbers)  # type: ignore[arg-type]

    async def ask(self, values: list[int], fetch: str, seconds: float | None) -> None:
        """One request, answered by one version, or failed as it may be."""
        x = np.array(values, np.float32)
        deadline = None if seconds is None else time.monotonic() + seconds
        try:
            with self.manager.use("m") as version:
                run = Run(version, {"x": x}, (fetch,), deadline)
                (y,) = await self.batches.run(run)
                assert fetch == "scalar" or y.tolist() == (x + version.number).tolist()
        except ServingError:
            pass


requests = st.tuples(
    st.just("ask"),
    st.lists(st.integers(-1, 3), min_size=1, max_size=4),
    st.sampled_from(["y", "y", "z", "scalar"]),
    st.sampled_from([None, None, 0.0, 0.0005, 0.002, 0.01]),
)
steps = st.one_of(
    requests, requests, requests, requests, requests, requests, requests, requests,
    st.tuples(st.just("cancel"), st.integers(1, 4)),
    st.tuples(st.just("wait"), st.sampled_from([0.0, 0.0, 0.001, 0.004])),
    st.tuples(st.just("publish"), st.integers(1, 2)),
    st.tuples(st.just("retire")),
)  # fmt: skip
options = st.sampled_from(
    [
        None,
        BatchingOptions(max_batch_size=4, num_batch_threads=1),
        BatchingOptions(max_batch_size=4, num_batch_threads=2, batch_timeout_seconds=0.002),
        BatchingOptions(
            max_batch_size=2, num_batch_threads=1, max_enqueued_batches=1, enable_large_batch_splitting=True
        ),
        BatchingOptions(max_batch_size=4, allowed_batch_sizes=(2, 4), batch_timeout_seconds=0.001),
    ]
)


@settings(max_examples=40, deadline=None, suppress_health_check=[HealthCheck.too_slow, HealthCheck.large_base_example])
@given(options, st.lists(steps, min_size=40, max_size=120))
def test_versions_are_let_go(batching: BatchingOptions | None, actions: list[tuple[Any, ...]]) -> None:
    """At the end the newest serves, every other one is END and closed, and nobody uses any."""
    with tempfile.TemporaryDirectory() as directory:
        bench = Bench(Path(directory), batching)
        problems: list[object] = []

        async def act() -> None:
            asyncio.get_running_loop().set_exception_handler(lambda _, context: problems.append(context))
            bench.publish(1)
            await asyncio.to_thread(bench.manager.wait_until_settled, ["m"], 10)
            asked: list[asyncio.Task[None]] = []
            for name, *arguments in actions:
                if name == "ask":
                    asked.append(asyncio.create_task(bench.ask(*arguments)))
                    await asyncio.sleep(0)
                elif name == "cancel" and asked:
                    asked[-min(arguments[0], len(asked))].cancel()
                elif name == "wait":
                    await asyncio.sleep(arguments[0])
                elif name == "publish":
                    bench.publish(arguments[0])
                elif name == "retire":
                    bench.retire()
            problems.extend(await asyncio.wait_for(_failures(asked), 20))
            bench.publish(1)
            await asyncio.to_thread(_settle, bench)
            with bench.manager.use("m") as version:
                (y,) = await bench.batches.run(Run(version, {"x": np.ones(1, np.float32)}, ("y",)))
            problems.extend([] if y[0] == 1 + bench.newest else [y])
            await asyncio.to_thread(_settle, bench)
            problems.extend(version for version in [version] if version.servable.queues)

        asyncio.run(act())
        statuses = {status.version: State(status.state) for status in bench.manager.statuses("m")}
        bench.manager.stop()
        bench.runner.stop()

    assert problems == []
    assert statuses.pop(bench.newest) == State.AVAILABLE
    assert set(statuses.values()) <= {State.END}
    assert [toy.wrong for toy in bench.toys if toy.wrong] == []
    try:
        bench.manager.use("m")
    except NotFound:
        return
    raise AssertionError("the last version was in use after all: stop did not unload it")


async def _failures(asked: list[asyncio.Task[None]]) -> list[BaseException]:
    results = await asyncio.gather(*asked, return_exceptions=True)
    return [result for result in results if result is not None and not isinstance(result, asyncio.CancelledError)]


def _settle(bench: Bench) -> None:
    """Waits until only the newest version is not END."""
    end = time.monotonic() + 10
    while time.monotonic() < end:
        states = {status.version: status.state for status in bench.manager.statuses("m")}
        if states.pop(bench.newest) == State.AVAILABLE and set(states.values()) <= {State.END}:
            return
        time.sleep(0.001)

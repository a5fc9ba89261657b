"""Runs loaded models under the client's deadline: in worker threads, or at once where that is known to be quicker."""

from __future__ import annotations

import asyncio
import contextlib
import threading
import time
from collections import deque
from collections.abc import Callable, Mapping
from concurrent.futures import ThreadPoolExecutor
from typing import NamedTuple

from serving.apis.tensors import Array
from serving.embedded.inference.batch_queue import Phases
from serving.embedded.inference.model import LoadedModel
from serving.embedded.models.versions import Version
from serving.errors import DeadlineExceeded

# A hand-over to a thread and back costs as much as a small model's whole run: one that is sure to be quick stays on the
# event loop. Sure means: by the runs of its outputs so far, inputs of this size take no longer than this; the outputs
# depend on no loop, and the inputs are small.
QUICK_SECONDS = 0.001
QUICK_BYTES = 2**17
# A client may ask for any subset of the outputs: of so many it is known how long they take.
_KNOWN_FETCHES = 64
_LARGE_BYTES = 2**20
_TURN_RUNS = 64
_ALONE_RUNS = 31
_GATE_TURNS = 4
_GATE_SECONDS = 1.0


class Run(NamedTuple):
    """One run of a version that its caller has in use.

    feeds: by tensor name. deadline: in `time.monotonic` seconds. rows: of what was asked, where padding is below it.
    requests: how many it was merged of. spans: of those that are traced.
    """

    version: Version[LoadedModel]
    feeds: Mapping[str, Array]
    fetches: tuple[str, ...]
    deadline: float | None = None
    rows: int | None = None
    requests: int = 1
    spans: tuple[Phases, ...] = ()


class Runner:
    """Runs models in one of `threads` threads, or on the event loop when the run is sure to be quick.

    Quick runs of one turn of the loop go one after the other, before any of their answers is written: the model's code
    stays in the processor's caches then, which saves a sixth of a small request's time. A run that was alone in its
    turn has waited for nothing, so the next ones are made at once.

    observe: is told the model's name, its runtime's and the seconds of each run. count: is told the model's name, the
    version and its `probabilities`, float [N, classes], where they are among the outputs. trace: is told each run that
    has spans, its begin and its end by `time.perf_counter`.
    """

    def __init__(
        self,
        threads: int,
        observe: Callable[[str, str, float], None] | None = None,
        count: Callable[[str, int, Array], None] | None = None,
        trace: Callable[[Run, float, float], None] | None = None,
    ) -> None:
        self._threads = ThreadPoolExecutor(threads, "run")
        self._observe = observe
        self._count = count
        self._trace = trace
        # How many runs are made at once, without waiting for others of the same turn.
        self._at_once = 0
        self._quick: deque[tuple[Run, int, asyncio.Future[list[Array]]]] = deque()
        # Closed from the end of a run with a large result until the event loop has taken it: results that nobody has
        # paid for yet must not pile up.
        self._gate = threading.Event()
        self._gate.set()

    async def run(self, run: Run) -> list[Array]:
        """The values of `run.fetches`.

        Raises ServingError; DeadlineExceeded when the deadline passes first: the run goes on, its result is dropped.
        """
        if run.deadline is not None and run.deadline <= time.monotonic():
            raise DeadlineExceeded("The deadline had passed before the model could run.")
        size = _size(run.feeds)
        if not _is_quick(run, size):
            return await self._in_thread(run, size)
        if self._at_once:
            self._at_once -= 1
            return self._timed(run, size)
        return await self._in_turn(run, size)

    def run_now(self, run: Run) -> list[Array] | None:
        """What `run` gives, at once, or None when that might hold up the event loop. Raises ServingError."""
        size = _size(run.feeds)
        return self._timed(run, size) if _is_quick(run, size) else None

    def stop(self) -> None:
        """Starts nothing any more; a run under way is not waited for: it may have outlived its request."""
        self._threads.shutdown(wait=False, cancel_futures=True)

    async def _in_turn(self, run: Run, size: int) -> list[Array]:
        loop = asyncio.get_running_loop()
        result: asyncio.Future[list[Array]] = loop.create_future()
        if not self._quick:
            loop.call_soon(self._run_quick)
        self._quick.append((run, size, result))
        return await result

    def _run_quick(self) -> None:
        """Makes the runs that wait; when there are many, the loop takes a turn after some of them."""
        if len(self._quick) == 1:
            self._at_once = _ALONE_RUNS
        for _ in range(min(len(self._quick), _TURN_RUNS)):
            self._settle(*self._quick.popleft())
        if self._quick:
            asyncio.get_running_loop().call_soon(self._run_quick)

    def _settle(self, run: Run, size: int, result: asyncio.Future[list[Array]]) -> None:
        try:
            # A request that was given up meanwhile holds its version no more.
            if not result.done():
                result.set_result(self._timed(run, size))
        except Exception as error:  # noqa: BLE001 - it becomes the answer of its request
            result.set_exception(error)
        finally:
            # An error's traceback has this frame, and would be a cycle with what holds the error.
            del run, result

    async def _in_thread(self, run: Run, size: int) -> list[Array]:
        running = self._threads.submit(self._gated, run, size, asyncio.get_running_loop())
        # The run holds the version itself: its request may be given up before it ends, or before it begins.
        run.version.use()
        running.add_done_callback(lambda _: run.version.release())
        values = asyncio.wrap_future(running)
        if run.deadline is None:
            return await values
        try:
            return await asyncio.wait_for(values, run.deadline - time.monotonic())
        except asyncio.TimeoutError as error:
            raise DeadlineExceeded("The deadline passed before the model had answered.") from error

    def _gated(self, run: Run, size: int, loop: asyncio.AbstractEventLoop) -> list[Array]:
        self._gate.wait(_GATE_SECONDS)
        values = self._timed(run, size)
        if sum(value.nbytes for value in values) > _LARGE_BYTES:
            self._gate.clear()
            with contextlib.suppress(RuntimeError):
                # Not when the loop is closed.
                loop.call_soon_threadsafe(self._open, loop, _GATE_TURNS)
        return values

    def _open(self, loop: asyncio.AbstractEventLoop, turns: int) -> None:
        """Opens the gate after some turns of the loop, in which whoever waits for the result goes on with it."""
        if turns:
            loop.call_soon(self._open, loop, turns - 1)
        else:
            self._gate.set()

    def _timed(self, run: Run, size: int) -> list[Array]:
        model = run.version.servable
        begin = time.perf_counter()
        values = model.run(run.feeds, run.fetches)
        end = time.perf_counter()
        seconds = end - begin
        if run.spans and self._trace is not None:
            self._trace(run, begin, end)
        if model.loop_free.issuperset(run.fetches):
            _learn(model.quick_bytes, run.fetches, size, seconds)
        if self._observe is not None:
            self._observe(model.name, model.runtime, seconds)
        if self._count is not None and model.probabilities:
            for fetch, value in zip(run.fetches, values, strict=True):
                if fetch in model.probabilities:
                    self._count(model.name, model.number, value[: run.rows])
                    break
        return values


def _learn(quick_bytes: dict[tuple[str, ...], float], fetches: tuple[str, ...], size: int, seconds: float) -> None:
    """Takes note of how long a run took."""
    known = quick_bytes.get(fetches, 0.0)
    estimate = size * QUICK_SECONDS / max(seconds, 1e-6)
    if seconds < QUICK_SECONDS:
        if estimate <= known:
            return
        if len(quick_bytes) >= _KNOWN_FETCHES:
            quick_bytes.clear()
        quick_bytes[fetches] = estimate
    elif known:
        quick_bytes[fetches] = min(estimate, known)


def _is_quick(run: Run, size: int) -> bool:
    return size <= QUICK_BYTES and size <= run.version.servable.quick_bytes.get(run.fetches, -1)


def _size(feeds: Mapping[str, Array]) -> int:
    """The bytes of inputs, strings with what they hold; more than QUICK_BYTES for what may be more."""
    size = 0
    for feed in feeds.values():
        if feed.size > QUICK_BYTES:
            return feed.nbytes
        size += sum(map(len, feed.ravel())) if feed.dtype.kind == "O" else feed.nbytes
    return size

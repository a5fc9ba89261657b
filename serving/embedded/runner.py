"""Runs servables under the client's deadline: in worker threads, or at once where that is known to be quicker."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any, NamedTuple, Protocol
from weakref import WeakKeyDictionary

import numpy.typing as npt

from serving.apis.messages import SignatureDef
from serving.embedded.manager import Version
from serving.errors import DeadlineExceeded

Array = npt.NDArray[Any]

# A hand-over to a thread and back costs about 100 us of two threads' time: a run that is as quick as that stays on
# the event loop. What it may hold up the loop is bounded by what it took before, on inputs no larger than these.
QUICK_SECONDS = 0.0003
QUICK_BYTES = 65536


class Servable(Protocol):
    """A loaded model, as the loader gives it."""

    @property
    def signatures(self) -> Mapping[str, SignatureDef]:
        """The signatures by name."""

    def run(self, feeds: Mapping[str, Array], fetches: Sequence[str]) -> list[Array]:
        """The values of the tensors `fetches`, given those of `feeds`. Raises ServingError."""

    def close(self) -> None:
        """Frees the model."""


class Run(NamedTuple):
    """One run of a version that its caller has in use."""

    version: Version[Servable]
    feeds: Mapping[str, Array]
    fetches: tuple[str, ...]
    deadline: float | None = None


class Runner:
    """Calls `Servable.run` in one of `threads` threads, or on the event loop when it is sure to be quick."""

    def __init__(self, threads: int, observe: Callable[[str, float], None] | None = None) -> None:
        self._threads = ThreadPoolExecutor(threads, "run")
        self._observe = observe
        self._seconds: WeakKeyDictionary[Version[Servable], dict[tuple[str, ...], float]] = WeakKeyDictionary()

    async def run(self, run: Run) -> list[Array]:
        """What `Servable.run` gives.

        Raises ServingError; DeadlineExceeded when the deadline passes first: the run goes on, its result is dropped.
        """
        if run.deadline is not None and run.deadline <= time.monotonic():
            raise DeadlineExceeded("The deadline had passed before the model could run.")
        seconds = self._seconds.setdefault(run.version, {})
        if self._is_quick(seconds.get(run.fetches), run.feeds):
            return self._timed(run, seconds)
        return await self._in_thread(run, seconds)

    def run_now(self, run: Run) -> list[Array] | None:
        """What `run` gives, at once, or None when that might hold up the event loop. Raises ServingError."""
        seconds = self._seconds.setdefault(run.version, {})
        return self._timed(run, seconds) if self._is_quick(seconds.get(run.fetches), run.feeds) else None

    async def _in_thread(self, run: Run, seconds: dict[tuple[str, ...], float]) -> list[Array]:
        run.version.use()
        running = asyncio.get_running_loop().run_in_executor(self._threads, self._held, run, seconds)
        if run.deadline is None:
            return await running
        try:
            return await asyncio.wait_for(running, run.deadline - time.monotonic())
        except asyncio.TimeoutError as error:
            raise DeadlineExceeded("The deadline passed before the model had answered.") from error

    def stop(self) -> None:
        """Waits for the runs under way."""
        self._threads.shutdown()

    @staticmethod
    def _is_quick(seconds: float | None, feeds: Mapping[str, Array]) -> bool:
        return seconds is not None and seconds < QUICK_SECONDS and _size(feeds) <= QUICK_BYTES

    def _timed(self, run: Run, seconds: dict[tuple[str, ...], float]) -> list[Array]:
        begin = time.perf_counter()
        result = run.version.servable.run(run.feeds, run.fetches)
        taken = time.perf_counter() - begin
        before = seconds.get(run.fetches)
        # A slow run counts at once, quick ones win the trust back slowly.
        seconds[run.fetches] = taken if before is None or taken > before else 0.9 * before + 0.1 * taken
        if self._observe is not None:
            self._observe(run.version.name, taken)
        return result

    def _held(self, run: Run, seconds: dict[tuple[str, ...], float]) -> list[Array]:
        # The run holds the version itself: its request may be given up before it ends.
        try:
            return self._timed(run, seconds)
        finally:
            run.version.release()


def _size(feeds: Mapping[str, Array]) -> int:
    """The bytes of the feeds; strings are counted by what they hold."""
    return sum(sum(map(len, feed.ravel())) if feed.dtype.kind == "O" else feed.nbytes for feed in feeds.values())

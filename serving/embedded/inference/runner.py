"""Runs servables under the client's deadline: in worker threads, or at once where that is known to be quicker."""

from __future__ import annotations

import asyncio
import math
import time
from collections.abc import Callable, Mapping
from concurrent.futures import ThreadPoolExecutor
from typing import NamedTuple

from serving.embedded.inference.servable import Array, Servable
from serving.embedded.models.versions import Version
from serving.errors import DeadlineExceeded

# A hand-over to a thread and back costs as much as a small model's whole run: one that is sure to be quick stays on the
# event loop. Sure means: the quicker of its last two runs (the other may have been interrupted) took no longer than
# this, its outputs depend on no loop, and the inputs are small.
QUICK_SECONDS = 0.001
QUICK_BYTES = 65536
# A client may ask for outputs in any order: beyond this many, the rest are not remembered and run in threads.
MAX_REMEMBERED = 1000


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

    async def run(self, run: Run) -> list[Array]:
        """What `Servable.run` gives.

        Raises ServingError; DeadlineExceeded when the deadline passes first: the run goes on, its result is dropped.
        """
        if run.deadline is not None and run.deadline <= time.monotonic():
            raise DeadlineExceeded("The deadline had passed before the model could run.")
        if _is_quick(run):
            return self._timed(run)
        return await self._in_thread(run)

    def run_now(self, run: Run) -> list[Array] | None:
        """What `run` gives, at once, or None when that might hold up the event loop. Raises ServingError."""
        return self._timed(run) if _is_quick(run) else None

    async def _in_thread(self, run: Run) -> list[Array]:
        run.version.use()
        running = asyncio.get_running_loop().run_in_executor(self._threads, self._held, run)
        if run.deadline is None:
            return await running
        try:
            return await asyncio.wait_for(running, run.deadline - time.monotonic())
        except asyncio.TimeoutError as error:
            raise DeadlineExceeded("The deadline passed before the model had answered.") from error

    def stop(self) -> None:
        """Starts nothing any more; a run under way is not waited for: it may have outlived its request."""
        self._threads.shutdown(wait=False, cancel_futures=True)

    def _timed(self, run: Run) -> list[Array]:
        begin = time.perf_counter()
        result = run.version.servable.run(run.feeds, run.fetches)
        taken = time.perf_counter() - begin
        cache = run.version.cache
        if run.fetches in cache or len(cache) < MAX_REMEMBERED:
            cache[run.fetches] = (cache.get(run.fetches, _NEVER)[1], taken)
        if self._observe is not None:
            self._observe(run.version.name, taken)
        return result

    def _held(self, run: Run) -> list[Array]:
        # The run holds the version itself: its request may be given up before it ends.
        try:
            return self._timed(run)
        finally:
            run.version.release()


# The last two runs of something that never ran.
_NEVER = (math.inf, math.inf)


def _is_quick(run: Run) -> bool:
    return (
        min(run.version.cache.get(run.fetches, _NEVER)) < QUICK_SECONDS
        and run.version.servable.loop_free.issuperset(run.fetches)
        and _size(run.feeds) <= QUICK_BYTES
    )


def _size(feeds: Mapping[str, Array]) -> int:
    """The bytes of the feeds; strings are counted by what they hold."""
    return sum([sum(map(len, feed.ravel())) if feed.dtype.kind == "O" else feed.nbytes for feed in feeds.values()])

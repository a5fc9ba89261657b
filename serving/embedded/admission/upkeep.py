"""What has to be done every second for memory: stalled messages end, and what was freed goes back to the system."""

from __future__ import annotations

import asyncio
import contextlib
import ctypes
from collections.abc import Callable

from serving.embedded.admission.budget import Budget

_SECONDS = 1.0
# glibc keeps what it has freed: worth a look at the heap once so much was given back, and little is in use.
_TRIM_BYTES = 32 * 2**20


class Upkeep:
    """Looks after a budget, on the event loop of `start`. trim: gives memory back; called in a thread."""

    def __init__(self, budget: Budget, stall_seconds: float, trim: Callable[[], object] | None = None) -> None:
        self._budget = budget
        self._stall_seconds = stall_seconds
        self._trim = trim or _malloc_trim()
        self._task: asyncio.Task[None] | None = None

    def start(self) -> None:
        """Begins."""
        self._task = asyncio.get_running_loop().create_task(self._run())

    async def stop(self) -> None:
        """Ends."""
        if self._task is not None:
            self._task.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await self._task

    async def _run(self) -> None:
        loop = asyncio.get_running_loop()
        most = 0
        while True:
            await asyncio.sleep(_SECONDS)
            while self._budget.end_stalled(self._stall_seconds):
                await asyncio.sleep(0)
            most = max(most, self._budget.take_peak())
            if most - self._budget.used >= _TRIM_BYTES and self._budget.used < _TRIM_BYTES:
                most = 0
                await loop.run_in_executor(None, self._trim)


def _malloc_trim() -> Callable[[], object]:
    """glibc's, or nothing where there is another C library.

    https://man7.org/linux/man-pages/man3/malloc_trim.3.html
    """
    try:
        trim = ctypes.CDLL(None).malloc_trim
    except (AttributeError, OSError, TypeError):
        return lambda: None
    return lambda: trim(ctypes.c_size_t(0))

"""What has to be done every second for memory: stalled messages end, and what was freed goes back to the system."""

from __future__ import annotations

import asyncio
import contextlib
import ctypes
from collections.abc import Callable

from serving.embedded.admission.budget import Budget
from serving.embedded.admission.resources import resident_bytes

_SECONDS = 1.0
# glibc keeps what it has freed: worth a look once the process has grown by so much more than what is in use explains.
_TRIM_BYTES = 32 * 2**20
# After a look while much was in use there is another one some seconds later.
_SINKING_BYTES = _TRIM_BYTES // 4


class Upkeep:
    """Looks after a budget, on the event loop of `start`.

    trim: gives memory back; called in a thread. resident: the memory of the process, in bytes.
    """

    def __init__(
        self,
        budget: Budget,
        stall_seconds: float,
        trim: Callable[[], object] | None = None,
        resident: Callable[[], int] = resident_bytes,
    ) -> None:
        self._budget = budget
        self._stall_seconds = stall_seconds
        self._trim = trim or _malloc_trim()
        self._resident = resident
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
        start = floor = self._resident()
        is_calm = True
        while True:
            await asyncio.sleep(_SECONDS)
            while self._budget.end_stalled(self._stall_seconds):
                await asyncio.sleep(0)
            if self._resident() - self._budget.used - floor >= _TRIM_BYTES:
                is_calm = self._budget.used < _TRIM_BYTES
                await loop.run_in_executor(None, self._trim)
                floor = self._resident() - self._budget.used
            elif not is_calm:
                # What was in use by those who do not count it may have been freed since.
                floor = max(start, floor - _SINKING_BYTES)


def _malloc_trim() -> Callable[[], object]:
    """glibc's, or nothing where there is another C library.

    https://man7.org/linux/man-pages/man3/malloc_trim.3.html
    """
    try:
        trim = ctypes.CDLL(None).malloc_trim
    except (AttributeError, OSError, TypeError):
        return lambda: None
    return lambda: trim(ctypes.c_size_t(0))

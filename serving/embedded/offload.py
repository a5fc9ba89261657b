"""Work whose cost grows with a request, done away from the event loop."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import TypeVar

# A hand-over to a thread and back costs as much as a few hundred KiB of work.
LARGE_BYTES = 2**17
_THREADS = 2
# To copy so many bytes takes as long as other work does for one, and to convert a value as long as to copy half a KiB.
_COPY_BYTES = 32
_VALUE_BYTES = 16

T = TypeVar("T")


def work_size(copied: int, converted: int = 0) -> int:
    """The size of work that does no more than copy bytes and convert values."""
    return copied // _COPY_BYTES + converted * _VALUE_BYTES


class Offload:
    """Does small work at once, and large work in a thread."""

    def __init__(self) -> None:
        self._threads = ThreadPoolExecutor(_THREADS, "large")

    async def run(self, size: int, work: Callable[[], T]) -> T:
        """What `work` gives. size: in bytes of what it reads or writes."""
        if size <= LARGE_BYTES:
            return work()
        return await asyncio.get_running_loop().run_in_executor(self._threads, work)

    def stop(self) -> None:
        """Begins nothing any more; work under way is not waited for."""
        self._threads.shutdown(wait=False, cancel_futures=True)

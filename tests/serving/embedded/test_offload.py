"""What is done at once, and what in a thread."""

from __future__ import annotations

import asyncio
import threading

import pytest

from serving.embedded.offload import Offload, work_size


@pytest.mark.parametrize(
    ("copied", "converted", "size"), [(0, 0, 0), (31, 0, 0), (32, 0, 1), (320, 0, 10), (0, 1, 16), (64, 3, 50)]
)
def test_the_size_of_work(copied: int, converted: int, size: int) -> None:
    """32 bytes are copied in the time of one of other work; a value that is converted takes that of 16."""
    assert work_size(copied, converted) == size
    assert work_size(copied) == copied // 32


def test_large_work_is_done_away_from_the_event_loop() -> None:
    """More than 128 KiB, in two threads at most; what it raises is raised, and nothing is begun after its end."""
    offload = Offload()
    gate, begun = threading.Event(), threading.Semaphore(0)

    def name() -> str:
        return threading.current_thread().name.partition("_")[0]

    def waits() -> int:
        begun.release()
        assert gate.wait(10)
        return 1

    async def asked() -> None:
        assert await offload.run(2**17, name) == "MainThread"
        assert await offload.run(2**17 + 1, name) == "large"
        with pytest.raises(ZeroDivisionError):
            await offload.run(2**20, lambda: 1 // 0)
        works = [asyncio.ensure_future(offload.run(2**20, waits)) for _ in range(3)]
        for _ in range(2):
            assert await asyncio.to_thread(begun.acquire, timeout=10)
        assert not begun.acquire(blocking=False)
        offload.stop()
        gate.set()
        done = await asyncio.gather(*works, return_exceptions=True)
        assert done[:2] == [1, 1]
        assert isinstance(done[2], asyncio.CancelledError)
        with pytest.raises(RuntimeError):
            await offload.run(2**20, name)
        assert await offload.run(1, name) == "MainThread"

    asyncio.run(asked())

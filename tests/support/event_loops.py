"""Work in an event loop of its own, for tests of what listens and accepts."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine
from typing import Any

_SECONDS = 10


def run(work: Coroutine[Any, Any, None]) -> None:
    """Runs it in a loop that fails the test when anything in it raised."""
    errors: list[object] = []

    async def watched() -> None:
        asyncio.get_running_loop().set_exception_handler(lambda _, context: errors.append(context))
        await work

    asyncio.run(watched())
    assert errors == []


async def until(condition: Callable[[], object]) -> None:
    """Waits until something holds."""

    async def hold() -> None:
        while not condition():
            await asyncio.sleep(0.001)

    await asyncio.wait_for(hold(), _SECONDS)

"""The requests that may be merged with each other, while they wait."""

from __future__ import annotations

import asyncio
from collections import deque
from typing import Any

import numpy.typing as npt

from serving.embedded.inference.batching_options import BatchingOptions
from serving.embedded.inference.runner import Run

Array = npt.NDArray[Any]

# While requests come one at a time, every so many of them looks whether there is company.
COMPANY_EVERY = 8


class Task:
    """One request that waits: its run, its rows, and the future that its answer goes to."""

    __slots__ = ("future", "rows", "run")

    def __init__(self, run: Run, rows: int, future: asyncio.Future[list[Array]]) -> None:
        self.run = run
        self.rows = rows
        self.future = future


class Queue:
    """The requests that may be merged with each other."""

    def __init__(self, options: BatchingOptions) -> None:
        self.options = options
        self.tasks: deque[Task] = deque()
        self.rows = 0
        self.running = 0
        self.timer: asyncio.Handle | None = None
        self.splits = True
        self.first_at = 0.0
        self.seen = 0
        self.quiet = 0
        self.alone = 0

    def is_lonely(self) -> bool:
        """Whether a request that comes now has no company to expect, as the last ones had none; tried now and then."""
        return not self.tasks and self.alone % COMPANY_EVERY != 0

    def note(self, size: int) -> None:
        """Remembers how many requests ran together."""
        self.alone = self.alone + 1 if size == 1 else 0

    def take(self) -> list[Task]:
        """The next batch: as many whole requests as fit."""
        taken: list[Task] = []
        rows = 0
        while self.tasks and (not taken or rows + self.tasks[0].rows <= self.options.max_batch_size):
            task = self.tasks.popleft()
            self.rows -= task.rows
            if not task.future.done():
                taken.append(task)
                rows += task.rows
        return taken

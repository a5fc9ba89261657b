"""The requests that wait to be merged into one run: when a batch starts, which requests it takes, and its arrays.

Parameters and their meaning are TF Serving's:
https://github.com/tensorflow/serving/tree/master/tensorflow_serving/batching
"""

from __future__ import annotations

import asyncio
import os
from collections import deque
from collections.abc import Callable, Coroutine, Mapping, Sequence
from typing import Any, NamedTuple, Protocol

import numpy as np

from serving.apis.messages import BatchingParameters
from serving.apis.tensors import Array
from serving.errors import ServerConfigError, Unavailable


class BatchingOptions(NamedTuple):
    """When requests are merged, and into what. Sizes are in rows. Defaults are those of TF Serving's schedulers."""

    max_batch_size: int = 1000
    batch_timeout_seconds: float = 0.0
    max_enqueued_batches: int = 10
    num_batch_threads: int = os.cpu_count() or 1
    allowed_batch_sizes: tuple[int, ...] = ()
    pad_variable_length_inputs: bool = False
    enable_large_batch_splitting: bool = False


def batching_options(parameters: BatchingParameters) -> BatchingOptions:
    """The options that a BatchingParameters stands for. Raises ServerConfigError for ones that cannot be."""
    counts: dict[str, Any] = {
        name: getattr(parameters, name).value
        for name in ("max_batch_size", "max_enqueued_batches", "num_batch_threads")
        if parameters.HasField(name)
    }
    for name, count in counts.items():
        if count < 1:
            raise ServerConfigError(f"{name} must be positive; was {count}")
    options = BatchingOptions(
        **counts,
        enable_large_batch_splitting=parameters.enable_large_batch_splitting.value,
        batch_timeout_seconds=max(0, parameters.batch_timeout_micros.value) / 1e6,
        allowed_batch_sizes=tuple(parameters.allowed_batch_sizes),
        pad_variable_length_inputs=parameters.pad_variable_length_inputs,
    )
    sizes = options.allowed_batch_sizes
    if list(sizes) != sorted(set(sizes)):
        raise ServerConfigError(f"allowed_batch_sizes entries must be monotonically increasing: got {list(sizes)}")
    if sizes and sizes[-1] != options.max_batch_size:
        raise ServerConfigError(
            "Last entry in allowed_batch_sizes must match max_batch_size; "
            f"last entry was {sizes[-1]}; expected {options.max_batch_size}"
        )
    return options


class Phases(Protocol):
    """A request that is traced."""

    def parsed(self) -> None:
        """The request is read: what follows is its wait for its run."""


class Task(NamedTuple):
    """One request that waits. feeds: of `rows` rows each, by tensor name. future: where its answer goes.

    spans: its own, where it is traced.
    """

    feeds: Mapping[str, Array]
    rows: int
    future: asyncio.Future[list[Array]]
    spans: tuple[Phases, ...] = ()


Batch = list[Task]


class Queue:
    """Requests that may be merged with each other. Lives on the event loop.

    run: runs a batch; gives None when the batch is done, else what remains of it, to be awaited. idle: called when
    nothing waits and nothing runs any more.
    """

    def __init__(
        self,
        options: BatchingOptions,
        run: Callable[[Batch], Coroutine[Any, Any, None] | None],
        idle: Callable[[], object],
    ) -> None:
        self._options = options
        self._run = run
        self._idle = idle
        self._loop = asyncio.get_running_loop()
        self._tasks: deque[Task] = deque()
        self._rows = 0
        self._timer: asyncio.Handle | None = None
        self._running: set[asyncio.Task[None]] = set()

    def put(self, task: Task) -> None:
        """Lets a request wait for its batch. Raises Unavailable when max_enqueued_batches wait already."""
        waiting = self._rows // self._options.max_batch_size
        if waiting >= self._options.max_enqueued_batches:
            raise Unavailable(
                "The batch scheduling queue to which this task was submitted is full; currently "
                f"{waiting} batches enqueued and max_enqueued_batches is {self._options.max_enqueued_batches}"
            )
        self._tasks.append(task)
        self._rows += task.rows
        self._schedule()

    def _schedule(self) -> None:
        if len(self._running) >= self._options.num_batch_threads:
            return
        wait = self._options.batch_timeout_seconds
        if wait and self._rows < self._options.max_batch_size:
            if self._timer is None:
                self._timer = self._loop.call_later(wait, self._dispatch)
        elif self._timer is None:
            self._timer = self._loop.call_soon(self._gather, len(self._tasks))
        elif wait:
            self._timer.cancel()
            self._timer = self._loop.call_soon(self._dispatch)

    def _gather(self, count: int) -> None:
        """Starts batches once a turn of the event loop has brought no further request than the `count` before."""
        if len(self._tasks) == count or self._rows >= self._options.max_batch_size:
            self._dispatch()
        else:
            self._timer = self._loop.call_soon(self._gather, len(self._tasks))

    def _dispatch(self) -> None:
        """Starts as many batches as there are requests and free threads."""
        self._timer = None
        while self._tasks and len(self._running) < self._options.num_batch_threads:
            batch = self._take()
            rest = self._run(batch) if batch else None
            if rest is not None:
                running = self._loop.create_task(rest)
                self._running.add(running)
                running.add_done_callback(self._ended)
        self._check_idle()

    def _ended(self, running: asyncio.Task[None]) -> None:
        self._running.discard(running)
        if self._tasks:
            self._schedule()
        self._check_idle()

    def _check_idle(self) -> None:
        if not self._tasks and not self._running:
            self._idle()

    def _take(self) -> Batch:
        """The next batch: as many whole requests as fit, without those that were given up while they waited."""
        batch: Batch = []
        rows = 0
        while self._tasks and (not batch or rows + self._tasks[0].rows <= self._options.max_batch_size):
            task = self._tasks.popleft()
            self._rows -= task.rows
            if not task.future.done():
                batch.append(task)
                rows += task.rows
        return batch


def common_rows(feeds: Mapping[str, Array]) -> int | None:
    """The common first dimension of the feeds, or None when there is none: such a request runs by itself."""
    rows = None
    for feed in feeds.values():
        if feed.ndim == 0 or rows not in (None, len(feed)):
            return None
        rows = len(feed)
    return rows or None


def merged(batch: Batch, options: BatchingOptions) -> Mapping[str, Array]:
    """The feeds of one run for a whole batch: its rows under each other, filled up to an allowed batch size."""
    total = sum(task.rows for task in batch)
    padding = next((size for size in options.allowed_batch_sizes if size >= total), total) - total
    if len(batch) == 1 and not padding:
        return batch[0].feeds
    return {name: _joined([task.feeds[name] for task in batch], padding) for name in batch[0].feeds}


def _joined(parts: Sequence[Array], padding: int) -> Array:
    """The parts under each other; shorter ones filled with zeros at their ends, and `padding` copies of a row below."""
    widest = np.max([part.shape[1:] for part in parts], axis=0)
    padded = [_padded(part, tuple(int(size) for size in widest)) for part in parts]
    if padding:
        padded.append(np.repeat(padded[-1][:1], padding, axis=0))
    return np.concatenate(padded)


def _padded(part: Array, shape: tuple[int, ...]) -> Array:
    if part.shape[1:] == shape:
        return part
    fill = b"" if part.dtype.kind == "O" else 0
    padded = np.full((len(part), *shape), fill, part.dtype)
    padded[tuple(slice(size) for size in part.shape)] = part
    return padded

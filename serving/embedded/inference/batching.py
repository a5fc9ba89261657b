"""Merging of requests that wait into one run (`--enable_batching`).

Parameters and meaning are TF Serving's, https://github.com/tensorflow/serving/tree/master/tensorflow_serving/batching:
rows of several requests, joined along the first dimension, run together. Two things are kinder: requests that cannot be
joined (other shapes, scalars) run by themselves, and when a joint run fails each request is run alone, so that one bad
row fails its own request only.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Sequence
from typing import Any, Protocol

import numpy as np
import numpy.typing as npt

from serving.embedded.inference.batch_queue import Queue, Task
from serving.embedded.inference.batching_options import BatchingOptions, OptionsOf
from serving.embedded.inference.rows import common_rows, joined
from serving.embedded.inference.runner import Run, Runner
from serving.errors import DeadlineExceeded, InvalidArgument, ServingError, Unavailable

Array = npt.NDArray[Any]


# Requests gather until the event loop has gone round this often without a further one: accepting one takes it a few.
QUIET_ROUNDS = 4
# With a batch timeout of 0, requests gather while more keep coming, but never longer than this.
GATHER_SECONDS = 0.002
# Shapes and outputs that a version's clients ask for; beyond this many, those that are idle are forgotten.
MAX_QUEUES = 64


class Runs(Protocol):
    """What answers requests need: a Runner, or one that merges."""

    async def run(self, run: Run) -> list[Array]:
        """The fetched values. Raises ServingError."""


class BatchingRunner:
    """Runs requests as a Runner does, merged with those that wait beside them. Lives on the event loop."""

    def __init__(
        self, runner: Runner, options_of: OptionsOf, observe: Callable[[str, int], None] | None = None
    ) -> None:
        self._runner = runner
        self._options_of = options_of
        self._observe = observe
        self._slow: set[asyncio.Task[None]] = set()

    async def run(self, run: Run) -> list[Array]:
        """The values of `run.fetches`.

        Raises ServingError: Unavailable when too many batches wait, InvalidArgument for a request that is larger than
        a batch, DeadlineExceeded when the deadline passes first.
        """
        options = self._options_of(run.version)
        rows = common_rows(run.feeds)
        if options is None or rows is None:
            return await self._runner.run(run)
        if rows > options.max_batch_size:
            return await self._run_large(run, rows, options)
        queue = self._queue(run, options)
        if not queue.splits:
            return await self._runner.run(run)
        if queue.rows // options.max_batch_size >= options.max_enqueued_batches:
            raise Unavailable(
                "The batch scheduling queue to which this task was submitted is full; currently "
                f"{queue.rows // options.max_batch_size} batches enqueued and max_enqueued_batches is "
                f"{options.max_enqueued_batches}"
            )
        if queue.is_lonely() and not options.allowed_batch_sizes and not options.batch_timeout_seconds:
            result = self._runner.run_now(run)
            if result is not None:
                queue.note(1)
                return result
        return await self._wait(queue, run, rows)

    async def _wait(self, queue: Queue, run: Run, rows: int) -> list[Array]:
        loop = asyncio.get_running_loop()
        task = Task(run, rows, loop.create_future())
        if not queue.tasks:
            queue.first_at, queue.seen, queue.quiet = time.perf_counter(), 0, 0
        queue.tasks.append(task)
        queue.rows += rows
        self._schedule(queue, loop)
        if run.deadline is None:
            return await task.future
        timer = loop.call_later(run.deadline - time.monotonic(), _expire, task.future)
        try:
            return await task.future
        finally:
            timer.cancel()

    async def _run_large(self, run: Run, rows: int, options: BatchingOptions) -> list[Array]:
        size = options.max_batch_size
        if not options.enable_large_batch_splitting:
            raise InvalidArgument(f"Task size {rows} is larger than maximum input batch size {size}")
        parts = [
            self.run(run._replace(feeds={name: feed[start : start + size] for name, feed in run.feeds.items()}))
            for start in range(0, rows, size)
        ]
        return [np.concatenate(values) for values in zip(*await asyncio.gather(*parts), strict=True)]

    def _queue(self, run: Run, options: BatchingOptions) -> Queue:
        pads = options.pad_variable_length_inputs
        shapes = tuple(
            (name, feed.dtype.str, feed.ndim if pads else feed.shape[1:]) for name, feed in run.feeds.items()
        )
        key = (shapes, run.fetches)
        queues: dict[object, Queue] = run.version.cache.setdefault(Queue, {})
        queue = queues.get(key)
        if queue is None:
            if len(queues) >= MAX_QUEUES:
                for idle in [key for key, queue in queues.items() if not queue.tasks and not queue.running]:
                    del queues[idle]
            queue = queues[key] = Queue(options)
        return queue

    def _schedule(self, queue: Queue, loop: asyncio.AbstractEventLoop) -> None:
        if queue.rows >= queue.options.max_batch_size and queue.timer is not None:
            queue.timer.cancel()
            queue.timer = loop.call_soon(self._dispatch, queue)
        elif queue.timer is None:
            wait = queue.options.batch_timeout_seconds
            queue.timer = loop.call_later(wait, self._dispatch, queue) if wait else loop.call_soon(self._gather, queue)

    def _gather(self, queue: Queue) -> None:
        """Dispatches once no further request arrives: those that came meanwhile run together."""
        count = len(queue.tasks)
        queue.quiet = queue.quiet + 1 if count == queue.seen else 0
        queue.seen = count
        waited = time.perf_counter() - queue.first_at
        if queue.quiet > QUIET_ROUNDS or waited > GATHER_SECONDS or queue.rows >= queue.options.max_batch_size:
            self._dispatch(queue)
        else:
            queue.timer = asyncio.get_running_loop().call_soon(self._gather, queue)

    def _dispatch(self, queue: Queue) -> None:
        """Starts as many batches as there are waiting requests and free threads."""
        queue.timer = None
        while queue.tasks and queue.running < queue.options.num_batch_threads:
            tasks = queue.take()
            if not tasks:
                continue
            try:
                merged = _merged(tasks, queue.options)
                result = self._runner.run_now(merged)
            except ServingError as error:
                self._start(self._run_each(tasks, error))
                continue
            if result is None:
                queue.running += 1
                self._start(self._run_batch(queue, tasks, merged))
            else:
                self._answer(queue, tasks, merged, result)

    def _start(self, coroutine: Any) -> None:  # a coroutine of this class
        task = asyncio.get_running_loop().create_task(coroutine)
        self._slow.add(task)
        task.add_done_callback(self._slow.discard)

    async def _run_batch(self, queue: Queue, tasks: Sequence[Task], merged: Run) -> None:
        try:
            self._answer(queue, tasks, merged, await self._runner.run(merged))
        except ServingError as error:
            await self._run_each(tasks, error)
        finally:
            queue.running -= 1
            if queue.tasks:
                self._schedule(queue, asyncio.get_running_loop())

    def _answer(self, queue: Queue, tasks: Sequence[Task], merged: Run, result: list[Array]) -> None:
        size = len(next(iter(merged.feeds.values())))
        if any(value.ndim == 0 or len(value) != size for value in result):
            # Outputs that do not go by rows cannot be handed out: such a signature is not merged again.
            queue.splits = False
            self._start(self._run_each(tasks, None))
            return
        queue.note(len(tasks))
        if self._observe is not None:
            self._observe(merged.version.name, size)
        start = 0
        for task in tasks:
            end = start + task.rows
            if not task.future.done():
                task.future.set_result([value[start:end] for value in result])
            start = end

    async def _run_each(self, tasks: Sequence[Task], error: ServingError | None) -> None:
        if error is not None and len(tasks) == 1:
            _fail(tasks[0].future, error)
            return
        for task in tasks:
            await self._run_alone(task)

    async def _run_alone(self, task: Task) -> None:
        try:
            result = await self._runner.run(task.run)
        except ServingError as error:
            _fail(task.future, error)
        else:
            if not task.future.done():
                task.future.set_result(result)


def _expire(future: asyncio.Future[list[Array]]) -> None:
    _fail(future, DeadlineExceeded("The deadline passed while the request waited for its batch."))


def _fail(future: asyncio.Future[list[Array]], error: ServingError) -> None:
    if not future.done():
        future.set_exception(error)


def _merged(tasks: Sequence[Task], options: BatchingOptions) -> Run:
    first = tasks[0].run
    total = sum(task.rows for task in tasks)
    padding = next((size for size in options.allowed_batch_sizes if size >= total), total) - total
    if len(tasks) == 1 and not padding:
        return first._replace(deadline=None)
    feeds = {name: joined([task.run.feeds[name] for task in tasks], padding) for name in first.feeds}
    return first._replace(feeds=feeds, deadline=None)

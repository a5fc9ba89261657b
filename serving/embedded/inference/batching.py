"""Merging of requests that wait into one run (`--enable_batching`).

Rows of several requests, joined along the first dimension, run together. Two things are kinder than in TF Serving:
requests that cannot be joined (other shapes, scalars) run by themselves, and when a joint run fails, or its outputs do
not go by rows, each request is run alone, so that one bad row fails its own request only.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Coroutine, Hashable
from functools import partial
from typing import Any

import numpy as np

from serving.apis.tensors import Array
from serving.embedded.inference.batch_queue import Batch, BatchingOptions, Queue, Task, common_rows, merged
from serving.embedded.inference.model import LoadedModel
from serving.embedded.inference.runner import Run, Runner
from serving.embedded.models.versions import Version
from serving.errors import DeadlineExceeded, InvalidArgument

# While requests come one at a time, each runs at once instead of waiting to be merged; every so many of them waits, to
# find out whether others come with it.
_WAIT_EVERY = 8


class BatchingRunner:
    """Runs requests as a Runner does, merged with those that wait beside them. Lives on the event loop.

    observe: is told the model's name and the rows of each batch.
    """

    def __init__(self, runner: Runner, observe: Callable[[str, int], None] | None = None) -> None:
        self._runner = runner
        self._observe = observe

    async def run(self, run: Run) -> list[Array]:
        """The values of `run.fetches`.

        Raises ServingError: Unavailable when too many batches wait, InvalidArgument for a request that is larger than
        a batch, DeadlineExceeded when the deadline passes first.
        """
        model = run.version.servable
        options = model.batching
        rows = common_rows(run.feeds)
        if options is None or rows is None:
            return await self._runner.run(run)
        if rows > options.max_batch_size:
            return await self._run_parts(run, rows, options)
        key = _key(run, options)
        queue = model.queues.get(key)
        if queue is None:
            if _may_run_at_once(model, options) and (values := self._runner.run_now(run)) is not None:
                self._count(model, 1, rows)
                return values
            # Whatever the queue is made of stays as long as it does: not the first request's arrays.
            start = partial(self._start, run._replace(feeds={}, spans=()))
            queue = model.queues[key] = Queue(options, start, partial(model.queues.pop, key))
        task = Task(run.feeds, rows, asyncio.get_running_loop().create_future(), run.spans)
        queue.put(task)
        return await _answer(task, run.deadline)

    async def _run_parts(self, run: Run, rows: int, options: BatchingOptions) -> list[Array]:
        size = options.max_batch_size
        if not options.enable_large_batch_splitting:
            raise InvalidArgument(f"Task size {rows} is larger than maximum input batch size {size}")
        parts = [
            asyncio.ensure_future(
                self.run(run._replace(feeds={name: feed[start : start + size] for name, feed in run.feeds.items()}))
            )
            for start in range(0, rows, size)
        ]
        try:
            return [np.concatenate(values) for values in zip(*await asyncio.gather(*parts), strict=True)]
        finally:
            # When one has failed, nobody holds the version for the others.
            for part in parts:
                part.cancel()

    def _start(self, run: Run, batch: Batch) -> Coroutine[Any, Any, None] | None:
        """Runs a batch at once where that is sure to be quick; else gives what is to be awaited.

        run: any of the queue's, for the version and the outputs, which all have in common.
        """
        rest = self._begin(run, batch)
        return None if rest is None else _holding(run.version, rest)

    def _begin(self, run: Run, batch: Batch) -> Coroutine[Any, Any, None] | None:
        model = run.version.servable
        assert model.batching is not None
        try:
            rows = sum(task.rows for task in batch)
            joint = run._replace(
                feeds=merged(batch, model.batching), deadline=None, rows=rows, requests=len(batch),
                spans=tuple([span for task in batch for span in task.spans]),
            )  # fmt: skip
            self._count(model, len(batch), _rows(joint))
            values = self._runner.run_now(joint)
        except Exception as error:  # noqa: BLE001 - it becomes the answer of the request that is to blame
            return self._run_each(run, batch, error)
        return self._run_batch(joint, batch) if values is None else self._hand_out(joint, batch, values)

    async def _run_batch(self, joint: Run, batch: Batch) -> None:
        try:
            rest = self._hand_out(joint, batch, await self._runner.run(joint))
        except Exception as error:  # noqa: BLE001 - it becomes the answer of the request that is to blame
            rest = self._run_each(joint, batch, error)
        if rest is not None:
            await rest

    def _hand_out(self, joint: Run, batch: Batch, values: list[Array]) -> Coroutine[Any, Any, None] | None:
        """Gives each request its rows; where the outputs do not go by rows, its own run is to be awaited."""
        size = _rows(joint)
        if size == batch[0].rows:
            _succeed(batch[0].future, values)
            return None
        if any(value.ndim == 0 or len(value) != size for value in values):
            return self._run_each(joint, batch)
        start = 0
        for task in batch:
            _succeed(task.future, [value[start : start + task.rows] for value in values])
            start += task.rows
        return None

    def _count(self, model: LoadedModel, requests: int, rows: int) -> None:
        model.runs_alone = model.runs_alone + 1 if requests == 1 else 0
        if self._observe is not None:
            self._observe(model.name, rows)

    async def _run_each(self, run: Run, batch: Batch, error: Exception | None = None) -> None:
        if error is not None and len(batch) == 1:
            _fail(batch[0].future, error)
            return
        for task in batch:
            if task.future.done():
                continue
            try:
                values = await self._runner.run(
                    run._replace(feeds=task.feeds, deadline=None, requests=1, spans=task.spans)
                )
            except Exception as failure:  # noqa: BLE001 - it becomes the request's answer
                _fail(task.future, failure)
            else:
                _succeed(task.future, values)


def _key(run: Run, options: BatchingOptions) -> Hashable:
    """What requests must have in common to be merged: the outputs, and the inputs' names, dtypes and row shapes."""
    pads = options.pad_variable_length_inputs
    return run.fetches, tuple(
        (name, feed.dtype.str, feed.ndim if pads else feed.shape[1:]) for name, feed in run.feeds.items()
    )


async def _answer(task: Task, deadline: float | None) -> list[Array]:
    if deadline is None:
        return await task.future
    timer = asyncio.get_running_loop().call_later(deadline - time.monotonic(), _expire, task.future)
    try:
        return await task.future
    finally:
        timer.cancel()


def _holding(version: Version[LoadedModel], rest: Coroutine[Any, Any, None]) -> Coroutine[Any, Any, None]:
    """`rest`, with the version in use from now on: every request of the batch may be given up before it begins."""
    version.use()

    async def held() -> None:
        try:
            await rest
        finally:
            version.release()

    return held()


def _rows(run: Run) -> int:
    return len(next(iter(run.feeds.values())))


def _may_run_at_once(model: LoadedModel, options: BatchingOptions) -> bool:
    """Whether a request need not wait to be merged: the last ones were not, and no option asks for it."""
    return model.runs_alone % _WAIT_EVERY > 0 and not (options.allowed_batch_sizes or options.batch_timeout_seconds)


def _succeed(future: asyncio.Future[list[Array]], values: list[Array]) -> None:
    if not future.done():
        future.set_result(values)


def _expire(future: asyncio.Future[list[Array]]) -> None:
    _fail(future, DeadlineExceeded("The deadline passed while the request waited for its batch."))


def _fail(future: asyncio.Future[list[Array]], error: Exception) -> None:
    if not future.done():
        future.set_exception(error)

"""Many images to predictions: decoding in parallel, several batches in flight, answers in the order of the input.

The window of work is bounded, so memory does not grow with the number of images.
"""

from __future__ import annotations

import os
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from itertools import chain
from typing import NamedTuple, TypeVar

from client.connection import Connection
from client.errors import ImageError
from client.pictures.batch import Batch
from client.pictures.sources import Block
from client.types import Prediction

_A = TypeVar("_A")
_B = TypeVar("_B")


class Answer(NamedTuple):
    """One image's outcome: its name and pixels with the prediction, or what was wrong with it."""

    name: str
    pixels: bytes = b""
    prediction: Prediction | None = None
    error: ImageError | None = None


@dataclass
class _Loaded:
    names: list[str]
    batch: Batch | None
    error: ImageError | None


def answers(
    connection: Connection,
    blocks: Iterable[Block],
    *,
    signature_name: str | None = None,
    batch_size: int = 256,
    concurrency: int = 4,
) -> Iterator[Answer]:
    """The outcome of every image, in order. Raises ServerError; a bad image is an Answer with its error."""
    decoders = os.cpu_count() or 1
    with ThreadPoolExecutor(decoders) as decoding, ThreadPoolExecutor(concurrency) as sending:
        # The windows count images and batches: a block may be one picture or thousands of rows.
        loaded = in_order(decoding, _load, blocks, window=2 * batch_size, size=lambda block: len(block.names))
        groups = _grouped(loaded, batch_size)

        def ask(group: list[_Loaded]) -> Iterator[Answer]:
            return _ask(connection, group, signature_name)

        for result in in_order(sending, ask, groups, window=2 * concurrency):
            yield from result


def in_order(
    pool: ThreadPoolExecutor,
    work: Callable[[_A], _B],
    items: Iterable[_A],
    *,
    window: int,
    size: Callable[[_A], int] = lambda _: 1,
) -> Iterator[_B]:
    """`map` on a pool; items are begun until those not yet taken fill `window`.

    size: how much of the window an item takes.
    """
    running: deque[tuple[Future[_B], int]] = deque()
    begun = 0
    try:
        for item in items:
            running.append((pool.submit(work, item), size(item)))
            begun += running[-1][1]
            while running and begun >= window:
                future, taken = running.popleft()
                begun -= taken
                yield future.result()
        while running:
            yield running.popleft()[0].result()
    finally:
        for future, _ in running:
            future.cancel()


def _load(block: Block) -> _Loaded:
    try:
        return _Loaded(list(block.names), block.load(), None)
    except ImageError as error:
        return _Loaded(list(block.names), None, error)


def _grouped(loaded: Iterable[_Loaded], batch_size: int) -> Iterator[list[_Loaded]]:
    """Neighbours of one dtype, `batch_size` images together and then given on at once; a larger block stays whole."""
    group: list[_Loaded] = []
    count, dtype = 0, ""
    for one in loaded:
        if one.batch:
            if count and (one.batch.dtype != dtype or count + one.batch.count > batch_size):
                yield group
                group, count = [], 0
            count, dtype = count + one.batch.count, one.batch.dtype
        group.append(one)
        # Where nearly all pictures are bad, a batch would never be full.
        if count >= batch_size or len(group) >= 4 * batch_size:
            yield group
            group, count = [], 0
    if group:
        yield group


def _ask(connection: Connection, group: list[_Loaded], signature_name: str | None) -> Iterator[Answer]:
    """Asks at once; the answers are made one by one when they are taken."""
    batches = [one.batch for one in group if one.batch]
    predictions: Iterator[Prediction] = iter(())
    if batches:
        whole = batches[0] if len(batches) == 1 else Batch(batches[0].dtype, b"".join(one.content for one in batches))
        predictions = connection.predict_lazily(whole, signature_name=signature_name)
    return chain.from_iterable(_answered(one, predictions) for one in group)


def _answered(one: _Loaded, predictions: Iterator[Prediction]) -> Iterable[Answer]:
    if one.batch is None:
        return [Answer(one.names[0], error=one.error)]
    # The names come first: at their end, nothing is taken of the predictions for the next one's images.
    return map(Answer, one.names, one.batch.images(), predictions)

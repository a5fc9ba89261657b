"""Many images to predictions: decoding in parallel, several batches in flight, answers in the order of the input.

The window of work is bounded, so memory does not grow with the number of images.
"""

from __future__ import annotations

import functools
import os
from collections import deque
from collections.abc import Callable, Generator, Iterable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import closing
from itertools import chain
from typing import NamedTuple, TypeAlias, TypeVar

from client.connection import Connection
from client.errors import ImageError
from client.limits import BATCH_SIZE, CONCURRENCY
from client.pictures.batch import Batch
from client.pictures.sources import Block
from client.types import Prediction

_A = TypeVar("_A")
_B = TypeVar("_B")


class Answer(NamedTuple):
    """One image: its name and its pixels, uint8 [28, 28], with the prediction; or with the error of a bad picture."""

    name: str
    pixels: bytes = b""
    prediction: Prediction | None = None
    error: ImageError | None = None


# A block that was read: the names of its images, and their batch or the error.
Images: TypeAlias = "tuple[Sequence[str], Batch | ImageError]"


def answers(
    connection: Connection,
    blocks: Iterable[Block],
    *,
    signature_name: str | None = None,
    batch_size: int = BATCH_SIZE,
    concurrency: int = CONCURRENCY,
) -> Generator[Answer, None, None]:
    """An Answer for every image, in order. Raises ServerError; a bad picture is an Answer with its error.

    Close it when it is not taken to its end: its threads would end whenever the garbage is collected, in any thread.
    """
    with closing(groups(blocks, batch_size)) as decoded, ThreadPoolExecutor(concurrency) as sending:
        send = functools.partial(_send, connection, signature_name)
        for group in in_order(sending, send, decoded, window=2 * concurrency):
            yield from group


def groups(blocks: Iterable[Block], batch_size: int = BATCH_SIZE) -> Generator[list[Images], None, None]:
    """The blocks, read by as many threads as there are CPUs, in groups of one dtype and `batch_size` images.

    A larger block stays whole. Close it, as `answers`.
    """
    with ThreadPoolExecutor(os.cpu_count() or 1) as decoding:
        # The window counts images: a block may be one picture or thousands of rows.
        images = in_order(decoding, _load, blocks, window=2 * batch_size, size=lambda block: len(block.names))
        yield from _groups(images, batch_size)


def in_order(
    pool: ThreadPoolExecutor,
    work: Callable[[_A], _B],
    items: Iterable[_A],
    *,
    window: int,
    size: Callable[[_A], int] = lambda _: 1,
) -> Iterator[_B]:
    """`map` on a pool; starts items until those whose results were not taken fill `window`.

    size: how much of the window an item fills.
    """
    queue: deque[tuple[Future[_B], int]] = deque()
    total = 0
    try:
        for item in items:
            queue.append((pool.submit(work, item), size(item)))
            total += queue[-1][1]
            while queue and total >= window:
                future, item_size = queue.popleft()
                total -= item_size
                yield future.result()
        while queue:
            yield queue.popleft()[0].result()
    finally:
        for future, _ in queue:
            future.cancel()


def _load(block: Block) -> Images:
    try:
        return block.names, block.load()
    except ImageError as error:
        return block.names, error


def _groups(blocks: Iterable[Images], batch_size: int) -> Iterator[list[Images]]:
    """Neighbours of one dtype, `batch_size` images together."""
    group: list[Images] = []
    count, dtype = 0, ""
    for names, batch in blocks:
        if isinstance(batch, Batch):
            if count and (batch.dtype != dtype or count + batch.count > batch_size):
                yield group
                group, count = [], 0
            count, dtype = count + batch.count, batch.dtype
        group.append((names, batch))
        # Bad pictures fill no batch: without the second bound, a directory of them would be read to its end first.
        if count >= batch_size or len(group) >= 4 * batch_size:
            yield group
            group, count = [], 0
    if group:
        yield group


def _send(connection: Connection, signature_name: str | None, group: list[Images]) -> Iterator[Answer]:
    """Sends the group's images as one batch; each Answer is made when it is taken."""
    batches = [batch for _, batch in group if isinstance(batch, Batch)]
    predictions: Iterator[Prediction] = iter(())
    if batches:
        content = batches[0].content if len(batches) == 1 else b"".join(batch.content for batch in batches)
        batch = Batch(batches[0].dtype, content)
        predictions = connection.predict_lazily(batch, signature_name=signature_name)
    # The names come first: at their end, map takes no prediction that belongs to the next block.
    return chain.from_iterable(
        map(Answer, names, batch.images(), predictions) if isinstance(batch, Batch) else [Answer(names[0], error=batch)]
        for names, batch in group
    )

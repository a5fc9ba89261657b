"""Load on the version that is `stable`, while it changes: no request may fail, and no answer be wrong."""

from __future__ import annotations

import threading
from collections.abc import Collection, Iterator, Sequence
from contextlib import contextmanager

import numpy as np

from client import connect
from client.errors import ServerError
from client.types import ModelSpec
from tests.support.live import wait_until


class Load:
    """Requests, one after the other: how many were answered, which failed, and which were wrong."""

    def __init__(self) -> None:
        self.answered = 0
        self.failed: list[ServerError] = []
        self.wrong: list[tuple[int, int]] = []


@contextmanager
def load(server: str, images: np.ndarray, right: Sequence[Collection[int]]) -> Iterator[Load]:
    """For the length of a block, and some before it. right: the classes of each image."""
    seen, stopped = Load(), threading.Event()

    def ask() -> None:
        with connect(server, model=ModelSpec(version_label="stable"), retry=False) as connection:
            while not stopped.wait(0.005):
                number = seen.answered % len(images)
                try:
                    [answer] = connection.predict(images[number : number + 1])
                except ServerError as error:
                    seen.failed.append(error)
                    continue
                if answer.class_id not in right[number]:
                    seen.wrong.append((number, answer.class_id))
                seen.answered += 1

    thread = threading.Thread(target=ask)
    thread.start()
    try:
        wait_until(lambda: seen.answered >= 200)
        yield seen
    finally:
        stopped.set()
        thread.join()

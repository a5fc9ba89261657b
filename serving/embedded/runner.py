"""Runs servables off the event loop, in worker threads, under the client's deadline."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any, Protocol

import numpy.typing as npt

from serving.apis.messages import SignatureDef
from serving.embedded.manager import Version
from serving.errors import DeadlineExceeded

Array = npt.NDArray[Any]


class Servable(Protocol):
    """A loaded model, as the loader gives it."""

    @property
    def signatures(self) -> Mapping[str, SignatureDef]:
        """The signatures by name."""

    def run(self, feeds: Mapping[str, Array], fetches: Sequence[str]) -> list[Array]:
        """The values of the tensors `fetches`, given those of `feeds`. Raises ServingError."""

    def close(self) -> None:
        """Frees the model."""


class Runner:
    """Calls `Servable.run` in one of `threads` threads."""

    def __init__(self, threads: int) -> None:
        self._threads = ThreadPoolExecutor(threads, "run")

    async def run(
        self,
        version: Version[Servable],
        feeds: Mapping[str, Array],
        fetches: Sequence[str],
        deadline: float | None,
    ) -> list[Array]:
        """What `Servable.run` gives. deadline: in seconds of `time.monotonic`.

        Raises ServingError; DeadlineExceeded when the deadline passes first: the run goes on, its result is dropped.
        """
        version.use()
        running = asyncio.get_running_loop().run_in_executor(self._threads, _run, version, feeds, fetches)
        if deadline is None:
            return await running
        try:
            return await asyncio.wait_for(running, deadline - time.monotonic())
        except asyncio.TimeoutError as error:
            raise DeadlineExceeded("The deadline passed before the model had answered.") from error

    def stop(self) -> None:
        """Waits for the runs under way."""
        self._threads.shutdown()


def _run(version: Version[Servable], feeds: Mapping[str, Array], fetches: Sequence[str]) -> list[Array]:
    # The run holds the version itself: its request may be given up before it ends.
    try:
        return version.servable.run(feeds, fetches)
    finally:
        version.release()

"""Threads for work that may hang: on a file system that does not answer, on a pipe that nobody writes to.

Python cannot end a thread. One that hangs is left behind: a daemon, which does not hold up the end of the process.
"""

from __future__ import annotations

import logging
import threading
from collections import deque
from collections.abc import Callable
from concurrent.futures import Future
from queue import SimpleQueue
from typing import Any, TypeVar

log = logging.getLogger(__name__)

T = TypeVar("T")


class Overdue(Exception):  # noqa: N818 - it is not always an error
    """Work that goes on beyond its limit; `work` is done when it comes back after all."""

    def __init__(self, work: Future[Any]) -> None:
        super().__init__()
        self.work = work


class Caller:
    """Calls functions in a thread of its own, one at a time, and waits for each a limited time."""

    def __init__(self, name: str) -> None:
        self._name = name
        self._lock = threading.Lock()
        self._calls: SimpleQueue[tuple[Callable[[], Any], Future[Any]] | None] | None = None

    def call(self, work: Callable[[], T], seconds: float) -> T:
        """What `work` gives, or raises. Raises Overdue when that takes longer than `seconds`; it goes on then."""
        with self._lock:
            calls = self._calls
            if calls is None:
                calls = SimpleQueue()
                threading.Thread(target=_answer, args=(calls,), name=self._name, daemon=True).start()
                self._calls = calls
            future: Future[T] = Future()
            calls.put((work, future))
            done = threading.Event()
            future.add_done_callback(lambda _: done.set())
            if not done.wait(seconds):
                # The thread ends when the work does; the next call gets another.
                calls.put(None)
                self._calls = None
                raise Overdue(future)
        return future.result()


def _answer(calls: SimpleQueue[tuple[Callable[[], Any], Future[Any]] | None]) -> None:
    while (call := calls.get()) is not None:
        work, future = call
        try:
            future.set_result(work())
        except BaseException as error:  # noqa: BLE001 - it is raised where the work was asked for
            future.set_exception(error)


class Places:
    """Runs work in threads, `count` at a time, each for `seconds` at most (0 = no limit).

    What takes longer goes on, but loses its place to what waits.
    """

    def __init__(self, count: int, seconds: float, name: str) -> None:
        self._free = count
        self._seconds = seconds
        self._name = name
        self._lock = threading.Lock()
        self._waiting: deque[_Work] = deque()

    def submit(self, work: Callable[[], None], overdue: Callable[[], None]) -> None:
        """Runs `work` as soon as there is a place; calls `overdue` when its time is over before it has ended."""
        with self._lock:
            self._waiting.append(_Work(self, work, overdue))
        self._fill()

    def clear(self) -> None:
        """Forgets what waits for a place."""
        with self._lock:
            self._waiting.clear()

    def leave(self) -> None:
        """Gives a place back."""
        with self._lock:
            self._free += 1
        self._fill()

    def _fill(self) -> None:
        with self._lock:
            works = [self._waiting.popleft() for _ in range(min(self._free, len(self._waiting)))]
            self._free -= len(works)
        for work in works:
            work.start(self._name, self._seconds)


class _Work:
    """Work that has a place from `start` to its end, or to the end of its time."""

    def __init__(self, places: Places, work: Callable[[], None], overdue: Callable[[], None]) -> None:
        self._places = places
        self._work = work
        self._overdue = overdue
        self._has_place = threading.Lock()
        self._timer: threading.Timer | None = None

    def start(self, name: str, seconds: float) -> None:
        """Begins in a thread of that name."""
        if seconds:
            self._timer = threading.Timer(seconds, self._expire)
            self._timer.daemon = True
            self._timer.start()
        try:
            threading.Thread(target=self._run, name=name, daemon=True).start()
        except RuntimeError:
            log.exception("no thread more can be started")
            self._expire()

    def _run(self) -> None:
        try:
            self._work()
        except Exception:
            log.exception("unforeseen error in a thread")
        if self._timer is not None:
            self._timer.cancel()
        if self._has_place.acquire(blocking=False):
            self._places.leave()

    def _expire(self) -> None:
        if self._has_place.acquire(blocking=False):
            self._overdue()
            self._places.leave()

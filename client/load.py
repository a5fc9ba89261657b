"""Load on a server, in a closed or an open loop; `measurement` has what comes of it.

A request is a function that sends one, waits for the answer and returns how many images it held; it raises ServerError.
Send one before: a server that is not there is an error, and no measurement.

    with connect(server, retry=False) as connection:  # an error that is tried again would not be counted
        def request() -> int:
            return len(connection.predict(images))
        request()
        closed = closed_loop(itertools.repeat(request), concurrency=8, duration=5, warm_up=1)
        open = open_loop(zip(constant(500), itertools.repeat(request)), concurrency=32, duration=5)

In a closed loop each sender has one request in flight and sends the next when it has the answer: a slow server is asked
less. In an open loop requests are due at times of their own, and latency counts from there: a server that stalls for a
second makes all wait that are due meanwhile, whether they could be sent or not. To count from when they were sent would
leave just these out (coordinated omission: https://github.com/giltene/wrk2#acknowledgements). To compare two servers
measure them in turn by short loops, and join the `latencies` of each.
"""

from __future__ import annotations

import itertools
import math
import random
import threading
import time
from array import array
from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from typing import TypeAlias

from client.errors import ServerError
from client.measurement import LoadResult, Pace
from fashion_common.errors import FashionError

__all__ = ["LoadResult", "Request", "closed_loop", "constant", "open_loop", "poisson"]

Request: TypeAlias = Callable[[], int]
# When a request is due, in seconds from the beginning of the loop; None: at once.
_Arrival: TypeAlias = "tuple[float | None, Request]"

# A dead server answers at once: a closed loop without a pause would only count how fast it is dead.
_ERROR_PAUSE = 0.01


def constant(rate: float) -> Iterator[float]:
    """When requests are due, `rate` a second: at 1/rate, 2/rate, ..."""
    return (count / rate for count in itertools.count(1))


def poisson(rate: float) -> Iterator[float]:
    """When requests are due that come independently of each other, `rate` a second on average; every time the same."""
    chance = random.Random(0)  # noqa: S311 - not a secret
    return itertools.accumulate(chance.expovariate(rate) for _ in itertools.count())


def closed_loop(
    requests: Iterable[Request], *, concurrency: int, duration: float = math.inf, warm_up: float = 0.0
) -> LoadResult:
    """Sends requests from `concurrency` threads, each when its last one was answered, latency counted from then.

    Ends with the requests, or `duration` seconds after the first `warm_up` seconds, which do not count. Ctrl-C ends it
    early; while nothing was measured, KeyboardInterrupt is raised. Other errors than ServerError are raised.
    """
    return _Loop(((None, request) for request in requests), duration, warm_up).run(concurrency)


def open_loop(
    arrivals: Iterable[tuple[float, Request]], *, concurrency: int, duration: float = math.inf, warm_up: float = 0.0
) -> LoadResult:
    """Sends requests when they are due, or as soon after it as one of `concurrency` threads is free.

    arrivals: when each is due, in seconds above 0 and in order, and the request; what is due in the warm-up does not
    count. Latency is counted from when a request was due. What is due and not sent by the end is counted as `unsent`.
    Ends, and raises, as closed_loop does.
    """
    return _Loop(iter(arrivals), duration, warm_up).run(concurrency)


class _Loop:
    """Its senders take one arrival after the other; all times are seconds from its beginning."""

    def __init__(self, arrivals: Iterator[_Arrival], duration: float, warm_up: float) -> None:
        self._arrivals = arrivals
        self._warm_up = warm_up
        self._end = warm_up + duration
        self._beginning = 0.0
        self._lock = threading.Lock()
        self._stopped = threading.Event()
        self._failure: FashionError | None = None
        self._latencies = array("d")
        self._errors: Counter[str] = Counter()
        self._images = 0
        self._is_open = False
        self._queued = 0
        self._longest_wait = 0.0
        self._last_due = self._last_sent = 0.0

    def run(self, concurrency: int) -> LoadResult:
        # A request without an answer must not keep the program from ending.
        threads = [threading.Thread(target=self._send_all, daemon=True) for _ in range(concurrency)]
        try:
            # The senders begin together, and the time with them; Ctrl-C finds no thread half started.
            with self._lock:
                for thread in threads:
                    thread.start()
                self._beginning = time.perf_counter()
            for thread in threads:
                thread.join()
        except KeyboardInterrupt:
            self._stopped.set()
            if not self._latencies and not self._errors:
                raise
        if self._failure:
            raise self._failure
        with self._lock:
            return self._result()

    def _now(self) -> float:
        return time.perf_counter() - self._beginning

    def _send_all(self) -> None:
        try:
            while arrival := self._take():
                self._send(*arrival)
        except FashionError as error:
            # After Ctrl-C it is that the connection is closed, and nobody looks.
            self._failure = error
            self._stopped.set()

    def _take(self) -> _Arrival | None:
        """The next arrival; None at the end."""
        with self._lock:
            if self._stopped.is_set() or self._now() >= self._end:
                return None
            due, request = next(self._arrivals, (math.inf, None))
            # The queue of the warm-up ends with it.
            while due is not None and due <= self._warm_up < self._now():
                due, request = next(self._arrivals, (math.inf, None))
            if request is None or (due is not None and due > self._end):
                self._arrivals = iter(())
                return None
            if due is not None:
                self._is_open = True
                self._queued += self._warm_up < due < self._now()
            return due, request

    def _send(self, due: float | None, request: Request) -> None:
        while due is not None and (wait := due - self._now()) > 0:
            if self._stopped.is_set():
                return
            # In slices: a recording may pause for hours, and another sender may fail meanwhile.
            time.sleep(min(wait, 0.5))
        sent = self._now()
        code, images = "", 0
        try:
            images = request()
        except ServerError as error:
            code = error.code
        answered = self._now()
        if sent >= self._warm_up if due is None else due > self._warm_up:
            with self._lock:
                self._count(sent if due is None else due, sent, answered, images, code)
        if code and due is None:
            time.sleep(_ERROR_PAUSE)

    def _count(self, due: float, sent: float, answered: float, images: int, code: str) -> None:
        if code:
            self._errors[code] += 1
        else:
            self._latencies.append(answered - due)
            self._images += images
        self._longest_wait = max(self._longest_wait, sent - due)
        self._last_due = max(self._last_due, due)
        self._last_sent = max(self._last_sent, sent)

    def _result(self) -> LoadResult:
        now = self._now()
        if self._is_open and math.isfinite(self._end) and not self._stopped.is_set():
            # The last request was due before the end, and may be answered before it.
            now = max(now, self._end)
        # A copy: after Ctrl-C requests in flight may still be answered.
        result = LoadResult(max(now - self._warm_up, 0.001), self._latencies[:], self._errors.copy(), self._images)
        if self._is_open:
            result.pace = self._pace(min(now, self._end))
        return result

    def _pace(self, end: float) -> Pace:
        dues = itertools.takewhile(lambda due: due <= end, (due or 0.0 for due, _ in self._arrivals))
        unsent = sum(due > self._warm_up for due in dues)
        count = len(self._latencies) + self._errors.total() + unsent
        lasts = (end, end)
        if math.isinf(self._end) and not unsent:
            # The schedule ends with its last request.
            lasts = (self._last_due, max(self._last_due, self._last_sent))
        seconds = (max(last - self._warm_up, 0.001) for last in lasts)
        return Pace(count, unsent, self._queued, self._longest_wait, *seconds)

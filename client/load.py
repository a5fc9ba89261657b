"""Load on a server, in a closed or an open loop, and what was measured of it.

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
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import TypeAlias

from client.errors import ServerError
from fashion_common.errors import FashionError

Request: TypeAlias = Callable[[], int]
# When a request is due, in seconds from the beginning of the loop; None: at once.
_Arrival: TypeAlias = "tuple[float | None, Request]"

PERCENTILES = (50, 90, 99, 99.9)
# A dead server answers at once: a closed loop without a pause would only count how fast it is dead.
_ERROR_PAUSE = 0.01


@dataclass
class Pace:
    """How an open loop kept to its schedule: of `due` requests, `unsent` were not sent by the end.

    due_seconds, sent_seconds: how long the schedule takes, and how long sending took. queued: requests that were due
    before a sender was free. longest_wait: seconds from when a request was due to when it was sent.
    """

    due: int
    unsent: int
    queued: int
    longest_wait: float
    due_seconds: float
    sent_seconds: float

    @property
    def rate_due(self) -> float:
        """Requests a second as asked for."""
        return self.due / self.due_seconds

    @property
    def rate_reached(self) -> float:
        """Requests a second as sent."""
        return (self.due - self.unsent) / self.sent_seconds

    @property
    def is_kept(self) -> bool:
        """Whether all requests were sent, at 99 % of the rate or more."""
        return not self.unsent and self.rate_reached >= 0.99 * self.rate_due

    def summary(self) -> dict[str, float]:
        """Rates in requests a second, the longest wait in ms."""
        return {
            "rate_due": self.rate_due,
            "rate_reached": self.rate_reached,
            "unsent": self.unsent,
            "queued": self.queued,
            "longest_wait_ms": 1000 * self.longest_wait,
        }

    def __str__(self) -> str:
        text = (
            f"rate {self.rate_due:.4g} requests/s due, {self.rate_reached:.4g} reached; "
            f"{self.queued} queued, longest wait {1000 * self.longest_wait:.2f} ms"
        )
        if self.is_kept:
            return text
        unsent = f"{self.unsent} of {self.due} requests due were not sent; " if self.unsent else ""
        return (
            f"{text}\nThe rate was not reached: {unsent}the server is too slow for it, --concurrency too low, or this "
            "process at its limit"
        )


@dataclass
class LoadResult:
    """The measurement: its seconds, latencies in seconds of the requests that were answered, errors by code."""

    seconds: float
    latencies: Sequence[float] = ()
    errors: Counter[str] = field(default_factory=Counter)
    images: int = 0
    pace: Pace | None = None

    def percentile(self, share: float) -> float:
        """The latency, in seconds, that `share` percent of the requests do not exceed (nearest rank); NaN for none."""
        return self._percentiles(share)[0]

    def summary(self) -> dict[str, object]:
        """Requests and images a second, latency percentiles in ms (None where nothing was answered), errors by code."""
        requests = len(self.latencies)
        return {
            "requests": requests,
            "requests_per_second": requests / self.seconds,
            "images_per_second": self.images / self.seconds,
            **{
                f"p{share:g}_ms": 1000 * latency if requests else None
                for share, latency in zip(PERCENTILES, self._percentiles(*PERCENTILES), strict=True)
            },
            "errors": dict(self.errors),
            **(self.pace.summary() if self.pace else {}),
        }

    def __str__(self) -> str:
        requests = len(self.latencies)
        latencies = ", ".join(
            f"p{share:g} {1000 * latency:.2f} ms"
            for share, latency in zip(PERCENTILES, self._percentiles(*PERCENTILES), strict=True)
        )
        errors = ", ".join(f"{count} {code}" for code, count in self.errors.items()) or "none"
        rates = f"{requests / self.seconds:.0f} requests/s, {self.images / self.seconds:.0f} images/s"
        lines = [
            f"{requests} requests, {rates}",
            f"latency {latencies}" if requests else "latency unknown: no request was answered",
            str(self.pace or ""),
            f"errors: {errors}",
        ]
        return "\n".join(filter(None, lines))

    def _percentiles(self, *shares: float) -> list[float]:
        latencies = sorted(self.latencies)
        # 99.9 percent of 1,000 are 999, and 999.0000000000001 as a float.
        ranks = [math.ceil(round(len(latencies) * share / 100, 6)) for share in shares]
        return [latencies[max(0, rank - 1)] if latencies else math.nan for rank in ranks]


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

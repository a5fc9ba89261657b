"""A closed loop of requests: each of several threads sends its next request when it has its last answer."""

from __future__ import annotations

import threading
import time
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

from client.connection import Connection
from client.errors import ServerError
from client.pictures.batch import Batch


@dataclass
class BenchResult:
    """What was measured: seconds of the loop, latencies in seconds, errors by code."""

    seconds: float
    batch_size: int
    latencies: list[float] = field(default_factory=list)
    errors: Counter[str] = field(default_factory=Counter)

    def summary(self) -> dict[str, float | int | dict[str, int]]:
        """Requests and images a second, latency percentiles in ms, errors by code."""
        ordered = sorted(self.latencies)
        return {
            "requests": len(ordered),
            "requests_per_second": len(ordered) / self.seconds,
            "images_per_second": len(ordered) * self.batch_size / self.seconds,
            **{f"p{share:g}_ms": 1000 * percentile(ordered, share) for share in (50, 90, 99, 99.9)},
            "errors": dict(self.errors),
        }


def bench(
    connection: Connection,
    batch: Batch,
    signature_name: str | None = None,
    *,
    concurrency: int,
    duration: float,
    warm_up: float,
) -> BenchResult:
    """Sends `batch` again and again for `duration` seconds, after `warm_up` seconds that do not count.

    Raises ServerError when the very first request fails; later errors are counted.
    """

    def ask() -> None:
        connection.predict_batch(batch, signature_name=signature_name)

    ask()
    results = [BenchResult(0, batch.count) for _ in range(concurrency)]
    begin = time.perf_counter() + warm_up
    threads = [threading.Thread(target=_loop, args=(ask, begin, begin + duration, result)) for result in results]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    whole = BenchResult(max(time.perf_counter() - begin, duration), batch.count)
    for result in results:
        whole.latencies += result.latencies
        whole.errors += result.errors
    return whole


def percentile(values: Sequence[float], share: float) -> float:
    """The value that `share` percent of the sorted `values` do not exceed (nearest rank); NaN for none."""
    if not values:
        return float("nan")
    ordered = sorted(values)
    return ordered[min(len(ordered) - 1, int(len(ordered) * share / 100))]


def _loop(ask: Callable[[], None], begin: float, end: float, result: BenchResult) -> None:
    while (started := time.perf_counter()) < end:
        try:
            ask()
        except ServerError as error:
            result.errors[error.code] += 1
            # A dead server answers at once: a busy loop would only count how fast it is dead.
            time.sleep(0.01)
        else:
            if started >= begin:
                result.latencies.append(time.perf_counter() - started)

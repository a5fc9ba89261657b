"""What a server counts, as the page shows it: requests a second and latency of the last minute, from its metrics."""

from __future__ import annotations

import collections
import itertools
from collections.abc import Mapping
from typing import NamedTuple

from fashion_common.prometheus import samples

_SECONDS = 60.0
# Of the rate that is shown: long enough for a few looks, short enough to see a change.
_RATE_SECONDS = 10.0
_MICROSECONDS_PER_MS = 1000.0
_PERCENTILES = (50, 90, 99)


class Counts(NamedTuple):
    """What a server has counted by a time, in seconds of the monotonic clock.

    buckets: the requests that took no longer than so many microseconds, as Prometheus has histograms.
    """

    time: float
    requests: float
    errors: float
    buckets: Mapping[float, float]

    @classmethod
    def of(cls, metrics: str, model_name: str, time: float) -> Counts:
        """Those of a model in the text of TF Serving's metrics, over all methods and both APIs."""
        requests = errors = 0.0
        for labels, value in samples(metrics, ":tensorflow:serving:request_count"):
            if labels.get("model_name") == model_name:
                requests += value
                errors += value if labels.get("status") != "OK" else 0
        buckets: dict[float, float] = collections.defaultdict(float)
        for labels, value in samples(metrics, ":tensorflow:serving:request_latency_bucket"):
            if labels.get("model_name") == model_name:
                buckets[float(labels["le"])] += value
        return cls(time, requests, errors, buckets)


class Minute:
    """The counts of the last minute, one for each look."""

    def __init__(self) -> None:
        self._counts: collections.deque[Counts] = collections.deque()

    def add(self, counts: Counts) -> None:
        """Adds a look; a server that counts less than before was started anew."""
        if self._counts and counts.requests < self._counts[-1].requests:
            self._counts.clear()
        self._counts.append(counts)
        while counts.time - self._counts[0].time > _SECONDS:
            self._counts.popleft()

    @property
    def rate(self) -> float | None:
        """Requests a second of the last ten seconds; None as long as there is one look only."""
        last = self._counts[-1]
        first = next(counts for counts in self._counts if last.time - counts.time <= _RATE_SECONDS)
        return (last.requests - first.requests) / (last.time - first.time) if last.time > first.time else None

    @property
    def rates(self) -> list[float]:
        """Requests a second between each two looks, the oldest first."""
        return [
            (after.requests - before.requests) / (after.time - before.time)
            for before, after in itertools.pairwise(self._counts)
        ]

    @property
    def errors(self) -> float:
        """The requests that failed."""
        return self._counts[-1].errors - self._counts[0].errors

    @property
    def latency_ms(self) -> dict[int, float | None]:
        """The percentiles 50, 90 and 99 in milliseconds; None without a request."""
        first, last = self._counts[0].buckets, self._counts[-1].buckets
        since = {bound: last[bound] - first.get(bound, 0.0) for bound in sorted(last)}
        return {percent: _percentile(since, percent / 100) for percent in _PERCENTILES}


def _percentile(buckets: Mapping[float, float], share: float) -> float | None:
    """Milliseconds, interpolated between a bucket's bounds as by PromQL's histogram_quantile."""
    total = max(buckets.values(), default=0.0)
    if total <= 0:
        return None
    wanted, lower, below = share * total, 0.0, 0.0
    for bound, count in buckets.items():
        if count >= wanted:
            if bound != float("inf"):
                lower += (bound - lower) * (wanted - below) / (count - below)
            break
        lower, below = bound, count
    return lower / _MICROSECONDS_PER_MS

"""What was measured of load: latencies, errors, and how an open loop kept to its schedule."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field

PERCENTILES = (50, 90, 99, 99.9)
# Rates from here on are printed without a fraction.
_WHOLE_RATE = 100


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
            f"rate {_rate_text(self.rate_due)} requests/s due, {_rate_text(self.rate_reached)} reached; "
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
    """The measurement: its seconds, latencies in seconds of the requests that were answered, errors by code.

    images: that they held; or whatever else `unit` says.
    """

    seconds: float
    latencies: Sequence[float] = ()
    errors: Counter[str] = field(default_factory=Counter)
    images: int = 0
    pace: Pace | None = None
    unit: str = "images"

    def percentile(self, share: float) -> float:
        """The latency, in seconds, that `share` percent of the requests do not exceed (nearest rank); NaN for none."""
        return self._percentiles(share)[0]

    def summary(self) -> dict[str, object]:
        """Requests and images a second, latency percentiles in ms (None where nothing was answered), errors by code."""
        requests = len(self.latencies)
        return {
            "requests": requests,
            "requests_per_second": requests / self.seconds,
            f"{self.unit}_per_second": self.images / self.seconds,
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
        rates = f"{requests / self.seconds:.0f} requests/s, {self.images / self.seconds:.0f} {self.unit}/s"
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


def _rate_text(rate: float) -> str:
    return f"{rate:.0f}" if rate >= _WHOLE_RATE else f"{rate:.3g}"

"""What was measured of load, as numbers and as text."""

from __future__ import annotations

import math
from collections import Counter

import pytest

from client.measurement import LoadResult, Pace


def test_percentiles_are_latencies_that_were_measured() -> None:
    """Nearest rank; NaN when nothing was measured."""
    result = LoadResult(1, [0.004, 0.001, 0.003, 0.002])
    assert [result.percentile(share) for share in (0, 50, 50.1, 99, 100)] == [0.001, 0.002, 0.003, 0.004, 0.004]
    assert LoadResult(1, [*range(1, 1001)]).percentile(99.9) == 999
    assert math.isnan(LoadResult(1).percentile(50))


def test_the_summary_has_its_units() -> None:
    """A second for rates, milliseconds for latencies; None for the latencies of no answer: JSON has no NaN."""
    pace = Pace(due=20, unsent=5, queued=7, longest_wait=0.25, due_seconds=2, sent_seconds=3)
    result = LoadResult(2, [0.004, 0.001, 0.003, 0.002], Counter(UNAVAILABLE=5), images=12, pace=pace)
    assert result.summary() == {
        "requests": 4,
        "requests_per_second": 2,
        "images_per_second": 6,
        "p50_ms": pytest.approx(2),
        "p90_ms": pytest.approx(4),
        "p99_ms": pytest.approx(4),
        "p99.9_ms": pytest.approx(4),
        "errors": {"UNAVAILABLE": 5},
        "rate_due": 10,
        "rate_reached": 5,
        "unsent": 5,
        "queued": 7,
        "longest_wait_ms": 250,
    }
    assert LoadResult(2).summary()["p50_ms"] is None


def test_the_text_says_in_words_that_a_rate_was_not_reached() -> None:
    """By how much, and what it may be."""
    pace = Pace(due=20, unsent=5, queued=7, longest_wait=0.25, due_seconds=2, sent_seconds=2)
    why = "the server is too slow for it, --concurrency too low, or this process at its limit"
    assert str(LoadResult(2, [0.001], images=1, pace=pace)) == (
        "1 requests, 0 requests/s, 0 images/s\n"
        "latency p50 1.00 ms, p90 1.00 ms, p99 1.00 ms, p99.9 1.00 ms\n"
        "rate 10 requests/s due, 7.5 reached; 7 queued, longest wait 250.00 ms\n"
        f"The rate was not reached: 5 of 20 requests due were not sent; {why}\n"
        "errors: none"
    )
    late = Pace(due=100, unsent=0, queued=7, longest_wait=0.25, due_seconds=1, sent_seconds=1.02)
    assert str(late).endswith(f"\nThe rate was not reached: {why}")
    fast = Pace(due=30_000, unsent=0, queued=0, longest_wait=0, due_seconds=1, sent_seconds=1)
    assert str(fast) == "rate 30000 requests/s due, 30000 reached; 0 queued, longest wait 0.00 ms"
    kept = Pace(due=100, unsent=0, queued=7, longest_wait=0.25, due_seconds=1, sent_seconds=1.01)
    assert str(kept) == "rate 100 requests/s due, 99 reached; 7 queued, longest wait 250.00 ms"
    assert str(LoadResult(1, errors=Counter(UNAVAILABLE=5))) == (
        "0 requests, 0 requests/s, 0 images/s\nlatency unknown: no request was answered\nerrors: 5 UNAVAILABLE"
    )

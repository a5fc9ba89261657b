"""Rates and percentiles of the last minute, from a server's metrics."""

from __future__ import annotations

import pytest

from client.web.live import Counts, Minute
from tests.support.fake_server import metrics


def _minute(*looks: tuple[float, int, int]) -> Minute:
    """Looks: time in seconds, requests that were answered, and that failed."""
    minute = Minute()
    for time, ok, failed in looks:
        minute.add(Counts.of(metrics(ok, failed), "fashion_mnist", time))
    return minute


def test_one_look_says_no_rate() -> None:
    """What a server counted before the page was there is not of this minute."""
    minute = _minute((0, 500, 5))
    assert (minute.rate, minute.rates, minute.errors) == (None, [], 0)
    assert minute.latency_ms == {50: None, 90: None, 99: None}


def test_requests_a_second_are_of_ten_seconds_and_other_models_are_not_counted() -> None:
    """The rates between the looks are all those of the minute."""
    minute = _minute((0, 0, 0), (10, 100, 0), (15, 100, 0), (20, 200, 10))
    assert minute.rate == 11
    assert minute.rates == [10, 0, 22]
    assert minute.errors == 10


def test_percentiles_are_interpolated_within_a_bucket() -> None:
    """90 requests within a millisecond, 10 between one and two."""
    latency = _minute((0, 0, 0), (1, 90, 10)).latency_ms
    assert latency == pytest.approx({50: 50 / 90, 90: 1.0, 99: 1.9})


def test_what_is_longer_than_all_bounds_is_the_last_bound() -> None:
    """The last bucket has no upper bound to interpolate to."""
    minute = Minute()
    minute.add(Counts(0, 0, 0, {1000.0: 0, float("inf"): 0}))
    minute.add(Counts(1, 2, 0, {1000.0: 0, float("inf"): 2}))
    assert minute.latency_ms[50] == 1.0


def test_the_minute_forgets_and_a_new_server_begins_anew() -> None:
    """A look of 61 seconds ago is gone; counts that fall are another server's."""
    minute = _minute((0, 0, 0), (1, 10, 0), (60, 10, 0), (61, 20, 0))
    assert len(minute.rates) == 2
    minute.add(Counts.of(metrics(3, 0), "fashion_mnist", 62))
    assert (minute.rate, minute.rates) == (None, [])

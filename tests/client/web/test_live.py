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


@pytest.mark.parametrize(("seconds", "rate"), [(10, 20), (10.5, 5)])
def test_a_rate_is_of_the_looks_within_ten_seconds(seconds: float, rate: float) -> None:
    """The look of exactly ten seconds ago is the first of them."""
    minute = _minute((0, 0, 0), (9.5, 195, 0), (seconds, 200, 0))
    assert minute.rate == rate
    assert minute.rates == [195 / 9.5, 5 / (seconds - 9.5)]


def test_counts_are_sums_over_methods_and_apis() -> None:
    """Of the model: those that failed are requests too, each bucket is its own."""
    text = f"{metrics(7, 2)}\n{metrics(1, 4)}"
    counts = Counts.of(text, "fashion_mnist", 3.5)
    assert counts == Counts(3.5, 14, 6, {1000.0: 8, 2000.0: 14, float("inf"): 14})
    assert Counts.of(text, "other", 0) == Counts(0, 2000, 0, {})
    assert Counts.of("", "other", 0) == Counts(0, 0, 0, {})


def test_percentiles_are_interpolated_within_a_bucket() -> None:
    """90 requests within a millisecond, 10 between one and two."""
    latency = _minute((0, 0, 0), (1, 90, 10)).latency_ms
    assert latency == pytest.approx({50: 50 / 90, 90: 1.0, 99: 1.9})


@pytest.mark.parametrize(
    ("before", "after", "percentiles"),
    [
        ({}, {1000.0: 1, 2000.0: 1}, {50: 0.5, 90: 0.9, 99: 0.99}),
        ({1000.0: 4}, {1000.0: 4, 3000.0: 6}, {50: 2.0, 90: 2.8, 99: 2.98}),
        ({1000.0: 4, 3000.0: 4, 4000.0: 4}, {1000.0: 6, 3000.0: 8, 4000.0: 8}, {50: 1.0, 90: 2.6, 99: 2.96}),
        ({}, {}, {50: None, 90: None, 99: None}),
    ],
    ids=["one request", "a bucket that is new", "the edge of a bucket", "no histogram"],
)
def test_percentiles_are_of_what_came_since_the_first_look(
    before: dict[float, float], after: dict[float, float], percentiles: dict[int, float | None]
) -> None:
    """In each bucket the requests are spread evenly; those of the first look are not of this minute."""
    minute = Minute()
    minute.add(Counts(0, 0, 0, before))
    minute.add(Counts(1, 8, 0, after))
    found = minute.latency_ms
    assert found.keys() == percentiles.keys()
    assert [found[percent] for percent in found] == [
        None if value is None else pytest.approx(value) for value in percentiles.values()
    ]


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
    # Fewer than in the look before, though more than in the first one.
    minute.add(Counts.of(metrics(15, 0), "fashion_mnist", 62))
    assert (minute.rate, minute.rates) == (None, [])
    minute.add(Counts.of(metrics(15, 0), "fashion_mnist", 63))
    assert minute.rates == [0]

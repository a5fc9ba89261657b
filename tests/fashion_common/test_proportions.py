"""The statistics of a comparison, held to scipy's."""

from __future__ import annotations

import itertools

import pytest
from scipy import stats

from fashion_common.proportions import mcnemar_p_value, wilson_interval

_COUNTS = (0, 1, 2, 3, 7, 10, 49, 100, 999, 10_000)
# Of a million, and pairs whose probability is below the smallest float.
_LARGE = [(499_000, 501_000), (500_000, 500_000), (10, 1_000_000), (0, 1_200), (9_000, 11_000)]


@pytest.mark.parametrize("trials", [1, 2, 3, 10, 100, 9_999, 10**6])
def test_the_interval_is_scipys(trials: int) -> None:
    """Wilson's without correction, from no success to nothing but successes."""
    for successes in {0, 1, trials // 3, trials // 2, trials - 1, trials}:
        expected = stats.binomtest(successes, trials).proportion_ci(method="wilson")
        low, high = wilson_interval(successes, trials)
        assert [low, high] == pytest.approx([expected.low, expected.high], abs=1e-12)
        assert 0 <= low <= successes / trials <= high <= 1


def test_without_trials_nothing_is_known() -> None:
    """The interval is everything."""
    assert wilson_interval(0, 0) == (0, 1)


@pytest.mark.parametrize(("first", "second"), [*itertools.product(_COUNTS, _COUNTS), *_LARGE])
def test_mcnemars_test_is_scipys_binomial_test(first: int, second: int) -> None:
    """Two-sided and exact, whichever of the two is greater; 1 where they are equal."""
    expected = stats.binomtest(first, first + second).pvalue if first + second else 1.0
    assert mcnemar_p_value(first, second) == pytest.approx(expected, rel=1e-8, abs=1e-300)
    assert mcnemar_p_value(first, second) == mcnemar_p_value(second, first)
    if first == second:
        assert mcnemar_p_value(first, second) == 1

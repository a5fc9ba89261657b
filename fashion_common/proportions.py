"""Shares of a count: the interval that the true share lies in, and whether two shares of the same inputs differ."""

from __future__ import annotations

import math
from statistics import NormalDist

# 95 percent lie within so many standard deviations.
_DEVIATIONS = NormalDist().inv_cdf(0.975)


def wilson_interval(successes: int, trials: int) -> tuple[float, float]:
    """The 95 % interval of a share, which also holds near 0 and 1, and for few trials; without any: 0 to 1.

    Source: Wilson 1927, https://doi.org/10.1080/01621459.1927.10502953
    """
    if not trials:
        return 0.0, 1.0
    share, weight = successes / trials, _DEVIATIONS**2 / trials
    centre = (share + weight / 2) / (1 + weight)
    margin = math.sqrt(weight * (share * (1 - share) + weight / 4)) / (1 + weight)
    # Rounding must not leave the interval without its own share at 0 and 1.
    low = 0.0 if successes == 0 else centre - margin
    high = 1.0 if successes == trials else centre + margin
    return low, high


def mcnemar_p_value(only_first: int, only_second: int) -> float:
    """How probable a difference of this size is, were two classifiers equally good: McNemar's exact test, two-sided.

    only_first, only_second: how many inputs only this one of the two got right. Both being right or wrong says nothing.
    Source: the binomial test of https://en.wikipedia.org/wiki/McNemar%27s_test
    """
    count, fewer = only_first + only_second, min(only_first, only_second)
    # P(X = fewer) of a fair coin, then each term from the one before: 2**count itself is soon too large for a float.
    log_term = math.lgamma(count + 1) - math.lgamma(fewer + 1) - math.lgamma(count - fewer + 1) - count * math.log(2)
    total = term = 1.0
    for successes in range(fewer, 0, -1):
        term *= successes / (count - successes + 1)
        total += term
        if term < total * 1e-17:
            break
    return min(1.0, 2 * total * math.exp(log_term))

"""How far what a server answers is from what its version answered to the test set, by the server's metrics."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Iterator, Mapping
from typing import NamedTuple

from fashion_common.prometheus import samples

# Fewer predictions say nothing.
MIN_PREDICTIONS = 200
# Above it a population is usually said to have changed.
MAX_INDEX = 0.25
_METRICS = {
    "classes": (":fashion:distribution:prediction_count", "class_id"),
    "confidence": (":fashion:distribution:confidence_count", "confidence"),
}


class Drift(NamedTuple):
    """A version's predictions beside those of the test set: how many, and the index of each distribution by name."""

    version: int
    predictions: int
    indices: Mapping[str, float]


def drifts(metrics: str, model_name: str) -> Iterator[Drift]:
    """That of each version that has answered and whose manifest has the test set's distribution, the newest first."""
    counts: dict[tuple[int, str, str], Counter[str]] = {}
    for kind, (name, label) in _METRICS.items():
        for labels, value in samples(metrics, name):
            if labels.get("model_name") == model_name:
                key = int(labels["version"]), labels["source"], kind
                counts.setdefault(key, Counter())[labels[label]] += int(value)
    for version in sorted({version for version, *_ in counts}, reverse=True):
        live = {kind: counts.get((version, "live", kind), Counter()) for kind in _METRICS}
        expected = {kind: counts.get((version, "test_set", kind), Counter()) for kind in _METRICS}
        if all(live.values()) and all(expected.values()):
            indices = {kind: stability_index(expected[kind], live[kind]) for kind in _METRICS}
            yield Drift(version, live["classes"].total(), indices)


def stability_index(expected: Mapping[str, int], actual: Mapping[str, int]) -> float:
    """The population stability index of two counts by category: the sum of (a - e) ln(a / e) over their shares.

    It is 0 for equal shares. Half a count is added to each, since an empty category would make it infinite.
    https://doi.org/10.1002/9781119201731 (Siddiqi, Credit Risk Scorecards)
    """
    categories = expected.keys() | actual.keys()
    index = 0.0
    for category in categories:
        e = (expected.get(category, 0) + 0.5) / (sum(expected.values()) + 0.5 * len(categories))
        a = (actual.get(category, 0) + 0.5) / (sum(actual.values()) + 0.5 * len(categories))
        index += (a - e) * math.log(a / e)
    return index

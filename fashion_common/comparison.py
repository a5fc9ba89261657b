"""Two answers to each of many inputs, counted one after the other; memory grows with the flips that are kept only."""

from __future__ import annotations

import heapq
import math
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import replace
from datetime import datetime, timezone
from typing import NamedTuple

from fashion_common.evidence import NO_NUMBER, Accuracy, Evidence, Example, Flip, Latency, Side
from fashion_common.served_model import CLASS_NAMES

# So many flips are kept with their pictures.
EXAMPLES = 24


class Answer(NamedTuple):
    """The class of an input, and the probabilities of all ten."""

    class_id: int
    probabilities: Sequence[float]

    @property
    def class_name(self) -> str:
        """`NaN` where a probability is no finite number: the class then means nothing."""
        return CLASS_NAMES[self.class_id] if math.isfinite(sum(self.probabilities)) else NO_NUMBER


class _Kept(NamedTuple):
    """An example in its order: the smallest difference first, and of equal ones the latest."""

    difference: float
    order: int
    example: Example
    pixels: bytes


class Comparison:
    """The counts so far."""

    def __init__(self) -> None:
        self.compared = 0
        self._agreeing = 0
        self._not_numbers = [0, 0]
        self._numbers = 0
        self._largest = 0.0
        self._sum = 0.0
        self._flips: Counter[tuple[str, str]] = Counter()
        # Labelled inputs by who was right.
        self._right: Counter[tuple[bool, bool]] = Counter()
        self._kept: list[_Kept] = []

    def add(
        self,
        name: str,
        baseline: Answer,
        candidate: Answer,
        *,
        label: int | None = None,
        pixels: Callable[[], bytes] = bytes,
    ) -> None:
        """Counts the two answers to one input.

        label: its class, where that is known. pixels: gives uint8 [28, 28] for the picture of a flip, b"" for none.
        """
        classes = baseline.class_name, candidate.class_name
        for side, class_name in enumerate(classes):
            self._not_numbers[side] += class_name == NO_NUMBER
        difference = math.inf
        if NO_NUMBER not in classes:
            differences = [abs(a - b) for a, b in zip(baseline.probabilities, candidate.probabilities, strict=True)]
            difference = max(differences)
            self._largest = max(self._largest, difference)
            self._sum += math.fsum(differences)
            self._numbers += len(differences)
        self.compared += 1
        if classes[0] == classes[1] != NO_NUMBER:
            self._agreeing += 1
        else:
            self._flips[classes] += 1
            self._keep(difference, _example(name, label, baseline, candidate, difference), pixels)
        if label is not None:
            right = CLASS_NAMES[label]
            self._right[classes[0] == right, classes[1] == right] += 1

    def evidence(
        self,
        model_name: str,
        baseline: Side,
        candidate: Side,
        *,
        inputs: Sequence[str],
        sha256: str,
        latencies: Sequence[Latency] = (),
    ) -> Evidence:
        """The counts as a record; the sides get how many of their answers were no numbers."""
        return Evidence(
            model_name=model_name,
            date=datetime.now(timezone.utc).isoformat(timespec="seconds"),
            baseline=replace(baseline, not_numbers=self._not_numbers[0]),
            candidate=replace(candidate, not_numbers=self._not_numbers[1]),
            inputs=tuple(inputs),
            sha256=sha256,
            compared=self.compared,
            agreeing=self._agreeing,
            largest_difference=self._largest if self._numbers else None,
            mean_difference=self._sum / self._numbers if self._numbers else None,
            accuracy=self._accuracy(),
            latencies=tuple(latencies),
            flips=tuple(Flip(*classes, count) for classes, count in self._flips.most_common()),
            examples=tuple(kept.example for kept in self._examples()),
        )

    @property
    def pictures(self) -> list[bytes]:
        """The pixels of each example, uint8 [28, 28], in their order; b"" for one that has none."""
        return [kept.pixels for kept in self._examples()]

    def _examples(self) -> list[_Kept]:
        return sorted(self._kept, reverse=True)

    def _keep(self, difference: float, example: Example, pixels: Callable[[], bytes]) -> None:
        # No two orders are equal, so that examples themselves are not compared.
        kept = _Kept(difference, -self.compared, example, b"")
        if len(self._kept) == EXAMPLES and kept < self._kept[0]:
            return
        kept = kept._replace(pixels=pixels())
        # Recorded traffic asks for some pictures again and again.
        if kept.pixels and any(kept.pixels == other.pixels for other in self._kept):
            return
        if len(self._kept) < EXAMPLES:
            heapq.heappush(self._kept, kept)
        else:
            heapq.heapreplace(self._kept, kept)

    def _accuracy(self) -> Accuracy | None:
        right = self._right
        return Accuracy(right.total(), right[True, True], right[True, False], right[False, True]) if right else None


def _example(name: str, label: int | None, baseline: Answer, candidate: Answer, difference: float) -> Example:
    return Example(
        name,
        None if label is None else CLASS_NAMES[label],
        baseline.class_name,
        _finite(baseline.probabilities[baseline.class_id]),
        candidate.class_name,
        _finite(candidate.probabilities[candidate.class_id]),
        _finite(difference),
    )


def _finite(value: float) -> float | None:
    return value if math.isfinite(value) else None

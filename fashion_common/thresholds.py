"""What a candidate must reach to take the baseline's place."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from fashion_common.evidence import Accuracy, Evidence

# Shares of counts: from 0.88 to 0.87 is a hair more than 0.01 as floats.
_ROUNDING = 1e-9


@dataclass(frozen=True)
class Thresholds:
    """What evidence is held to; None is not asked.

    min_agreement: the share of inputs with the same class. max_accuracy_drop: how much lower the candidate's accuracy
    may be, where labels are known. max_latency_ratio: its latency to the baseline's, where they were measured.
    """

    min_agreement: float | None = None
    max_accuracy_drop: float | None = None
    max_latency_ratio: float | None = None

    def objections(self, evidence: Evidence) -> list[str]:
        """Why the candidate fails, each with the figures; none when it holds.

        Answers that are no numbers, inputs that only the candidate refuses, and a comparison of nothing always fail.
        """
        return [
            *_failures(evidence),
            *self._agreement(evidence),
            *(self._accuracy(evidence.accuracy) if evidence.accuracy else ()),
            *self._latency(evidence),
        ]

    def _agreement(self, evidence: Evidence) -> Iterator[str]:
        if evidence.compared and self.min_agreement is not None and evidence.agreement < self.min_agreement:
            low, high = evidence.interval
            yield (
                f"agreement {evidence.agreement:.4f} (95 % interval {low:.4f} to {high:.4f}, {evidence.compared} "
                f"inputs) is below {self.min_agreement:g}"
            )

    def _accuracy(self, accuracy: Accuracy) -> Iterator[str]:
        drop = accuracy.baseline - accuracy.candidate
        if self.max_accuracy_drop is not None and drop > self.max_accuracy_drop + _ROUNDING:
            yield (
                f"accuracy {accuracy.candidate:.4f} is {drop:.4f} below {accuracy.baseline:.4f} "
                f"(p {accuracy.p_value:.2g}), more than {self.max_accuracy_drop:g}"
            )

    def _latency(self, evidence: Evidence) -> Iterator[str]:
        for latency in evidence.latencies:
            if self.max_latency_ratio is not None and latency.ratio > self.max_latency_ratio:
                yield (
                    f"latency is {latency.ratio:.2f} times the baseline's with {latency.in_flight} in flight "
                    f"(p50 {latency.candidate_p50_ms:.2f} and {latency.baseline_p50_ms:.2f} ms), "
                    f"more than {self.max_latency_ratio:g}"
                )


def _failures(evidence: Evidence) -> Iterator[str]:
    baseline, candidate = evidence.baseline, evidence.candidate
    if not evidence.compared:
        yield "no input was answered by both, so nothing was compared"
    if candidate.not_numbers:
        yield f"{candidate.not_numbers} answers of {candidate} are not numbers (NaN or infinite)"
    if candidate.refused > baseline.refused:
        yield (f"{candidate} refused {candidate.refused} inputs, {baseline} {baseline.refused}: {candidate.refusal}")

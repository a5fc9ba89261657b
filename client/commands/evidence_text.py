"""The evidence of a comparison as a terminal shows it."""

from __future__ import annotations

from collections.abc import Iterator

from client.commands.output import printable
from fashion_common.evidence import RECORDED, Evidence, Side

# So many pairs of classes are shown.
_FLIPS = 10


def evidence_text(evidence: Evidence) -> str:
    """Lines of a name and a value."""
    return "\n".join(f"{name:<13} {printable(value)}".rstrip() for name, value in _rows(evidence))


def failures(evidence: Evidence) -> Iterator[tuple[str, str]]:
    """What could not be compared: what it is, and how often which side did so."""
    for side in (evidence.baseline, evidence.candidate):
        if side.not_numbers:
            yield "no numbers", f"{side.not_numbers} answers of {side} are NaN or infinite, and agree with nothing"
        if side.refused:
            yield "refused", f"{side.refused} inputs by {side}, and not compared: {side.refusal}"


def place(side: Side) -> str:
    """A side and its server: `stable (version 6) at grpc://127.0.0.1:8500`."""
    if side.name == RECORDED and side.version is None:
        return f"{RECORDED} (of no single version)"
    return f"{side} at {side.server}" if side.server and side.server != side.name else str(side)


def _rows(evidence: Evidence) -> Iterator[tuple[str, str]]:
    low, high = evidence.interval
    yield "baseline", place(evidence.baseline)
    yield "candidate", place(evidence.candidate)
    share = f"{evidence.agreeing} of {evidence.compared} inputs have the same class"
    yield "agreement", f"{evidence.agreement:.4f} (95 % interval {low:.4f} to {high:.4f}): {share}"
    for flip in evidence.flips[:_FLIPS]:
        yield "", f"{flip.count:>5} {flip.baseline} -> {flip.candidate}"
    if others := evidence.flips[_FLIPS:]:
        yield "", f"{sum(flip.count for flip in others):>5} of {len(others)} other pairs"
    if evidence.largest_difference is not None:
        mean = f"{evidence.mean_difference:.6f} in the mean"
        yield "probabilities", f"differ by {evidence.largest_difference:.4f} at most, {mean}"
    yield from failures(evidence)
    if accuracy := evidence.accuracy:
        alone = f"{accuracy.only_baseline_right} and {accuracy.only_candidate_right} inputs"
        shares = f"{accuracy.baseline:.4f} and {accuracy.candidate:.4f} of {accuracy.labelled}"
        yield "accuracy", f"{shares}; alone right on {alone}, McNemar's p {accuracy.p_value:.2g}"
    for latency in evidence.latencies:
        median = f"p50 {latency.baseline_p50_ms:.2f} and {latency.candidate_p50_ms:.2f} ms (ratio {latency.ratio:.2f})"
        tail = f"p99 {latency.baseline_p99_ms:.2f} and {latency.candidate_p99_ms:.2f} ms"
        yield "latency", f"{median}, {tail}, {latency.in_flight} in flight"

"""The latency of two versions, measured in turn, so that whatever else the machine does meets both."""

from __future__ import annotations

import itertools
from array import array
from collections.abc import Callable, Iterator

from client.comparison.questions import Question
from client.comparison.sides import LiveSide
from client.errors import ServerError
from client.load import LoadResult, closed_loop
from fashion_common.evidence import Latency

# So often each has its turn; the other one begins every second time.
_ROUNDS = 6


def latencies(
    baseline: LiveSide, candidate: LiveSide, question: Question, *, concurrency: int, duration: float
) -> Iterator[Latency]:
    """With one request in flight, and with `concurrency`. duration: seconds of each, for each side.

    Raises ServerError when a side answers none.
    """
    requests = [_request(side, question.single()) for side in (baseline, candidate)]
    for in_flight in sorted({1, concurrency}):
        results = [array("d"), array("d")]
        for turn in range(_ROUNDS):
            for side in (0, 1) if turn % 2 == 0 else (1, 0):
                loop = closed_loop(itertools.repeat(requests[side]), concurrency=in_flight, duration=duration / _ROUNDS)
                results[side].extend(loop.latencies)
                if not loop.latencies and loop.errors:
                    code = loop.errors.most_common(1)[0][0]
                    raise ServerError(code, "no request was answered while the latency was measured")
        first, second = (LoadResult(duration, samples) for samples in results)
        yield Latency(
            in_flight,
            baseline_p50_ms=1000 * first.percentile(50),
            baseline_p99_ms=1000 * first.percentile(99),
            baseline_requests=len(first.latencies),
            candidate_p50_ms=1000 * second.percentile(50),
            candidate_p99_ms=1000 * second.percentile(99),
            candidate_requests=len(second.latencies),
        )


def _request(side: LiveSide, question: Question) -> Callable[[], int]:
    return lambda: len(side.answers(question))

"""The latency of two versions, measured in turn, so that whatever else the machine does meets both."""

from __future__ import annotations

import itertools
import math
from array import array
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from statistics import median

from client.comparison.questions import Question
from client.comparison.sides import LiveSide
from client.errors import ClientError, ServerError
from client.load import LoadResult, closed_loop
from fashion_common.evidence import Latency

# So often each has its turn, the other one beginning every second time: what slows a machine lasts longer than a turn.
# Of a version beside itself, on two busy cores, the ratio is then 0.92 to 1.02; in six turns it was 0.61 to 1.87.
_TURNS = 24
# In a shorter one there may be no request.
_TURN_SECONDS = 0.04


def latencies(
    baseline: LiveSide, candidate: LiveSide, question: Question, *, concurrency: int, duration: float
) -> Iterator[Latency]:
    """With one request in flight, and with `concurrency`. duration: seconds of each, for each side.

    Raises ServerError when a side answers none in its turn, ClientError when the time was too short for a request.
    """
    requests = [_request(side, question.single()) for side in (baseline, candidate)]
    turns = min(_TURNS, math.ceil(duration / _TURN_SECONDS))
    for in_flight in sorted({1, concurrency}):
        results = [array("d"), array("d")]
        ratios = []
        for turn in range(turns):
            measured: list[Sequence[float]] = [(), ()]
            for side in (0, 1) if turn % 2 == 0 else (1, 0):
                measured[side] = _turn(requests[side], in_flight, duration / turns)
                results[side].extend(measured[side])
            if all(measured):
                ratios.append(median(measured[1]) / median(measured[0]))
        if not ratios:
            raise ClientError(f"no request was answered in a turn of {duration / turns:.3f} s: --duration gives longer")
        first, second = (LoadResult(duration, samples) for samples in results)
        yield Latency(
            in_flight,
            baseline_p50_ms=1000 * first.percentile(50),
            baseline_p99_ms=1000 * first.percentile(99),
            baseline_requests=len(first.latencies),
            candidate_p50_ms=1000 * second.percentile(50),
            candidate_p99_ms=1000 * second.percentile(99),
            candidate_requests=len(second.latencies),
            ratio=median(ratios),
        )


def _turn(request: Callable[[], int], in_flight: int, seconds: float) -> Sequence[float]:
    # Ctrl-C comes to the main thread, and a loop that ran in it would take it for the end of this turn only.
    with ThreadPoolExecutor(1) as pool:
        result = pool.submit(closed_loop, itertools.repeat(request), concurrency=in_flight, duration=seconds).result()
    if result.errors and not result.latencies:
        [(code, _)] = result.errors.most_common(1)
        raise ServerError(code, "no request was answered while the latency was measured")
    return result.latencies


def _request(side: LiveSide, question: Question) -> Callable[[], int]:
    return lambda: len(side.answers(question))

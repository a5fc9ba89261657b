"""`fashion bench` against a live server, and its measurement without one."""

from __future__ import annotations

import itertools
import json
import math
import re
import time
from collections import Counter
from pathlib import Path
from types import SimpleNamespace

import pytest

from client.commands import bench
from client.commands.bench import BenchResult, measure
from client.errors import ServerError, server_error
from tests.support.client_commands import APIS, run
from tests.support.road import Road


@APIS
def test_it_measures_a_closed_loop(road: Road, api: str, tmp_path: Path) -> None:
    """Throughput, percentiles in ascending order, no errors; the distribution as a figure."""
    figure = tmp_path / "latency.png"
    options = ("--duration", 0.5, "--warm-up", 0.1, "--concurrency", 2, "--batch-size", 3)
    report = json.loads(run(road, api, "bench", "--json", "--save-figure", figure, *options).output)
    assert report["requests"] > 0
    assert report["images_per_second"] == pytest.approx(3 * report["requests_per_second"])
    assert 0 < report["p50_ms"] <= report["p90_ms"] <= report["p99_ms"] <= report["p99.9_ms"]
    assert report["errors"] == {}
    assert figure.stat().st_size > 0
    text = run(road, api, "bench", *options).output
    assert re.fullmatch(
        r"\d+ requests, \d+ requests/s, \d+ images/s\n"
        r"latency p50 [\d.]+ ms, p90 [\d.]+ ms, p99 [\d.]+ ms, p99.9 [\d.]+ ms\nerrors: none\n",
        text,
    )


def test_percentiles_are_latencies_that_were_measured() -> None:
    """Nearest rank; NaN when nothing was measured."""
    result = BenchResult(1, 1, [0.004, 0.001, 0.003, 0.002])
    assert [result.percentile(share) for share in (0, 50, 50.1, 99, 100)] == [0.001, 0.002, 0.003, 0.004, 0.004]
    assert BenchResult(1, 1, [*range(1, 1001)]).percentile(99.9) == 999
    assert math.isnan(BenchResult(1, 1).percentile(50))


def test_the_summary_has_its_units() -> None:
    """A second for rates, milliseconds for latencies."""
    result = BenchResult(2, 3, [0.004, 0.001, 0.003, 0.002], Counter(UNAVAILABLE=5))
    assert result.summary() == {
        "requests": 4,
        "requests_per_second": 2,
        "images_per_second": 6,
        "p50_ms": pytest.approx(2),
        "p90_ms": pytest.approx(4),
        "p99_ms": pytest.approx(4),
        "p99.9_ms": pytest.approx(4),
        "errors": {"UNAVAILABLE": 5},
    }


def test_what_begins_in_the_warm_up_does_not_count(monkeypatch: pytest.MonkeyPatch) -> None:
    """By a clock that goes on by a second at each look: requests begin in the seconds 1, 3, ..., 29."""
    clock = itertools.count()
    monkeypatch.setattr(bench, "time", SimpleNamespace(perf_counter=lambda: next(clock), sleep=time.sleep))
    calls: list[int] = []
    result = measure(lambda: calls.append(1), 1, concurrency=1, duration=20, warm_up=10)
    assert len(calls) == 1 + 5 + 10
    assert (result.latencies, result.seconds) == ([1] * 10, 22)


def test_errors_of_the_warm_up_do_not_count(monkeypatch: pytest.MonkeyPatch) -> None:
    """By the same clock."""
    clock = itertools.count()
    monkeypatch.setattr(bench, "time", SimpleNamespace(perf_counter=lambda: next(clock), sleep=lambda _: None))
    answers = itertools.chain([None], itertools.repeat(server_error("UNAVAILABLE", "died")))

    def request() -> None:
        if error := next(answers):
            raise error

    assert measure(request, 1, concurrency=1, duration=20, warm_up=10).errors == {"UNAVAILABLE": 10}


def test_errors_are_counted_but_for_the_first_requests() -> None:
    """A server that never answered is no measurement; one that dies while it is measured is."""
    errors = iter([None, *[server_error("UNAVAILABLE", "died")] * 1000])

    def request() -> None:
        if error := next(errors):
            raise error

    result = measure(request, 1, concurrency=2, duration=0.05, warm_up=0)
    assert result.errors.keys() == {"UNAVAILABLE"}
    assert f"errors: {result.errors['UNAVAILABLE']} UNAVAILABLE" in str(result)
    with pytest.raises(ServerError, match="died"):
        measure(request, 1, concurrency=2, duration=0.05, warm_up=0)

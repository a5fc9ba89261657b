"""What a promoted version is watched for."""

from __future__ import annotations

import itertools
import json
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

import pytest

from fashion_common.installation import state_directory
from fashion_common.running import RunningServer, recorded
from rollout import watch as watch_module
from rollout.watch import Counts, counts, usual, watch
from tests.support.status_servers import http_server

METRICS = """
# TYPE :tensorflow:serving:request_count counter
:tensorflow:serving:request_count{{model_name="m",status="OK"}} {ok}
:tensorflow:serving:request_count{{model_name="m",status="INTERNAL"}} {failed}
:tensorflow:serving:request_count{{model_name="m",status="UNAUTHENTICATED"}} 90000.0
:tensorflow:serving:request_count{{model_name="m",status="PERMISSION_DENIED"}} 90000.0
:tensorflow:serving:request_count{{model_name="other",status="INTERNAL"}} 7.0
:tensorflow:serving:request_latency_bucket{{model_name="m",API="Predict",entrypoint="GRPC",le="10"}} 3.0
:tensorflow:serving:request_latency_sum{{model_name="m",API="Predict",entrypoint="GRPC"}} {microseconds}
:tensorflow:serving:request_latency_sum{{model_name="m",API="Classify",entrypoint="REST"}} 1e+06
:tensorflow:serving:request_latency_count{{model_name="m",API="Predict",entrypoint="GRPC"}} {ok}
"""


class Simulated:
    """A simulated server: what it says of version 7 and of its requests."""

    def __init__(self) -> None:
        self.state = "AVAILABLE"
        self.stable = 7
        self.figures = {"ok": 100.0, "failed": 0.0, "microseconds": 1e6}

    def answer(self, headers: Mapping[str, str]) -> tuple[int, bytes]:
        """Status and body of a GET."""
        if headers[":path"].endswith("/metadata"):
            return 200, json.dumps({"model_spec": {"version": str(self.stable)}}).encode()
        if headers[":path"] == "/monitoring/prometheus/metrics":
            return 200, METRICS.format(**self.figures).encode()
        return 200, json.dumps({"model_version_status": [{"version": "7", "state": self.state}]}).encode()


@contextmanager
def recorded_server(base: Path, simulated: Simulated) -> Iterator[RunningServer]:
    """The simulated server, recorded as a running one of this base path."""
    with http_server(simulated.answer) as port:
        server = RunningServer(str(base), str(base), "m", f"http://127.0.0.1:{port}/v1/models/m", "/c")
        with recorded(server, state_directory() / "8500"):
            yield server


@pytest.fixture(autouse=True)
def _surroundings(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path / "state"))
    monkeypatch.setattr(watch_module, "_SECONDS", 0.01)


def test_the_counts_of_a_model() -> None:
    """All methods and both APIs; another model's are not among them."""
    found = Counts.of(METRICS.format(ok=30.0, failed=10.0, microseconds=2e6), "m")
    assert found == Counts(requests=40, errors=10, timed=30, seconds=3)
    assert (found.error_share, found.mean_ms) == (0.25, 100.0)
    assert (Counts().error_share, Counts().mean_ms) == (0.0, 0.0)
    assert Counts.of("", "m") == Counts()


@pytest.mark.parametrize(
    ("figures", "reason"),
    [
        ({}, ""),
        ({"ok": 118.0, "failed": 1.0}, ""),
        ({"ok": 119.0, "failed": 1.0}, "1 of 20 requests to {url} failed, 5.0%; before it were 0.0%"),
        ({"ok": 199.0, "failed": 1.0}, ""),
        ({"ok": 198.0, "failed": 2.0}, "2 of 100 requests to {url} failed, 2.0%; before it were 0.0%"),
        ({"ok": 120.0, "microseconds": 1.8e6}, ""),
        (
            {"ok": 120.0, "microseconds": 1.82e6},
            "requests to {url} take 41.00 ms on average, 2.05 of 20.00 ms before, more than 2",
        ),
        ({"ok": 119.0, "microseconds": 9e6}, ""),
    ],
    ids=["nothing", "19 requests", "20", "1 %", "over 1 %", "as slow as allowed", "slower", "slower, 19 requests"],
)
def test_errors_and_latency_are_held_to_what_was_before(tmp_path: Path, figures: dict[str, float], reason: str) -> None:
    """1 % more errors, and the ratio of the mean latencies, of 20 requests or more."""
    simulated = Simulated()
    with recorded_server(tmp_path, simulated) as server:
        before = counts([server])
        simulated.figures |= figures
        found, since = watch(tmp_path, "stable", 7, before, before, seconds=0.05, max_latency_ratio=2)
    assert found == reason.format(url=server.url)
    assert since.requests == sum(simulated.figures[name] for name in ("ok", "failed")) - 100


def test_without_a_ratio_latency_does_not_count(tmp_path: Path) -> None:
    """However slow it is."""
    simulated = Simulated()
    with recorded_server(tmp_path, simulated) as server:
        before = counts([server])
        simulated.figures |= {"ok": 200.0, "microseconds": 1e9}
        assert watch(tmp_path, "stable", 7, before, before, seconds=0, max_latency_ratio=None)[0] == ""


def test_a_version_that_stops_answering_is_told_at_once(tmp_path: Path) -> None:
    """Not at the end of the watch: its state, or another version under the label."""
    simulated = Simulated()
    with recorded_server(tmp_path, simulated) as server:
        before = counts([server])
        simulated.state = "UNLOADING"
        found, _ = watch(tmp_path, "stable", 7, before, before, seconds=1e6, max_latency_ratio=2)
        assert found == f"version 7 is UNLOADING at {server.url}"
        simulated.state, simulated.stable = "AVAILABLE", 6
        found, _ = watch(tmp_path, "stable", 7, before, before, seconds=1e6, max_latency_ratio=2)
        assert found == f"stable is version 6 at {server.url}, not 7"
        found, _ = watch(tmp_path, "stable", 8, before, before, seconds=1e6, max_latency_ratio=2)
        assert found == f"version 8 is not loaded at {server.url}"


def test_without_servers_there_is_nothing_to_watch(tmp_path: Path) -> None:
    """It waits all the same, and finds nothing."""
    assert watch(tmp_path, "stable", 7, {}, {}, seconds=0.02, max_latency_ratio=2) == ("", Counts())


def test_a_server_that_tells_no_metrics_is_watched_by_its_status(tmp_path: Path) -> None:
    """As one whose metrics are elsewhere."""
    simulated = Simulated()

    def answer(headers: Mapping[str, str]) -> tuple[int, bytes]:
        return (404, b"") if "monitoring" in headers[":path"] else simulated.answer(headers)

    with http_server(answer) as port:
        server = RunningServer(str(tmp_path), "", "m", f"http://127.0.0.1:{port}/v1/models/m", "/c")
        assert counts([server]) == {server.url: Counts()}


@pytest.mark.parametrize(("more", "expected"), [(19, 119), (20, 20)])
def test_what_is_usual_is_that_of_a_moment_or_of_all_the_time(tmp_path: Path, more: int, expected: int) -> None:
    """Where 20 requests come in that moment it counts alone: a comparison before it is left out."""
    simulated = Simulated()
    answers = itertools.count()

    def answer(headers: Mapping[str, str]) -> tuple[int, bytes]:
        if next(answers):
            simulated.figures["ok"] = 100.0 + more
        return simulated.answer(headers)

    with http_server(answer) as port:
        server = RunningServer(str(tmp_path), "", "m", f"http://127.0.0.1:{port}/v1/models/m", "/c")
        with recorded(server, state_directory() / "8500"):
            assert usual(tmp_path, 0)[server.url].requests == expected

"""`fashion bench` against a live server, and against one that stalls."""

from __future__ import annotations

import json
import re
import threading
import time
from pathlib import Path

import pytest
from click.testing import CliRunner

from client.cli import fashion
from client.connection import Connection
from client.transports.fake import FakeTransport
from client.types import Call, ModelSpec, Output
from tests.support.client_commands import APIS, NOBODY, run
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
    assert "rate_due" not in report
    assert figure.stat().st_size > 0
    text = run(road, api, "bench", *options).output
    assert re.fullmatch(
        r"\d+ requests, \d+ requests/s, \d+ images/s\n"
        r"latency p50 [\d.]+ ms, p90 [\d.]+ ms, p99 [\d.]+ ms, p99.9 [\d.]+ ms\nerrors: none\n",
        text,
    )


@APIS
@pytest.mark.parametrize("arrivals", ["constant", "poisson"])
def test_it_measures_an_open_loop(road: Road, api: str, arrivals: str, tmp_path: Path) -> None:
    """As many requests as are due, whatever the server does; the rate asked for and the rate reached."""
    figure = tmp_path / "latency.png"
    options = ("--duration", 0.5, "--warm-up", 0.1, "--rate", 50, "--concurrency", 8, "--arrivals", arrivals)
    report = json.loads(run(road, api, "bench", "--json", "--save-figure", figure, *options).output)
    # A busy machine may not send all of them.
    due = report["requests"] + report["unsent"]
    assert due == 25 if arrivals == "constant" else 5 < due < 40
    assert (report["rate_due"], report["rate_reached"]) == (2 * due, 2 * report["requests"])
    assert report["errors"] == {}
    assert figure.stat().st_size > 0
    text = run(road, api, "bench", *options).output
    assert re.search(
        r"\nrate [\d.]+ requests/s due, [\d.]+ reached; \d+ queued, longest wait [\d.]+ ms\n(The rate was .*\n)?errors",
        text,
    )


class _Stalling(FakeTransport):
    """A server of four requests at a time, that answers none for half a second, once."""

    stall = threading.Lock()

    def outputs(self, call: Call) -> dict[str, Output]:
        with self.stall:
            if len(self.asked) == 80:
                time.sleep(0.5)
            return super().outputs(call)


def _bench_of_a_stall(monkeypatch: pytest.MonkeyPatch, *options: object) -> dict[str, float]:
    connection = Connection([_Stalling()], ModelSpec())
    monkeypatch.setattr("client.connection.connect", lambda *_servers, **_settings: connection)
    arguments = ["bench", "--json", "--warm-up", "0", "--duration", "2", "--concurrency", "4", *map(str, options)]
    report: dict[str, float] = json.loads(CliRunner().invoke(fashion, arguments).output)
    return report


def test_a_stall_is_in_the_latency_of_all_requests_that_were_due_meanwhile(monkeypatch: pytest.MonkeyPatch) -> None:
    """A quarter of the time is a quarter of the requests; only the four in flight would carry it in a closed loop."""
    report = _bench_of_a_stall(monkeypatch, "--rate", 100)
    assert report["requests"] + report["unsent"] == 200
    assert report["p90_ms"] > 200
    assert report["queued"] > 40
    assert report["longest_wait_ms"] > 400
    assert _bench_of_a_stall(monkeypatch)["p99_ms"] < 100


def test_errors_are_counted_and_not_tried_again(road: Road) -> None:
    """Exit code 1; the very first request's error is the command's own."""
    nobody = CliRunner().invoke(fashion, ["bench", "--server", NOBODY])
    assert (nobody.exit_code, nobody.stdout) == (1, "")
    assert "UNAVAILABLE" in nobody.stderr
    # Metadata and the first request go to the first two, then 20 requests to all three in turn.
    servers = [word for server in (*[road.servers["grpc"]] * 2, NOBODY) for word in ("--server", server)]
    options = ["--rate", "40", "--duration", "0.5", "--warm-up", "0", "--concurrency", "1", "--json"]
    mixed = CliRunner().invoke(fashion, ["bench", *servers, *options])
    assert mixed.exit_code == 1
    report = json.loads(mixed.stdout)
    assert report["errors"].keys() == {"UNAVAILABLE"}
    assert report["errors"]["UNAVAILABLE"] == pytest.approx(report["requests"] / 2, abs=1)


@pytest.mark.parametrize(
    ("options", "why"),
    [
        (["--arrivals", "poisson"], "--arrivals poisson is for requests that are due at a rate: give --rate too"),
        (["--rate", "0"], "0.0 is not in the range 0<x<=100000"),
        (["--rate", "100001"], "100001.0 is not in the range 0<x<=100000"),
    ],
)
def test_wrong_rates_are_refused(options: list[str], why: str) -> None:
    """Before anything is sent."""
    result = CliRunner().invoke(fashion, ["bench", "--server", NOBODY, *options])
    assert result.exit_code == 2
    assert why in result.stderr


@APIS
def test_any_model_is_measured(any_models: dict[str, str], tmp_path: Path, api: str) -> None:
    """With noise as its signature has it, in shapes that are given, and with a file's rows."""
    quick = ["--server", any_models[api], "--duration", "0.2", "--warm-up", "0", "--concurrency", "2", "--json"]
    asked = ["bench", *quick, "--model-name", "half_plus_two"]
    (tmp_path / "rows.json").write_text('{"x": [1.0, 2.0, 3.0, 4.0]}')
    for options in (
        ["--batch-size", "2"],
        ["--shape", "x=2"],
        ["--data", str(tmp_path / "rows.json"), "--batch-size", "2"],
    ):
        done = CliRunner().invoke(fashion, [*asked, *options])
        assert done.exit_code == 0, done.stderr
        report = json.loads(done.stdout)
        assert report["rows_per_second"] == pytest.approx(2 * report["requests_per_second"])
        assert report["requests"] > 0
    wrong = CliRunner().invoke(fashion, [*asked, "--shape", "x"])
    assert (wrong.exit_code, wrong.stdout) == (2, "")
    assert "x: expected INPUT=SIZE,SIZE,..., such as x=8,224,224,3" in wrong.stderr

"""`fashion bench` against a live server, and against one that stalls."""

from __future__ import annotations

import json
import re
import threading
import time
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from click.testing import CliRunner

from client.cli import fashion
from client.connection import Connection
from client.errors import server_error
from client.transports.fake import FakeTransport
from client.types import Call, Metadata, ModelSpec, Output, Signature, TensorInfo
from tests.support.client_commands import APIS, NOBODY, answering, run
from tests.support.clocks import Clock
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


class _Timed(FakeTransport):
    """Takes four seconds for each request of a signature that takes `info`."""

    def __init__(self, clock: Clock, name: str = "serving_default", info: TensorInfo | None = None) -> None:
        super().__init__()
        self.clock = clock
        if info is not None:
            outputs = {"probabilities": TensorInfo("DT_FLOAT", None)}
            signature = Signature({"x": info}, outputs, "tensorflow/serving/predict")
            self.model_metadata = Metadata("m", 1, {name: signature})

    def outputs(self, call: Call) -> dict[str, Output]:
        """After a while."""
        self.clock.now += 4
        return super().outputs(call)


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    """The clock that the loops go by."""
    clock = Clock()
    monkeypatch.setattr("client.load.time", clock)
    return clock


_QUICK = ("--concurrency", 1, "--warm-up", 10, "--duration", 10)


def test_a_closed_loop_is_four_lines_or_an_object(clock: Clock, monkeypatch: pytest.MonkeyPatch) -> None:
    """Three images a request; the first request of all and those of the warm-up do not count."""
    transport, asked = _Timed(clock), list[dict[str, Any]]()
    fashion_command = answering(monkeypatch, transport, asked=asked)
    result = fashion_command("bench", *_QUICK, "--batch-size", 3)
    assert (result.exit_code, result.stderr) == (0, "")
    assert result.stdout == (
        "2 requests, 0 requests/s, 1 images/s\n"
        "latency p50 4000.00 ms, p90 4000.00 ms, p99 4000.00 ms, p99.9 4000.00 ms\n"
        "errors: none\n"
    )
    assert [call.inputs["images"].shape for call in transport.asked] == [(3, 28, 28)] * 6
    assert len({call.inputs["images"].content for call in transport.asked}) == 1
    assert len(set(transport.asked[0].inputs["images"].content)) > 200
    assert [each["retry"] for each in asked] == [False]
    result = fashion_command("bench", *_QUICK, "--json")
    assert result.stdout == json.dumps(
        {
            "requests": 2,
            "requests_per_second": 0.2,
            "images_per_second": 0.2,
            "p50_ms": 4000.0,
            "p90_ms": 4000.0,
            "p99_ms": 4000.0,
            "p99.9_ms": 4000.0,
            "errors": {},
        },
        indent=2,
    ) + "\n"  # fmt: skip


def test_an_open_loop_has_its_rate(clock: Clock, monkeypatch: pytest.MonkeyPatch) -> None:
    """What is due every two seconds is sent every four; errors are the exit code."""
    transport = _Timed(clock)
    fashion_command = answering(monkeypatch, transport)
    result = fashion_command("bench", *_QUICK, "--rate", 0.5)
    assert result.exit_code == 0
    assert result.stdout == (
        "2 requests, 0 requests/s, 0 images/s\n"
        "latency p50 6000.00 ms, p90 8000.00 ms, p99 8000.00 ms, p99.9 8000.00 ms\n"
        "rate 0.5 requests/s due, 0.2 reached; 2 queued, longest wait 4000.00 ms\n"
        "The rate was not reached: 3 of 5 requests due were not sent; the server is too slow for it, --concurrency too "
        "low, or this process at its limit\n"
        "errors: none\n"
    )
    transport.asked.clear()

    def dying(call: Call) -> dict[str, Output]:
        if transport.asked:
            raise server_error("INTERNAL", "died")
        return _Timed.outputs(transport, call)

    monkeypatch.setattr(transport, "outputs", dying)
    result = fashion_command("bench", *_QUICK, "--rate", 0.5)
    assert (result.exit_code, result.stderr) == (1, "")
    assert result.stdout == (
        "0 requests, 0 requests/s, 0 images/s\n"
        "latency unknown: no request was answered\n"
        "rate 0.5 requests/s due, 0.5 reached; 0 queued, longest wait 0.00 ms\n"
        "errors: 5 INTERNAL\n"
    )


@pytest.mark.parametrize(
    ("name", "info", "options", "unit", "size"),
    [
        ("serving_default", TensorInfo("DT_FLOAT", (-1, 784)), [], "images", 2),
        ("serving_default", TensorInfo("DT_UINT8", (-1, 28, 28, 1)), [], "images", 2),
        ("serving_default", TensorInfo("DT_INT32", (-1, 784)), [], "rows", 2),
        ("serving_default", TensorInfo("DT_UINT8", (-1, 783)), [], "rows", 2),
        ("encoded_images", TensorInfo("DT_STRING", (-1,)), [], "images", 2),
        ("words", TensorInfo("DT_STRING", (-1,)), [], "rows", 2),
        ("serving_default", TensorInfo("DT_UINT8", (-1, 28, 28)), ["--shape", "x=5,28,28"], "rows", 5),
        ("serving_default", TensorInfo("DT_FLOAT", (3, 2)), [], "rows", 1),
    ],
)
def test_what_is_measured_is_called_what_it_is(
    clock: Clock,
    monkeypatch: pytest.MonkeyPatch,
    name: str,
    info: TensorInfo,
    options: list[str],
    unit: str,
    size: int,
) -> None:
    """Images where the signature takes ours, else rows; what has no rows is one."""
    transport = _Timed(clock, name, info)
    fashion_command = answering(monkeypatch, transport)
    result = fashion_command("bench", *_QUICK, "--signature", name, "--batch-size", 2, *options, "--json")
    assert result.exit_code == 0, result.output
    report = json.loads(result.stdout)
    assert report[f"{unit}_per_second"] == pytest.approx(0.2 * size)
    assert {call.signature_name for call in transport.asked} == {name}


def test_a_files_rows_are_sent_in_turn(clock: Clock, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """In batches, again and again; the last of them may be smaller."""
    np.save(tmp_path / "rows.npy", np.arange(5, dtype=np.float32)[:, None])
    transport = _Timed(clock, info=TensorInfo("DT_FLOAT", (-1, 1)))
    fashion_command = answering(monkeypatch, transport)
    result = fashion_command("bench", *_QUICK, "--data", tmp_path / "rows.npy", "--batch-size", 2, "--json")
    assert result.exit_code == 0, result.output
    sent = [np.frombuffer(call.inputs["x"].content, np.float32).tolist() for call in transport.asked]  # type: ignore[arg-type]
    assert sent == [[0, 1], [2, 3], [4]] * 2
    # Of the two that count, one has a single row.
    assert json.loads(result.stdout)["rows_per_second"] == pytest.approx(0.3)


@pytest.mark.parametrize(
    ("options", "title"),
    [
        ((), "1 in flight, 1 image a request"),
        (("--batch-size", 2), "1 in flight, 2 images a request"),
        (("--rate", 0.5), "0.5 requests/s due, 1 in flight, 1 image a request"),
    ],
)
def test_a_figure_says_what_was_measured(
    clock: Clock, monkeypatch: pytest.MonkeyPatch, tmp_path: Path, options: tuple[object, ...], title: str
) -> None:
    """The rate, the requests in flight, and what one holds."""
    result = answering(monkeypatch, _Timed(clock))("bench", *_QUICK, *options, "--save-figure", tmp_path / "a.svg")
    assert result.exit_code == 0, result.output
    # Matplotlib writes each text as a comment before its glyphs.
    assert f"<!-- {title} -->" in (tmp_path / "a.svg").read_text()

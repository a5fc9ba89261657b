"""`fashion replay` against live servers: a real TF Serving's answers, and recordings of the embedded server's own."""

from __future__ import annotations

import json
import re
import signal
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pytest
from click.testing import CliRunner, Result
from google.protobuf import text_format

from client.cli import fashion
from client.connection import Connection
from client.errors import server_error
from client.transports.base import Exchange
from client.transports.fake import FakeTransport
from client.types import Call, ModelSpec, Output
from fashion_common.layout import WARMUP_FILE
from serving.apis.messages import PredictionLog
from serving.apis.recordings import prediction_log, read_recording
from serving.apis.tensors import make_tensor_proto
from tests.support.asking import METHODS
from tests.support.client_commands import APIS, NOBODY, answering, run
from tests.support.clocks import Clock
from tests.support.fake_console import fake_fashion
from tests.support.live import KITCHEN, recorded_server, running, wait_until
from tests.support.records import image_log, predict_log, sure_of, write_recording
from tests.support.road import Road
from tests.support.tfrecords import write_records

CASES = Path(__file__).parents[2] / "contract" / "grpc.json"


class Kitchen(NamedTuple):
    """A server of the kitchen model by API, and what a real TF Serving answered to the same requests."""

    servers: dict[str, str]
    recording: Path
    logs: list[PredictionLog]


@pytest.fixture(scope="module")
def kitchen(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Kitchen]:
    """Predict, Classify, Regress and MultiInference, of versions and labels too."""
    directory = tmp_path_factory.mktemp("kitchen")
    methods = {method.name: method for method in METHODS if method.service.endswith("PredictionService")}
    logs: list[PredictionLog] = []
    for case in json.loads(CASES.read_text()):
        if case["response"]["code"] == "OK" and case["method"] in methods and "GetModel" not in case["method"]:
            method = methods[case["method"]]
            request = text_format.Parse(case["request"], method.request_class())
            response = method.response_class.FromString(bytes.fromhex(case["response"]["serialized"]))
            logs.append(prediction_log(request, response, timestamp_secs=1_700_000_000 + len(logs) // 10))
    recording = directory / "kitchen.tfrecord"
    write_records(recording, [log.SerializeToString() for log in logs])
    with recorded_server(directory, KITCHEN) as server:
        yield Kitchen({"grpc": f"grpc://{server.grpc}", "rest": f"http://{server.rest}"}, recording, logs)


def _replay(kitchen: Kitchen, api: str, *arguments: object) -> Result:
    server = ["--server", kitchen.servers[api], "--model-name", "kitchen"]
    return CliRunner().invoke(fashion, ["replay", *map(str, arguments), *server])


def _report(result: Result) -> dict[str, Any]:
    assert result.exit_code == 0, result.output
    report: dict[str, Any] = json.loads(result.stdout)
    assert report["errors"] == {}
    return report


def test_what_a_real_server_answered_is_answered_again(kitchen: Kitchen) -> None:
    """All four methods, each with the version or label that it names."""
    arguments = ["replay", str(kitchen.recording), "--server", kitchen.servers["grpc"], "--keep-model", "--json"]
    report = _report(CliRunner().invoke(fashion, arguments))
    assert report["as_recorded"] == report["requests"] == len(kitchen.logs) == 14
    assert (report["different"], report["passed_over"]) == (0, {})
    assert report["batch_sizes"]["regress+classify"] == {"2": 1}
    assert sum(count for sizes in report["batch_sizes"].values() for count in sizes.values()) == 14


def test_a_directory_stands_for_its_recordings(kitchen: Kitchen, tmp_path: Path) -> None:
    """What else lies there is passed over; one without any is told."""
    (tmp_path / "day").mkdir()
    (tmp_path / "day/notes.txt").write_text("none")
    result = _replay(kitchen, "grpc", tmp_path / "day")
    assert (result.exit_code, result.stdout) == (2, "")
    assert result.stderr.endswith("day: no records in it: give a file that was recorded, or a warmup file\n")
    write_records(tmp_path / "day/1", [log.SerializeToString() for log in kitchen.logs[:2]])
    write_records(tmp_path / "day/2", [log.SerializeToString() for log in kitchen.logs[2:3]])
    assert _report(_replay(kitchen, "grpc", tmp_path / "day", "--json"))["requests"] == 3


@APIS
def test_the_commands_version_is_asked(kitchen: Kitchen, api: str, tmp_path: Path) -> None:
    """Its name, version and label take the place of what the records name; only `regress` differs by version."""
    logs = [log for log in kitchen.logs if log.WhichOneof("log_type") in ("classify_log", "regress_log")]
    path = tmp_path / "recording"
    write_records(path, [log.SerializeToString().replace(b"kitchen", b"another") for log in logs])
    assert _report(_replay(kitchen, api, path, "--json"))["as_recorded"] == 3
    for choice in (("--model-version", 1), ("--version-label", "stable")):
        report = _report(_replay(kitchen, api, path, "--json", *choice))
        assert (report["as_recorded"], report["different"]) == (2, 1), choice
    text = _replay(kitchen, api, path, "--version-label", "stable").stdout
    assert re.search(
        r"\nerrors: none\nclassify: 2 x 2 images\nregress: 1 x 2 images\n"
        r"answers: 2 as recorded, 1 not \(fashion compare shows how\)\n$",
        text,
    )


@APIS
def test_the_first_requests_error_is_the_commands(kitchen: Kitchen, api: str) -> None:
    """A server, a model or a version that is not there is no measurement."""
    label = _replay(kitchen, api, kitchen.recording, "--version-label", "nope")
    assert (label.exit_code, label.stdout) == (1, "")
    assert "Unrecognized servable version label: nope" in label.stderr
    nobody = CliRunner().invoke(fashion, ["replay", str(kitchen.recording), "--server", NOBODY])
    assert (nobody.exit_code, nobody.stdout) == (1, "")
    assert "Error: UNAVAILABLE: " in nobody.stderr


def test_errors_are_counted_by_code_with_the_first_ones_text(kitchen: Kitchen, tmp_path: Path) -> None:
    """And the answers beside them; exit code 1."""
    bad = PredictionLog.FromString(kitchen.logs[0].SerializeToString())
    bad.predict_log.request.inputs["nonsense"].CopyFrom(make_tensor_proto(np.zeros(1, np.float32)))
    write_records(tmp_path / "r", [log.SerializeToString() for log in (kitchen.logs[0], bad, bad)])
    result = _replay(kitchen, "grpc", tmp_path / "r")
    assert result.exit_code == 1
    assert re.search(
        r"^1 requests, .*\nlatency .*\nerrors: 2 INVALID_ARGUMENT\nfirst error: INVALID_ARGUMENT: .*nonsense.*\n"
        r"serving_default: 1 x \d+ images?\nanswers: 1 as recorded\n$",
        result.stdout,
    )
    report = json.loads(_replay(kitchen, "grpc", tmp_path / "r", "--json").stdout)
    assert (report["errors"], report["as_recorded"]) == ({"INVALID_ARGUMENT": 2}, 1)
    assert report["first_error"].startswith("INVALID_ARGUMENT: ")


class _Dying(FakeTransport):
    """Answers one request and is gone."""

    def outputs(self, call: Call) -> dict[str, Output]:
        self.errors = [server_error("UNAVAILABLE", "gone")] * 9
        return super().outputs(call)


def test_a_server_that_dies_leaves_nothing_to_compare(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """After the first request, which does not count; the errors are not tried again."""
    connection = Connection([_Dying()], ModelSpec(), retry=False)
    monkeypatch.setattr("client.connection.connect", lambda *_servers, **_settings: connection)
    write_records(tmp_path / "r", [predict_log(number).SerializeToString() for number in range(9)])
    result = CliRunner().invoke(fashion, ["replay", str(tmp_path / "r")])
    assert result.exit_code == 1
    assert result.stdout == (
        "0 requests, 0 requests/s, 0 images/s\nlatency unknown: no request was answered\nerrors: 9 UNAVAILABLE\n"
        "first error: UNAVAILABLE: gone (start a server with `fashion serve`, or name one with --server)\n"
    )


def test_what_rest_cannot_carry_ends_it(kitchen: Kitchen, tmp_path: Path) -> None:
    """With the reason and the fix."""
    multi = [log for log in kitchen.logs if log.HasField("multi_inference_log")]
    write_records(tmp_path / "r", [log.SerializeToString() for log in (kitchen.logs[0], *multi)])
    result = _replay(kitchen, "rest", tmp_path / "r")
    assert result.exit_code == 2
    assert result.stderr.endswith(
        "Error: REST has no MultiInferenceRequest: name a gRPC server with --server grpc://HOST:PORT\n"
    )


@APIS
def test_a_warmup_file_is_a_recording(road: Road, api: str) -> None:
    """Every signature of the exported model, one image and many; it has no answers to compare with, and no times."""
    warmup = road.directory / "models/fashion_mnist/1" / WARMUP_FILE
    result = run(road, api, "replay", warmup, "--limit", 4)
    assert result.exit_code == 0
    assert re.search(
        r"^4 requests, .*\nclassify: 1 x 1 image\nencoded_images: 1 x 1 image\nfloat_images: 1 x 1 image\n"
        r"serving_default: 1 x 1 image\nanswers: not compared, since none is recorded\n$",
        result.stdout,
        re.DOTALL,
    )
    result = run(road, api, "replay", warmup, "--speed", 1)
    assert result.exit_code == 2
    assert "have no time, as those of a warmup file: give --rate instead of --speed" in result.stderr


@APIS
@pytest.mark.usefixtures("pictures")
def test_what_the_embedded_server_recorded_is_answered_as_recorded(road: Road, api: str, tmp_path: Path) -> None:
    """By LiteRT what TensorFlow answers, and over the other API; at its own pace and at a rate."""
    flags = (
        "--model_name=fashion_mnist",
        f"--model_base_path={road.directory}/models/fashion_mnist",
        "--prefer_tflite_model",
        f"--record_filename_prefix={tmp_path}/recording",
        "--record_sampling_rate=1",
    )
    with running(*flags) as server:
        servers = {"grpc": f"grpc://{server.grpc}", "rest": f"http://{server.rest}"}
        for other in servers.values():
            for signature_name in ("serving_default", "float_images", "encoded_images"):
                options = ["--server", other, "--signature", signature_name, str(road.directory / "3.png")]
                assert CliRunner().invoke(fashion, ["predict", *options]).exit_code == 0
        wait_until(lambda: sum(1 for path in tmp_path.iterdir() for _ in read_recording(path)) == 6)
    [recording] = tmp_path.iterdir()
    report = _report(run(road, api, "replay", recording, "--json", "--speed", 20))
    assert (report["as_recorded"], report["different"], report["unsent"]) == (6, 0, 0)
    assert report["batch_sizes"] == {name: {"1": 2} for name in ("encoded_images", "float_images", "serving_default")}
    report = _report(run(road, api, "replay", recording, recording, "--json", "--rate", 100, "--concurrency", 8))
    assert (report["as_recorded"], report["rate_due"]) == (12, pytest.approx(100))


def test_ctrl_c_prints_the_results_so_far(tmp_path: Path) -> None:
    """In the hour between two requests; exit code 0, as of bench."""
    logs = [predict_log(0) for _ in range(30)]
    write_records(tmp_path / "r", [log.SerializeToString() for log in (*logs, predict_log(3600))])
    with fake_fashion("replay", tmp_path / "r", "--speed", 1) as process:
        assert process.stderr is not None
        assert process.stdout is not None
        assert process.stderr.readline() == b"20 requests\n"
        process.send_signal(signal.SIGINT)
        text = process.stdout.read().decode()
        assert re.match(r"[1-3]\d requests, ", text)
        assert re.search(r"\nerrors: none\nserving_default: [1-3]\d x 1 image\nanswers: 0 as recorded, ", text)
        assert process.stderr.read() == b""
        assert process.wait() == 0


@pytest.mark.parametrize(
    ("content", "code", "why"),
    [
        (b"", 2, "r: no records in it: give a file that was recorded, or a warmup file"),
        (b"\0" * 3, 2, "r: no records in it: give a file that was recorded, or a warmup file"),
        (b"no recording of anything", 1, r"r: corrupted record at 0 \(record 1\): copy the file again, or record anew"),
        (None, 2, "Path '.*r' does not exist."),
    ],
    ids=["empty", "torn", "damaged", "missing"],
)
def test_a_file_with_nothing_to_send_is_one_line(tmp_path: Path, content: bytes | None, code: int, why: str) -> None:
    """Whatever is the matter with it, before anything is sent."""
    if content is not None:
        (tmp_path / "r").write_bytes(content)
    result = CliRunner().invoke(fashion, ["replay", str(tmp_path / "r"), "--server", NOBODY])
    assert (result.exit_code, result.stdout) == (code, "")
    assert re.search(rf"Error: .*{why}\n$", result.stderr)


def test_damage_behind_good_records_is_told_before_anything_is_sent(tmp_path: Path) -> None:
    """But for what is behind --limit."""
    write_records(tmp_path / "r", [predict_log(number).SerializeToString() for number in range(3)])
    content = (tmp_path / "r").read_bytes()
    (tmp_path / "r").write_bytes(content[:-20] + bytes([content[-20] ^ 1]) + content[-19:])
    command = ["replay", str(tmp_path / "r"), "--server", NOBODY]
    assert "(record 3)" in CliRunner().invoke(fashion, command).stderr
    assert "Error: UNAVAILABLE" in CliRunner().invoke(fashion, [*command, "--limit", "2"]).stderr


@pytest.mark.parametrize(
    ("options", "why"),
    [
        (["--speed", "1", "--rate", "1"], "--speed and --rate exclude each other: give one"),
        (["--speed", "0"], "0.0 is not in the range x>0"),
        (["--keep-model", "--model-version", "1"], "--keep-model asks the models that the requests name: leave out"),
        (["--speed", "1", "--arrivals", "poisson"], "--arrivals poisson is for requests that are due at a rate"),
    ],
)
def test_wrong_options_are_refused(tmp_path: Path, options: list[str], why: str) -> None:
    """Before anything is sent."""
    write_records(tmp_path / "r", [predict_log(0).SerializeToString()])
    result = CliRunner().invoke(fashion, ["replay", str(tmp_path / "r"), "--server", NOBODY, *options])
    assert result.exit_code == 2
    assert why in result.stderr


class _Timed(FakeTransport):
    """Takes half a second for each request; keeps which models were asked."""

    def __init__(self, clock: Clock) -> None:
        super().__init__()
        self.clock = clock
        self.models: list[tuple[str, int]] = []

    def message(self, request: Any) -> Exchange[Any]:
        """See FakeTransport."""
        self.models.append((request.model_spec.name, request.model_spec.version.value))
        return super().message(request)

    def outputs(self, call: Call) -> dict[str, Output]:
        """After a while."""
        self.clock.now += 0.5
        return super().outputs(call)


def _images_log(seconds: int, count: int, *classes: int) -> PredictionLog:
    """A request of black images in a second of its own; the classes that were answered, if they were recorded."""
    images = np.zeros((count, 28, 28), np.uint8)
    log = image_log(images, {"probabilities": sure_of(*classes)} if classes else None)
    if not classes:
        log.predict_log.ClearField("response")
    log.log_metadata.timestamp_secs = 1_700_000_000 + seconds
    return log


@pytest.fixture
def timed(monkeypatch: pytest.MonkeyPatch) -> _Timed:
    """A server in memory, that answers class 0."""
    clock = Clock()
    monkeypatch.setattr("client.load.time", clock)
    return _Timed(clock)


_SAME = (_images_log(0, 1, 0), _images_log(1, 3, 0, 0, 0), _images_log(3, 1, 0))


def test_what_was_measured_is_lines_or_an_object(
    timed: _Timed, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """With the requests by their size, how many answers are as recorded, and what could not be sent."""
    fashion_command = answering(monkeypatch, timed)
    without = _images_log(4, 1, 0)
    without.predict_log.request.ClearField("inputs")
    write_recording(tmp_path / "r", *_SAME[:2], _images_log(2, 1, 7), _SAME[2], without)
    result = fashion_command("replay", tmp_path / "r", "--concurrency", 1)
    assert (result.exit_code, result.stderr) == (0, "")
    assert result.stdout == (
        "4 requests, 2 requests/s, 3 images/s\n"
        "latency p50 500.00 ms, p90 500.00 ms, p99 500.00 ms, p99.9 500.00 ms\n"
        "errors: none\n"
        "serving_default: 3 x 1 image, 1 x 3 images\n"
        "answers: 3 as recorded, 1 not (fashion compare shows how)\n"
        "records passed over: 1 without inputs\n"
    )
    # One is sent before, to see that there is a server.
    assert timed.models == [("fashion_mnist", 0)] * 5
    result = fashion_command("replay", tmp_path / "r", "--concurrency", 1, "--json")
    assert result.stdout == json.dumps(
        {
            "requests": 4,
            "requests_per_second": 2.0,
            "images_per_second": 3.0,
            "p50_ms": 500.0,
            "p90_ms": 500.0,
            "p99_ms": 500.0,
            "p99.9_ms": 500.0,
            "errors": {},
            "first_error": None,
            "batch_sizes": {"serving_default": {"1": 3, "3": 1}},
            "as_recorded": 3,
            "different": 1,
            "passed_over": {"without inputs": 1},
        },
        indent=2,
    ) + "\n"  # fmt: skip


def test_the_first_requests_are_sent_at_their_pace(
    timed: _Timed, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """Twice as fast as recorded, or at a rate; of --limit requests, no more is said to be due."""
    fashion_command = answering(monkeypatch, timed)
    write_recording(tmp_path / "r", *_SAME)
    result = fashion_command("replay", tmp_path / "r", "--concurrency", 1, "--speed", 2)
    assert result.stdout.splitlines()[2:] == [
        "rate 1.5 requests/s due, 1.5 reached; 0 queued, longest wait 0.00 ms",
        "errors: none",
        "serving_default: 2 x 1 image, 1 x 3 images",
        "answers: 3 as recorded",
    ]
    result = fashion_command("replay", tmp_path / "r", "--concurrency", 1, "--rate", 4, "--limit", 2, "--keep-model")
    assert result.stdout.splitlines()[2:] == [
        "rate 4 requests/s due, 2.67 reached; 1 queued, longest wait 250.00 ms",
        "The rate was not reached: the server is too slow for it, --concurrency too low, or this process at its limit",
        "errors: none",
        "serving_default: 1 x 1 image, 1 x 3 images",
        "answers: 2 as recorded",
    ]
    assert timed.models[4:] == [("recorded_model", 0)] * 3


def test_answers_that_were_not_recorded_are_not_compared(
    timed: _Timed, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """They are no difference; where nothing was answered, there is nothing to say of answers."""
    fashion_command = answering(monkeypatch, timed)
    write_recording(tmp_path / "r", _images_log(0, 1), _images_log(1, 1))
    result = fashion_command("replay", tmp_path / "r", "--model-name", "m", "--model-version", 3)
    assert result.stdout.endswith(
        "\nerrors: none\nserving_default: 2 x 1 image\nanswers: not compared, since none is recorded\n"
    )
    assert timed.models == [("m", 3)] * 3
    errors = [server_error("INTERNAL", f"broken {number}") for number in range(2)]
    answers = iter([None, *errors, None, *errors])
    send = timed.send

    def failing(request: Any, timeout: float) -> Any:
        if failure := next(answers):
            raise failure
        return send(request, timeout)

    monkeypatch.setattr(timed, "send", failing)
    result = fashion_command("replay", tmp_path / "r", "--concurrency", 1)
    assert (result.exit_code, result.stderr) == (1, "")
    assert result.stdout == (
        "0 requests, 0 requests/s, 0 images/s\nlatency unknown: no request was answered\nerrors: 2 INTERNAL\n"
        "first error: INTERNAL: broken 0\n"
    )
    report = json.loads(fashion_command("replay", tmp_path / "r", "--concurrency", 1, "--json").stdout)
    assert (report["first_error"], report["errors"]) == ("INTERNAL: broken 0", {"INTERNAL": 2})
    assert (report["batch_sizes"], report["as_recorded"], report["different"]) == ({}, 0, 0)

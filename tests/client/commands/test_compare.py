"""`fashion compare` against a live server of four versions that are known to differ."""

from __future__ import annotations

import base64
import gzip
import io
import json
import os
import pty
import re
import struct
import subprocess
from collections.abc import Iterator, Sequence
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
from click.testing import CliRunner, Result
from PIL import Image

from client.cli import fashion
from client.errors import server_error
from client.transports.fake import FakeTransport
from client.types import Call, ModelSpec, Output
from fashion_common.evidence import Evidence
from tests.support.client_commands import answering
from tests.support.console import FASHION
from tests.support.live import Server, running
from tests.support.records import image_log, sure_of, write_recording

_CONFIG = """model_config_list {{ config {{
  name: "fashion_mnist" base_path: "{base_path}" model_platform: "tensorflow" model_version_policy {{ all {{}} }}
  version_labels {{ key: "stable" value: 1 }} version_labels {{ key: "canary" value: 2 }}
}} }}"""


@pytest.fixture(scope="module")
def server(classifiers: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    """Serves them: version 1 is stable, 2 canary."""
    config = tmp_path_factory.mktemp("config") / "models.config"
    config.write_text(_CONFIG.format(base_path=classifiers))
    with running(f"--model_config_file={config}") as live:
        yield live


def _images(*classes: int) -> npt.NDArray[np.uint8]:
    """An image for each class: its first pixel says which, the others are its own."""
    images = np.random.default_rng(0).integers(0, 256, (len(classes), 28, 28), dtype=np.uint8)
    images[:, 0, 0] = classes
    return images


@pytest.fixture
def array(tmp_path: Path) -> Path:
    """One image a class."""
    path = tmp_path / "images.npy"
    np.save(path, _images(*range(10)))
    return path


def _write_test_set(directory: Path, images: npt.NDArray[np.uint8], labels: Sequence[int]) -> None:
    header = b"\0\0\x08\x03" + struct.pack(">3I", *images.shape)
    (directory / "t10k-images-idx3-ubyte.gz").write_bytes(gzip.compress(header + images.tobytes()))
    labels_header = b"\0\0\x08\x01" + struct.pack(">I", len(labels))
    (directory / "t10k-labels-idx1-ubyte.gz").write_bytes(gzip.compress(labels_header + bytes(labels)))


def _compare(server: Server, *arguments: object, duration: float = 0, api: str = "grpc") -> Result:
    url = f"grpc://{server.grpc}" if api == "grpc" else f"http://{server.rest}"
    command = ["compare", "--server", url, "--duration", duration, *arguments]
    return CliRunner().invoke(fashion, list(map(str, command)))


def _record(path: Path, *requests: tuple[npt.NDArray[np.uint8], list[int]]) -> Path:
    """A recording of requests of images and of the classes that were answered; none for no answer."""
    answers = ({"probabilities": sure_of(*classes)} if classes else None for _, classes in requests)
    logs = (image_log(images, answer) for (images, _), answer in zip(requests, answers, strict=True))
    return write_recording(path, *logs)


def test_two_labels_are_put_side_by_side(server: Server, array: Path) -> None:
    """Stable and canary by default: agreement with its interval, the pairs that flipped, the differences."""
    result = _compare(server, array)
    assert (result.exit_code, result.stderr) == (0, "")
    place = f"at grpc://{server.grpc}"
    assert result.stdout == (
        f"baseline      stable (version 1) {place}\n"
        f"candidate     canary (version 2) {place}\n"
        "agreement     0.7000 (95 % interval 0.3968 to 0.8922): 7 of 10 inputs have the same class\n"
        "                  1 Shirt -> Sneaker\n"
        "                  1 Bag -> Ankle boot\n"
        "                  1 Ankle boot -> Bag\n"
        "probabilities differ by 0.9000 at most, 0.054000 in the mean\n"
    )


def test_versions_and_servers_are_sides_too(server: Server, array: Path) -> None:
    """A number, and the newest of a whole server over REST; both APIs give the same answers."""
    url = f"http://{server.rest}"
    result = _compare(server, array, "--baseline", 4, "--candidate", url, "--json", "--batch-size", 1)
    evidence = Evidence.from_json(json.loads(result.stdout))
    assert [(side.name, side.server, side.version) for side in (evidence.baseline, evidence.candidate)] == [
        ("4", f"grpc://{server.grpc}", 4),
        (url, url, 4),
    ]
    # JSON has the shortest digits of each float.
    assert (evidence.compared, evidence.agreeing) == (9, 9)
    assert evidence.largest_difference == pytest.approx(0, abs=1e-8)
    assert (evidence.baseline.refused, evidence.candidate.refused) == (1, 1)


def test_inputs_that_a_version_refuses_are_told_and_not_compared(server: Server, array: Path) -> None:
    """With its own error; the others are compared."""
    result = _compare(server, array, "--candidate", 4, "--batch-size", 1)
    assert "agreement     1.0000 (95 % interval 0.7009 to 1.0000): 9 of 9 inputs have the same class\n" in result.stdout
    assert re.search(r"\nrefused       1 inputs by 4, and not compared: INVALID_ARGUMENT: .*no class", result.stdout)


def test_answers_that_are_no_numbers_are_told(server: Server, array: Path) -> None:
    """They agree with nothing and count in no difference, in text, JSON and page."""
    result = _compare(server, array, "--candidate", 3)
    assert "0.9000 (95 %" in result.stdout
    assert "    1 Sandal -> NaN\n" in result.stdout
    assert "probabilities differ by 0.0000 at most, 0.000000 in the mean\n" in result.stdout
    assert "no numbers    1 answers of 3 are NaN or infinite, and agree with nothing\n" in result.stdout
    page = array.with_name("page.html")
    record = json.loads(_compare(server, array, "--candidate", 3, "--json", "--html", page).stdout)
    assert record["candidate"]["not_numbers"] == 1
    assert "1 answers of 3 are NaN or infinite" in page.read_text()


def test_json_is_the_evidence_of_exactly_what_was_compared(server: Server, array: Path) -> None:
    """Names, the versions that answered, model, inputs and their digest, whatever the batch size."""
    records = [json.loads(_compare(server, array, "--json", "--batch-size", size).stdout) for size in (3, 256)]
    first, second = (Evidence.from_json(record) for record in records)
    assert first.sha256 == second.sha256
    assert (first.model_name, first.inputs, first.compared) == ("fashion_mnist", (str(array),), 10)
    assert [(side.name, side.version) for side in (first.baseline, first.candidate)] == [("stable", 1), ("canary", 2)]
    assert [example.name for example in first.examples] == [f"{array}[{row}]" for row in (6, 8, 9)]
    assert first.examples == second.examples


def test_the_test_set_has_labels(server: Server, tmp_path: Path) -> None:
    """Accuracy of both, and McNemar's test of those that only one got right."""
    _write_test_set(tmp_path, _images(0, 1, 6, 8, 9), [0, 2, 7, 8, 9])
    result = _compare(server, "--test-set", "--data-dir", tmp_path, "--batch-size", 2)
    assert "accuracy      0.6000 and 0.4000 of 5; alone right on 2 and 1 inputs, McNemar's p 1\n" in result.stdout


@pytest.mark.parametrize("api", ["grpc", "rest"])
def test_recordings_are_sent_again_to_both(server: Server, api: str, tmp_path: Path) -> None:
    """Each record as it was; the answers in it are no third party."""
    first = _record(tmp_path / "1.tfrecord", (_images(0, 8), [3, 3]), (_images(6), [3]))
    second = _record(tmp_path / "2.tfrecord", (_images(1), [1]))
    record = json.loads(_compare(server, first, second, "--json", api=api).stdout)
    assert (record["compared"], record["agreeing"]) == (4, 2)
    assert [example["name"] for example in record["examples"]] == [f"{first}[1][1]", f"{first}[2]"]


def test_recorded_answers_can_be_the_baseline(server: Server, tmp_path: Path) -> None:
    """Then one version answers, and no latency is measured."""
    recording = _record(tmp_path / "a.tfrecord", (_images(0, 8), [0, 3]))
    result = _compare(server, recording, "--baseline", "recorded", "--candidate", 1, duration=0.3)
    assert result.stdout.startswith(f"baseline      recorded (version 6)\ncandidate     1 at grpc://{server.grpc}\n")
    assert "    1 Dress -> Bag\n" in result.stdout
    assert "latency" not in result.stdout
    other = write_recording(tmp_path / "b.tfrecord", image_log(_images(1), {"probabilities": sure_of(1)}, version=7))
    result = _compare(server, recording, other, "--baseline", "recorded", "--candidate", 1)
    assert result.stdout.startswith("baseline      recorded (of no single version)\n")


def test_latency_is_measured_at_one_and_at_many_in_flight(server: Server, array: Path) -> None:
    """Of both versions, for each number in flight."""
    result = _compare(server, array, "--concurrency", 2, "--json", duration=0.1)
    latencies = Evidence.from_json(json.loads(result.stdout)).latencies
    assert [latency.in_flight for latency in latencies] == [1, 2]
    for latency in latencies:
        assert 0 < latency.baseline_p50_ms <= latency.baseline_p99_ms
        assert min(latency.baseline_requests, latency.candidate_requests) > 5
    lines = _compare(server, array, "--concurrency", 1, duration=0.05).stdout.splitlines()
    [line] = [line for line in lines if line.startswith("latency")]
    assert re.fullmatch(
        r"latency       p50 \d+\.\d\d and \d+\.\d\d ms \(ratio \d+\.\d\d\), "
        r"p99 \d+\.\d\d and \d+\.\d\d ms, 1 in flight",
        line,
    )


class _Page(HTMLParser):
    """The pictures of a page by their alternative texts, and the names of its tags."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.pictures: dict[str, Image.Image] = {}
        self.tags: set[str] = set()
        self.links: list[str] = []
        self.feed(text)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        values = dict(attrs)
        self.tags.add(tag)
        if source := values.get("src") or values.get("href"):
            kind, _, data = source.partition(",")
            assert kind == "data:image/png;base64"
            self.pictures[values["alt"] or ""] = Image.open(io.BytesIO(base64.b64decode(data)))


def test_the_page_shows_the_pictures_that_flipped(server: Server, tmp_path: Path) -> None:
    """As data, pixel for pixel, with alternative texts; no script, no link, and names cannot break out of it."""
    array = tmp_path / "<script>.npy"
    images = _images(0, 6)
    np.save(array, images)
    page = tmp_path / "page.html"
    result = _compare(server, array, "--html", page)
    assert result.exit_code == 0
    shown = _Page(page.read_text())
    [(text, picture)] = shown.pictures.items()
    assert text == "<script>.npy[1]: Shirt, then Sneaker"
    np.testing.assert_array_equal(np.asarray(picture), images[1])
    assert not shown.tags & {"script", "link", "iframe", "object"}
    assert "prefers-color-scheme: dark" in page.read_text()


def test_a_page_without_flips_says_so(server: Server, array: Path, tmp_path: Path) -> None:
    """Of a version and itself."""
    page = tmp_path / "page.html"
    assert _compare(server, array, "--candidate", 1, "--html", page).exit_code == 0
    assert page.read_text().count("No input flipped.") == 2
    result = _compare(server, array, "--html", tmp_path / "images.npy" / "page.html")
    assert (result.exit_code, "cannot be written" in result.stderr) == (2, True)


@pytest.mark.parametrize(
    ("arguments", "error"),
    [
        ([], "give either inputs or --test-set"),
        (["a.npy", "--test-set"], "give either inputs or --test-set"),
        (["a.npy", "--candidate", "recorded"], "--candidate recorded: recorded answers are a baseline: name a version"),
        (["missing.png"], "missing.png: no such file"),
    ],
)
def test_what_cannot_be_compared_is_refused(server: Server, arguments: list[str], error: str) -> None:
    """Asked wrongly: exit code 2."""
    result = _compare(server, *arguments)
    assert (result.exit_code, result.stdout) == (2, "")
    assert f"Error: {error}" in result.stderr


def test_recordings_that_cannot_be_compared_are_refused(server: Server, array: Path, tmp_path: Path) -> None:
    """Pictures have no recorded answer, a warmup file neither; what a version refuses is no comparison."""
    result = _compare(server, array, "--baseline", "recorded")
    assert (result.exit_code, f"Error: {array}[0] is no record" in result.stderr) == (2, True)
    requests = _record(tmp_path / "requests.tfrecord", (_images(0), []))
    result = _compare(server, requests, "--baseline", "recorded")
    assert (result.exit_code, f"{requests}[1]: a request without its answer" in result.stderr) == (2, True)
    refused = tmp_path / "fours.npy"
    np.save(refused, _images(4))
    result = _compare(server, refused, "--candidate", 4)
    assert result.exit_code == 1
    assert result.stderr.startswith("Error: nothing was compared: INVALID_ARGUMENT: ")


@pytest.mark.parametrize("side", ["--baseline", "--candidate"])
def test_a_label_or_a_server_that_is_not_there_is_named(server: Server, array: Path, side: str) -> None:
    """Before anything is compared."""
    result = _compare(server, array, side, "missing")
    assert (result.exit_code, result.stdout) == (1, "")
    assert "missing" in result.stderr
    result = _compare(server, array, side, "grpc://127.0.0.1:1", "--timeout", 2)
    assert result.exit_code == 1
    assert result.stderr.startswith("Error: UNAVAILABLE: grpc://127.0.0.1:1: ")


def test_a_terminal_sees_how_far_it_is(server: Server, array: Path) -> None:
    """How many inputs were asked, on stderr; nothing of it in stdout."""
    leader, follower = pty.openpty()
    command = ["compare", str(array), "--server", f"grpc://{server.grpc}", "--duration", "0"]
    process = subprocess.run([FASHION, *command], stdout=subprocess.PIPE, stderr=follower, text=True, check=True)
    os.close(follower)
    with open(leader, "rb", buffering=0) as terminal:  # noqa: PTH123 - a descriptor
        shown = terminal.read(10_000).decode()
    assert re.search(r"inputs .*\b10\b", shown)
    assert process.stdout.startswith("baseline      stable (version 1) ")


class _Refusing(FakeTransport):
    """Refuses every picture."""

    def outputs(self, call: Call) -> dict[str, Output]:
        """An error."""
        raise server_error("INVALID_ARGUMENT", "no garment")


def test_a_side_is_a_label_a_number_or_a_server(array: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """What looks like a number is one only in ASCII; each side has the servers, the model and the name that it has."""
    asked: list[dict[str, Any]] = []
    fashion_command = answering(monkeypatch, FakeTransport(), asked=asked)
    options = ("--duration", 0, "--json", "--model-name", "m", "--server", "grpc://a", "--server", "grpc://b")
    for baseline, candidate in (("7", "stable"), ("http://c:9", "٣")):
        result = fashion_command("compare", array, *options, "--baseline", baseline, "--candidate", candidate)
        assert result.exit_code == 0, result.output
        evidence = Evidence.from_json(json.loads(result.stdout))
        assert result.stdout == json.dumps(evidence.to_json(), indent=2) + "\n"
        sides = [(side.name, side.server, side.version) for side in (evidence.baseline, evidence.candidate)]
        server = baseline if "://" in baseline else "grpc://a, grpc://b"
        assert sides == [(baseline, server, 1), (candidate, "grpc://a, grpc://b", 1)]
    assert [(each["servers"], each["model"], each["retry"]) for each in asked] == [
        (("grpc://a", "grpc://b"), ModelSpec("m", 7), True),
        (("grpc://a", "grpc://b"), ModelSpec("m", None, "stable"), True),
        (("http://c:9",), ModelSpec("m"), True),
        (("grpc://a", "grpc://b"), ModelSpec("m", None, "٣"), True),
    ]
    result = fashion_command("compare", array, "--duration", 0)
    assert result.stdout.startswith(
        "baseline      stable (version 1) at grpc://127.0.0.1:8500\n"
        "candidate     canary (version 1) at grpc://127.0.0.1:8500\n"
        "agreement     1.0000 (95 % interval 0.7225 to 1.0000): 10 of 10 inputs have the same class\n"
    )


@pytest.mark.parametrize(("count", "names"), [(20, 20), (21, 21), (25, 21)])
def test_twenty_inputs_are_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, count: int, names: int) -> None:
    """Of more it is said how many."""
    fashion_command = answering(monkeypatch, FakeTransport())
    paths = [tmp_path / f"{number}.npy" for number in range(count)]
    for path in paths:
        np.save(path, np.zeros((1, 28, 28), np.uint8))
    record = json.loads(fashion_command("compare", *paths, "--duration", 0, "--json").stdout)
    expected = [str(path) for path in paths[:20]]
    assert record["inputs"] == [*expected, *([f"and {count - 20} more"] if count > 20 else [])]
    assert (len(record["inputs"]), record["compared"]) == (names, count)


def test_nothing_that_was_compared_is_an_error(array: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """With why: a refusal, or that there was nothing to ask."""
    fashion_command = answering(monkeypatch, _Refusing())
    result = fashion_command("compare", array, "--duration", 0)
    assert (result.exit_code, result.stdout) == (1, "")
    assert result.stderr == "Error: nothing was compared: INVALID_ARGUMENT: no garment\n"
    recording = write_recording(tmp_path / "r.tfrecord", image_log(np.zeros((0, 28, 28), np.uint8)))
    result = fashion_command("compare", recording, "--duration", 0)
    assert (result.exit_code, result.stdout) == (1, "")
    assert result.stderr == "Error: nothing was compared: the inputs hold no Predict request\n"


def test_the_test_set_is_named_as_such(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """In the record, with the accuracy of both."""
    _write_test_set(tmp_path, _images(0, 1), [0, 1])
    fashion_command = answering(monkeypatch, FakeTransport())
    result = fashion_command("compare", "--test-set", "--data-dir", tmp_path, "--duration", 0, "--json")
    record = json.loads(result.stdout)
    assert (record["inputs"], record["compared"]) == (["test set"], 2)
    assert record["accuracy"]["labelled"] == 2

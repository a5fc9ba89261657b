"""The shadow: where two versions differ, and that nothing of it reaches the requests."""

from __future__ import annotations

import contextlib
import logging
import re
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import grpc
import httpx
import numpy as np
import numpy.typing as npt
import pytest
from google.protobuf import text_format

from serving.apis import services
from serving.apis.messages import SignatureDef
from serving.embedded.admission.samples import Sample, Samples
from serving.embedded.flags import Flags
from serving.embedded.inference import shadow
from serving.embedded.inference.model import LoadedModel
from serving.embedded.inference.shadow import MAX_HELD_BYTES, MAX_WAITING, classes, compared
from serving.embedded.loading.litert.interpreters import _is_event_loop
from serving.embedded.server import ModelServer
from tests.support.asking import call, predict, predict_request
from tests.support.live import wait_until

Array = npt.NDArray[Any]
Run = Callable[[Array], Array]

SIGNATURE = text_format.Parse(
    """
    inputs { key: "x" value { name: "x:0" dtype: DT_INT64 } }
    outputs { key: "class_ids" value { name: "class_ids:0" dtype: DT_INT64 } }
    outputs { key: "probabilities" value { name: "probabilities:0" dtype: DT_FLOAT } }
    """,
    SignatureDef(),
)
NAMES = np.array([b"Shirt", b"Coat", b"Bag"], object)
IDS = np.array([0, 1, 2])
EYE = np.eye(3, dtype=np.float32)
NAN = np.array([[1, 0, 0], [0, np.nan, 0], [0, 0, np.inf]], np.float32)


@pytest.mark.parametrize(
    ("outputs", "expected"),
    [
        ({"class_names": NAMES, "class_ids": IDS, "probabilities": EYE}, ["Shirt", "Coat", "Bag"]),
        ({"class_ids": IDS, "probabilities": NAN}, ["0", "NaN", "NaN"]),
        ({"probabilities": EYE, "y": np.zeros(3)}, ["0", "1", "2"]),
        ({"scores": EYE}, ["0", "1", "2"]),
        ({"output_0": EYE}, ["0", "1", "2"]),
        ({"y": np.zeros(3)}, None),
        ({"y": np.zeros((3, 1))}, None),
        ({"a": EYE, "b": EYE}, None),
        ({"y": EYE.astype(np.int64)}, None),
        ({"y": EYE[:, :2]}, ["0", "1", "0"]),
        ({"class_names": np.array(["Shirt", "\u00e4"])}, ["Shirt", "\u00e4"]),
        ({"class_names": np.array([b"\xff"], object)}, ["\ufffd"]),
        ({"class_names": NAMES[np.newaxis], "class_ids": IDS}, ["0", "1", "2"]),
        ({"class_ids": IDS[np.newaxis], "probabilities": EYE}, ["0", "1", "2"]),
        ({"probabilities": EYE[::-1], "scores": EYE}, ["2", "1", "0"]),
        ({"class_ids": IDS, "other": NAN[:2], "scalar": np.array(np.nan)}, ["0", "1", "2"]),
        ({"class_ids": IDS, "y": NAN[:, 1]}, ["0", "NaN", "2"]),
    ],
)
def test_the_class_of_a_row(outputs: Mapping[str, Array], expected: list[str] | None) -> None:
    """Its name, its number, or the place of its largest score; what is not finite has none."""
    assert classes(outputs) == expected


@pytest.mark.parametrize(
    ("served", "other", "agreed", "pairs"),
    [
        ({"class_names": NAMES}, {"class_names": NAMES[[0, 2, 2]]}, 2, {("Coat", "Bag"): 1}),
        ({"probabilities": EYE}, {"probabilities": NAN}, 1, {("1", "NaN"): 1, ("2", "NaN"): 1}),
        ({"probabilities": NAN}, {"probabilities": NAN}, 1, {("NaN", "NaN"): 2}),
        ({"class_ids": IDS}, {"class_ids": IDS[:2]}, 0, {("", "other"): 3}),
        ({"y": np.zeros(3, np.float32)}, {"y": np.array([1e-6, 1e-4, np.nan], np.float32)}, 1, {("", "other"): 2}),
        ({"y": np.zeros((2, 2)), "n": IDS[:2]}, {"y": np.zeros((2, 2)), "n": IDS[1:]}, 0, {("", "other"): 2}),
        ({"y": np.zeros(2)}, {"y": np.zeros(3)}, 0, {("", "other"): 2}),
        ({"y": np.zeros(())}, {"y": np.zeros(())}, 1, {}),
        ({"y": np.zeros((2, 1))}, {"y": np.array([[1e-5], [1.1e-5]])}, 1, {("", "other"): 1}),
        ({"n": np.zeros((2, 1), int)}, {"n": np.array([[0], [1]])}, 1, {("", "other"): 1}),
        ({"y": np.zeros((0, 1))}, {"y": np.zeros((0, 1))}, 1, {}),
        ({"class_ids": IDS}, {"class_ids": IDS}, 3, {}),
        ({"y": np.zeros(()), "z": np.zeros(2)}, {"y": np.ones(()), "z": np.zeros(2)}, 0, {("", "other"): 1}),
    ],
)
def test_rows_that_agree(
    served: Mapping[str, Array], other: Mapping[str, Array], agreed: int, pairs: dict[tuple[str, str], int]
) -> None:
    """By class, or by value where there is none; what is not finite agrees with nothing, not even itself."""
    assert compared(served, other) == (agreed, pairs)


class Servable:
    """A classifier of three classes. ids: what it makes of its input."""

    def __init__(self, ids: Run) -> None:
        self.signatures: Mapping[str, SignatureDef] = {"serving_default": SIGNATURE}
        self.loop_free: frozenset[str] = frozenset()
        self.runtime = "none"
        self._ids = ids

    def run(self, feeds: Mapping[str, Array], fetches: Sequence[str]) -> list[Array]:
        """The classes and their probabilities."""
        ids = self._ids(feeds["x:0"])
        outputs = {"class_ids:0": ids, "probabilities:0": EYE[ids]}
        return [outputs[fetch] for fetch in fetches]

    def close(self) -> None:
        """Nothing."""


class Live:
    """A server in this process, whose version 1 answers as it is asked, and which has another one as its canary."""

    def __init__(self, address: str, metrics: str, server: ModelServer) -> None:
        self.address = address
        self.channel = grpc.insecure_channel(address)
        self.server = server
        self._url = f"http://{metrics}/monitoring/prometheus/metrics"

    def ask(self, ids: Sequence[int] = (0, 1, 2), **spec: Any) -> list[int]:
        """The classes that it answers."""
        answer: list[int] = predict(self.channel, "m", {"x": np.array(ids, np.int64)}, **spec)["class_ids"].tolist()
        return answer

    def asked(self, count: int) -> list[list[int]]:
        """The classes of so many answers of version 1, eight at a time."""
        with ThreadPoolExecutor(8) as threads:
            return list(threads.map(lambda _: self.ask(version=1), range(count)))

    def ask_too_much(self) -> None:
        """Asks version 1 for so many classes that the shadow has no room for the request."""
        ids = np.zeros(MAX_HELD_BYTES // 8 + 1, np.int64)
        request = predict_request("m", {"x": ids}, version=1)
        request.output_filter.append("class_ids")
        options = [("grpc.max_receive_message_length", -1), ("grpc.max_send_message_length", -1)]
        with grpc.insecure_channel(self.address, options) as channel:
            answer = call(channel, services.PREDICT, request)
        assert answer.outputs["class_ids"].tensor_shape.dim[0].size == len(ids)

    def counts(self, name: str) -> dict[str, int]:
        """A counter of the shadow's, by the last labels."""
        text = httpx.get(self._url).text
        found = re.findall(rf':fashion:shadow:{name}{{model_name="m",(.*)}} (\S+)', text)
        return {",".join(re.findall(r'"(.*?)"', labels)): int(float(count)) for labels, count in found}


@contextlib.contextmanager
def live(
    directory: Path,
    canary: Run,
    *,
    served: Run = lambda ids: ids,
    rate: float = 1.0,
    labels: str = "canary",
    version: int = 2,
) -> Iterator[Live]:
    """A server. labels, version: the label that there is, and the version that it names."""
    for number in (1, 2):
        (directory / "m" / str(number)).mkdir(parents=True)
        (directory / "m" / str(number) / "saved_model.pb").touch()
    config = directory / "models.config"
    config.write_text(f"""
        model_config_list {{ config {{
          name: "m" base_path: "{directory}/m" model_platform: "tensorflow" model_version_policy {{ all {{}} }}
          version_labels {{ key: "{labels}" value: {version} }}
        }} }}
    """)
    flags = Flags(
        port=0, metrics_port=0, model_config_file=str(config), shadow_label="canary", shadow_rate=rate,
        allow_version_labels_for_unavailable_models=True, shutdown_grace_seconds=0.5,
    )  # fmt: skip
    made = {1: Servable(served), 2: Servable(canary)}
    server = ModelServer(flags, lambda name, number, _: LoadedModel(name, number, made[number]))
    addresses = server.start()
    assert addresses.grpc
    assert addresses.metrics
    try:
        yield Live(addresses.grpc, addresses.metrics, server)
    finally:
        server.stop()


def test_agreement_and_disagreement_are_counted(tmp_path: Path) -> None:
    """By request, by row and by the pair of classes; both versions' runs are timed side by side."""
    with live(tmp_path, lambda ids: ids // 2) as server:
        assert server.ask((0, 0), version=1) == [0, 0]
        assert server.ask((0, 1, 2, 2), version=1) == [0, 1, 2, 2]
        wait_until(lambda: sum(server.counts("request_count").values()) == 2)
        assert server.counts("request_count") == {"agreed": 1, "disagreed": 1}
        assert server.counts("row_count") == {"agreed": 3, "disagreed": 3}
        assert server.counts("disagreement_count") == {"1,0": 1, "2,1": 2}
        assert server.counts("run_latency_count") == {"served": 2, "shadow": 2}


def test_the_versions_take_turns_at_being_the_first_to_run(tmp_path: Path) -> None:
    """What comes second finds its input in the processor's cache: each version does as often."""
    turns: list[int] = []

    def turn(version: int) -> Run:
        def run(ids: Array) -> Array:
            if threading.current_thread().name == "shadow":
                turns.append(version)
            return ids

        return run

    with live(tmp_path, turn(2), served=turn(1)) as server:
        server.asked(5)
        wait_until(lambda: len(turns) == 10)
    assert turns == [1, 2, 2, 1, 1, 2, 2, 1, 1, 2]


def test_runs_are_beside_those_of_requests(tmp_path: Path) -> None:
    """In a thread of their own, which LiteRT takes for an event loop's: it has none of the places of other threads."""
    threads: set[tuple[str, bool]] = set()

    def look(ids: Array) -> Array:
        threads.add((threading.current_thread().name, _is_event_loop()))
        return ids

    with live(tmp_path, look) as server:
        server.ask(version=1)
        wait_until(lambda: bool(threads))
    assert threads == {("shadow", True)}


def test_an_output_filter_is_followed(tmp_path: Path) -> None:
    """What was not answered is not asked of the shadow."""
    with live(tmp_path, lambda ids: ids) as server:
        request = predict_request("m", {"x": IDS}, version=1)
        request.output_filter.append("probabilities")
        call(server.channel, services.PREDICT, request)
        wait_until(lambda: server.counts("row_count") == {"agreed": 3, "disagreed": 0})


@pytest.mark.parametrize(
    ("labels", "version"), [("stable", 1), ("canary", 1)], ids=["no such label", "the version that has answered"]
)
def test_without_another_version_nothing_happens(tmp_path: Path, labels: str, version: int) -> None:
    """As between two rollouts; the bytes are given back."""
    with live(tmp_path, lambda ids: ids, labels=labels, version=version) as server:
        assert server.ask(version=1) == [0, 1, 2]
        held = server.server._shadow
        assert held is not None
        wait_until(lambda: held._spare.held == 0 and not held._queue)
        assert server.counts("request_count") == {}


def test_requests_are_chosen_by_chance(tmp_path: Path) -> None:
    """None at 0."""
    with live(tmp_path, lambda ids: ids, rate=0.0) as server:
        assert server.ask(version=1) == [0, 1, 2]
        assert server.counts("request_count") == {}


def test_a_shadow_that_fails_reaches_nobody(tmp_path: Path) -> None:
    """Every answer is right, under load too; failures are counted."""

    def fail(_: Array) -> Array:
        raise ZeroDivisionError

    with live(tmp_path, fail) as server:
        assert server.asked(20) == [[0, 1, 2]] * 20
        wait_until(lambda: sum(server.counts("request_count").values()) == 20)
        assert server.counts("request_count") == {"failed": 20}
        # It can be asked itself, and its error is its own.
        with pytest.raises(grpc.RpcError, match="ZeroDivisionError"):
            server.ask(version=2)


def test_a_label_of_a_version_that_is_gone(tmp_path: Path) -> None:
    """It fails, for the server is told to compare with it."""
    with live(tmp_path, lambda ids: ids, version=7) as server:
        assert server.ask(version=1) == [0, 1, 2]
        wait_until(lambda: server.counts("request_count") == {"failed": 1})


def test_a_shadow_that_hangs_reaches_nobody(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What waits is bounded, the rest is dropped and counted, the log tells of it; the server's end does not wait."""
    begun, gate = threading.Event(), threading.Event()

    def hang(ids: Array) -> Array:
        begun.set()
        gate.wait(60)
        return ids

    monkeypatch.setattr(shadow, "_HANGING_SECONDS", 0.0)
    count = MAX_WAITING + 20
    with caplog.at_level(logging.WARNING), live(tmp_path, hang) as server:
        assert server.ask(version=1) == [0, 1, 2]
        assert begun.wait(30)
        begin = time.monotonic()
        assert server.asked(count) == [[0, 1, 2]] * count
        assert time.monotonic() - begin < 20
        assert server.counts("request_count") == {"dropped": count - MAX_WAITING}
        told = [record.getMessage() for record in caplog.records if "--shadow_label" in record.getMessage()]
        assert told == [
            "A run of model m for --shadow_label=canary has not ended for 0 s: nothing is compared until it does"
        ]
        begin = time.monotonic()
        server.server.stop()
        assert time.monotonic() - begin < 5
        gate.set()


def test_each_run_that_hangs_is_told_of_once(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    """When something is dropped because of it; what is dropped between two runs has another reason."""
    begun, gates = threading.Event(), [threading.Event(), threading.Event()]
    waiting = iter(gates)

    def hang(ids: Array) -> Array:
        gate = next(waiting)
        begun.set()
        gate.wait(60)
        return ids

    monkeypatch.setattr(shadow, "_HANGING_SECONDS", 0.0)
    told = []
    with caplog.at_level(logging.WARNING), live(tmp_path, hang) as server:
        for number, gate in enumerate(gates, 1):
            server.ask(version=1)
            assert begun.wait(30)
            begun.clear()
            for _ in range(2):
                server.ask_too_much()
            gate.set()
            wait_until(lambda: server.counts("request_count").get("agreed") == number)  # noqa: B023 - waited for here
            server.ask_too_much()
            told.append(sum("has not ended" in record.getMessage() for record in caplog.records))
    assert told == [1, 2]


def test_large_requests_are_dropped_first(tmp_path: Path) -> None:
    """What the shadow holds is bounded; the answer is the same."""
    with live(tmp_path, lambda ids: ids) as server:
        server.ask_too_much()
        assert server.counts("request_count") == {"dropped": 1}


def test_several_samples_of_one_request() -> None:
    """A request may be recorded and compared."""

    class Kept(Sample):
        """Counts."""

        def __init__(self) -> None:
            self.calls: list[str] = []

        def ask(self, *_: object) -> None:
            """Counts it."""
            self.calls.append("ask")

        def answer(self, *_: object) -> None:
            """Counts it."""
            self.calls.append("answer")

    kept = [Kept(), Kept()]
    samples = Samples(kept)
    samples.ask("", b"", 0, list)
    samples.answer(None, 0, list)  # type: ignore[arg-type]
    assert [each.calls for each in kept] == [["ask", "answer"]] * 2

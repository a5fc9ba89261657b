"""Both sides get the same questions; what they refuse is counted, what is broken ends it."""

from __future__ import annotations

import hashlib
import itertools
import time
from collections.abc import Iterator
from typing import Any

import pytest

from client.comparison.latency import latencies
from client.comparison.questions import ImageQuestion, Question
from client.comparison.run import compare
from client.comparison.sides import LiveSide, RecordedSide
from client.connection import Connection
from client.errors import ClientError, ClientUsageError, ServerError, server_error
from client.pictures.batch import Batch
from client.transports.fake import FakeTransport
from client.types import ModelSpec


def _side(*errors: ServerError, class_id: int = 0, label: str | None = None) -> tuple[LiveSide, FakeTransport]:
    transport = FakeTransport(class_id=class_id)
    side = LiveSide.of(Connection([transport], ModelSpec(version_label=label)), label or "newest", "grpc://a:1")
    transport.errors.extend(errors)
    return side, transport


def _questions(count: int) -> Iterator[Question]:
    for number in range(count):
        yield ImageQuestion([f"{number}"], Batch("DT_UINT8", bytes([number % 256]) * 784))


def test_a_label_is_pinned_to_the_version_that_it_names_at_first() -> None:
    """What answers cannot change in the middle."""
    side, _ = _side(label="stable")
    assert side.connection.model == ModelSpec(version=1)
    assert (side.side.name, side.side.version, side.side.server) == ("stable", 1, "grpc://a:1")


def test_every_question_goes_to_both() -> None:
    """In order, and their answers are counted."""
    (baseline, first), (candidate, second) = _side(class_id=1), _side(class_id=2)
    evidence, pictures = compare("m", baseline, candidate, _questions(3), inputs=["x"], concurrency=1)
    assert [call.inputs for call in first.asked] == [call.inputs for call in second.asked]
    assert (evidence.model_name, evidence.compared, evidence.agreeing) == ("m", 3, 0)
    assert pictures == [bytes([number]) * 784 for number in range(3)]


def test_memory_does_not_grow_with_the_inputs() -> None:
    """Of 1,000 questions no more are made than are in flight or wait to be counted."""
    (baseline, first), (candidate, _) = _side(), _side()
    ahead = []

    def counted() -> Iterator[Question]:
        for number, question in enumerate(_questions(1000)):
            ahead.append(number - len(first.asked))
            yield question

    evidence, pictures = compare("m", baseline, candidate, counted(), inputs=["x"], concurrency=3)
    assert (evidence.compared, pictures) == (1000, [])
    assert max(ahead) <= 6


@pytest.mark.parametrize("code", ["INVALID_ARGUMENT", "FAILED_PRECONDITION", "INTERNAL"])
def test_what_a_version_refuses_is_counted_with_its_first_error(code: str) -> None:
    """And is in no other count."""
    (baseline, _), (candidate, _) = _side(), _side(server_error(code, "no"), server_error("UNKNOWN", "later"))
    evidence, _ = compare("m", baseline, candidate, _questions(5), inputs=["x"], concurrency=1)
    assert (evidence.compared, evidence.baseline.refused, evidence.candidate.refused) == (3, 0, 2)
    assert evidence.candidate.refusal == f"{code}: no"


@pytest.mark.parametrize("code", ["NOT_FOUND", "RESOURCE_EXHAUSTED", "DEADLINE_EXCEEDED", "UNAUTHENTICATED"])
def test_a_version_that_cannot_be_asked_ends_the_comparison(code: str) -> None:
    """It says nothing of the inputs."""
    (baseline, _), (candidate, _) = _side(), _side(server_error(code, "gone"))
    with pytest.raises(ServerError, match=f"{code}: gone"):
        compare("m", baseline, candidate, _questions(5), inputs=["x"], concurrency=1)


def test_only_records_have_recorded_answers() -> None:
    """An image has none."""
    candidate, _ = _side()
    with pytest.raises(ClientUsageError, match="0 is no record, and recorded are the answers in a recording"):
        compare("m", RecordedSide(), candidate, _questions(1), inputs=["x"])


def test_a_side_that_answers_nothing_while_its_latency_is_measured_is_an_error() -> None:
    """There is no latency to tell."""
    (baseline, _), (candidate, _) = _side(), _side(*itertools.repeat(server_error("RESOURCE_EXHAUSTED", "full"), 9))
    with pytest.raises(ServerError, match="RESOURCE_EXHAUSTED: no request was answered while the latency"):
        list(latencies(baseline, candidate, next(_questions(1)), concurrency=1, duration=0.06))


def test_latency_is_measured_in_turns_with_as_many_requests_in_flight() -> None:
    """The ratio is that of the turns: of a side that takes four times as long some 4; a time of nothing is an error."""

    class Slow(FakeTransport):
        seconds = 0.002

        def send(self, request: Any, _timeout: float) -> Any:
            time.sleep(self.seconds)
            return super().send(request, _timeout)

    baseline, candidate = (LiveSide.of(Connection([Slow()], ModelSpec()), name, "") for name in "ab")
    slow = Slow()
    slow.seconds = 0.008
    candidate.connection = Connection([slow], ModelSpec())
    one, three = latencies(baseline, candidate, next(_questions(1)), concurrency=3, duration=0.2)
    assert (one.in_flight, three.in_flight) == (1, 3)
    assert 2 < one.ratio < 6
    assert one.baseline_p50_ms >= 2
    assert one.candidate_p50_ms >= 8
    assert three.baseline_requests > one.baseline_requests
    [only] = latencies(baseline, candidate, next(_questions(1)), concurrency=1, duration=0.03)
    assert only.in_flight == 1
    with pytest.raises(ClientError, match=r"no request was answered in a turn of 0\.000 s: --duration gives longer"):
        list(latencies(baseline, candidate, next(_questions(1)), concurrency=1, duration=1e-9))


def _pairs(count: int) -> Iterator[Question]:
    for number in range(count):
        yield ImageQuestion([f"{number}a", f"{number}b"], Batch("DT_UINT8", bytes([number] * 1568)))


def test_each_sides_refusals_are_its_own() -> None:
    """Counted by inputs; one that either refuses is not compared."""
    first, again = server_error("INVALID_ARGUMENT", "first"), server_error("INTERNAL", "again")
    (baseline, _), (candidate, _) = _side(first, again), _side(server_error("UNKNOWN", "odd"))
    evidence, _ = compare("m", baseline, candidate, _pairs(5), inputs=["x", "y"], concurrency=1)
    assert (evidence.baseline.refused, evidence.baseline.refusal) == (4, "INVALID_ARGUMENT: first")
    assert (evidence.candidate.refused, evidence.candidate.refusal) == (2, "UNKNOWN: odd")
    assert (evidence.compared, evidence.agreeing, evidence.inputs) == (6, 6, ("x", "y"))
    digest = hashlib.sha256(b"".join(bytes([number] * 1568) for number in range(5)))
    assert evidence.sha256 == digest.hexdigest()


@pytest.mark.parametrize(("duration", "concurrency", "in_flight"), [(0, 2, []), (0.04, 1, [1]), (0.04, 2, [1, 2])])
def test_latency_is_of_the_first_question_that_both_answered(
    duration: float, concurrency: int, in_flight: list[int]
) -> None:
    """By one of its images, where there is time for it."""
    (baseline, first), (candidate, _) = _side(server_error("INVALID_ARGUMENT", "no")), _side()
    questions = _pairs(3)
    evidence, _ = compare("m", baseline, candidate, questions, inputs=["x"], concurrency=concurrency, duration=duration)
    assert [latency.in_flight for latency in evidence.latencies] == in_flight
    if concurrency == 1:
        # Of three questions the first was refused.
        assert {call.inputs["images"].content for call in first.asked[2:]} == {b"\1" * 784}


def test_labels_say_who_is_right() -> None:
    """In the order of the images."""
    (baseline, _), (candidate, _) = _side(class_id=1), _side(class_id=2)
    question = ImageQuestion(["a", "b", "c"], Batch("DT_UINT8", bytes(3 * 784)), labels=[1, 2, 2])
    evidence, _ = compare("m", baseline, candidate, [question], inputs=["x"])
    assert evidence.accuracy
    assert (evidence.accuracy.labelled, evidence.accuracy.both_right) == (3, 0)
    assert (evidence.accuracy.only_baseline_right, evidence.accuracy.only_candidate_right) == (1, 2)
    assert [example.label for example in evidence.examples] == ["Trouser"]
    assert evidence.latencies == ()

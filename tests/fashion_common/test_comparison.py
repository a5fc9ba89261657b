"""Two answers to each of many inputs become evidence, and evidence is held to thresholds."""

from __future__ import annotations

import json
import math
from functools import partial
from typing import Any

import pytest

from fashion_common.comparison import EXAMPLES, Answer, Comparison
from fashion_common.errors import EvidenceError
from fashion_common.evidence import Evidence, Latency, Side
from fashion_common.thresholds import Thresholds

_BASELINE, _CANDIDATE = Side("stable", "grpc://127.0.0.1:8500", 6), Side("7", "grpc://127.0.0.1:8500", 7)
_LATENCY = Latency(1, 1.0, 3.0, 900, 1.25, 2.0, 800, 1.25)

_SLOWER = "latency is 1.25 times the baseline's with 1 in flight (p50 1.25 and 1.00 ms), more than 1.24"
_ACCURACY = ("labelled", "both_right", "only_baseline_right", "only_candidate_right")


def _answer(class_id: int, probability: float = 0.91) -> Answer:
    rest = (1 - probability) / 9
    return Answer(class_id, [probability if each == class_id else rest for each in range(10)])


def _nan() -> Answer:
    return Answer(0, [math.nan] * 10)


def _evidence(comparison: Comparison, *latencies: Latency, candidate: Side = _CANDIDATE) -> Evidence:
    return comparison.evidence(
        "fashion_mnist", _BASELINE, candidate, inputs=["a.npy"], sha256="00", latencies=latencies
    )


def _counted(agreeing: int, flipped: int) -> Comparison:
    comparison = Comparison()
    for count in range(agreeing + flipped):
        comparison.add(f"a[{count}]", _answer(0), _answer(0 if count < agreeing else 1))
    return comparison


def test_agreement_and_differences_are_of_all_inputs() -> None:
    """The class decides about agreement, every probability about the differences."""
    comparison = Comparison()
    comparison.add("a", _answer(3, 0.91), _answer(3, 0.82))
    comparison.add("b", _answer(3, 0.91), _answer(4, 0.91))
    evidence = _evidence(comparison)
    assert (evidence.compared, evidence.agreeing, evidence.agreement) == (2, 1, 0.5)
    assert evidence.largest_difference == pytest.approx(0.9)
    assert evidence.mean_difference == pytest.approx((0.09 + 9 * 0.01 + 2 * 0.9) / 20)
    assert [(flip.baseline, flip.candidate, flip.count) for flip in evidence.flips] == [("Dress", "Coat", 1)]
    assert (evidence.accuracy, evidence.latencies) == (None, ())


def test_flips_are_counted_and_the_largest_are_kept_with_their_pictures() -> None:
    """The most frequent pair first; of 30 flips the 24 with the largest difference, the earlier one of two equal."""
    comparison = Comparison()
    for count in range(30):
        probability = 0.92 + 0.005 * (count // 2)
        candidate = _answer(2 if count % 3 else 4, probability)
        comparison.add(f"{count}", _answer(6), candidate, pixels=partial(bytes, [count]))
    evidence = _evidence(comparison)
    assert [(flip.baseline, flip.candidate, flip.count) for flip in evidence.flips] == [
        ("Shirt", "Pullover", 20),
        ("Shirt", "Coat", 10),
    ]
    names = [example.name for example in evidence.examples]
    assert len(names) == EXAMPLES == 24
    differences = [example.difference or 0 for example in evidence.examples]
    assert differences == sorted(differences, reverse=True)
    assert [str(picture[0]) for picture in comparison.pictures] == names
    assert names[-2:] == ["6", "7"]


def test_a_picture_that_flips_again_is_kept_once() -> None:
    """The first time; inputs without a picture are all kept."""
    comparison = Comparison()
    for number, pixels in enumerate([b"a", b"b", b"a", b"", b""]):
        comparison.add(f"{number}", _answer(0), _answer(1), pixels=partial(bytes, pixels))
    assert comparison.pictures == [b"a", b"b", b"", b""]
    evidence = _evidence(comparison)
    assert [example.name for example in evidence.examples] == ["0", "1", "3", "4"]
    assert evidence.flips[0].count == 5


def test_accuracy_is_of_labelled_inputs_and_says_who_was_right() -> None:
    """An input without a label is compared, but is neither right nor wrong."""
    comparison = Comparison()
    pairs = [(0, 0, 0), (0, 0, 1), (0, 0, 1), (0, 1, 0), (0, 2, 2)]
    for label, baseline, candidate in pairs:
        comparison.add("x", _answer(baseline), _answer(candidate), label=label)
    comparison.add("x", _answer(5), _answer(5))
    accuracy = _evidence(comparison).accuracy
    assert accuracy
    assert (accuracy.labelled, accuracy.both_right) == (5, 1)
    assert (accuracy.only_baseline_right, accuracy.only_candidate_right) == (2, 1)
    assert (accuracy.baseline, accuracy.candidate, accuracy.p_value) == (0.6, 0.4, 1.0)


@pytest.mark.parametrize("value", [math.nan, math.inf, -math.inf])
def test_an_answer_that_is_no_number_is_told_and_never_averaged(value: float) -> None:
    """It agrees with nothing, is right about nothing, and leaves the differences of the others as they are."""
    comparison = Comparison()
    comparison.add("good", _answer(0, 0.91), _answer(0, 0.82), label=0)
    broken = Answer(0, [0.91, value, *[0.0] * 8])
    comparison.add("bad", _answer(0), broken, label=0)
    comparison.add("both", broken, broken, label=0)
    evidence = _evidence(comparison)
    assert (evidence.baseline.not_numbers, evidence.candidate.not_numbers) == (1, 2)
    assert (evidence.compared, evidence.agreeing) == (3, 1)
    assert evidence.largest_difference == pytest.approx(0.09)
    assert evidence.accuracy
    assert (evidence.accuracy.baseline, evidence.accuracy.candidate) == (2 / 3, 1 / 3)
    assert evidence.examples[0].candidate == "NaN"
    assert evidence.examples[0].difference is None
    json.dumps(evidence.to_json(), allow_nan=False)


def test_without_a_number_there_is_no_difference() -> None:
    """Not even 0."""
    comparison = Comparison()
    comparison.add("bad", _answer(0), _nan())
    evidence = _evidence(comparison)
    assert (evidence.largest_difference, evidence.mean_difference) == (None, None)


def test_evidence_comes_back_from_json_as_it_was() -> None:
    """With what follows from the counts written beside them, and without labels and latencies too."""
    comparison = _counted(3, 1)
    bare = _evidence(comparison)
    comparison.add("c", _answer(0), _nan(), label=0)
    full = _evidence(comparison, _LATENCY)
    for evidence in (bare, full):
        record = json.loads(json.dumps(evidence.to_json()))
        assert Evidence.from_json(record) == Evidence.from_json(evidence.to_json()) == evidence
        assert record["agreement"] == evidence.agreement
        assert tuple(record["agreement_interval"]) == evidence.interval
    record = full.to_json()
    assert record["accuracy"]["p_value"] == 1
    assert record["latencies"][0]["ratio"] == 1.25


@pytest.mark.parametrize(
    ("change", "error"),
    [
        ({"compared": "ten"}, "evidence with compared 'ten'"),
        ({"compared": 3}, "evidence with 4 of 3 inputs agreeing"),
        ({"baseline": None}, "evidence without side"),
        ({"candidate": {"server": ""}}, "evidence without name"),
        ({"flips": 3}, "evidence with flips 3"),
        ({"latencies": [{}]}, "evidence without in_flight"),
        ({"date": 2026}, "evidence with date 2026"),
        (
            {"accuracy": {"labelled": 0, "both_right": 0, "only_baseline_right": 0, "only_candidate_right": 0}},
            "0 labels",
        ),
    ],
)
def test_what_is_no_evidence_is_refused_with_its_reason(change: dict[str, Any], error: str) -> None:
    """And with what would be."""
    with pytest.raises(EvidenceError, match=error) as raised:
        Evidence.from_json(_evidence(_counted(4, 0)).to_json() | change)
    assert raised.value.exit_code == 2
    assert "give what `fashion compare --json` printed" in str(raised.value)


def test_json_that_is_no_object_is_no_evidence() -> None:
    """Nor is one without a count."""
    with pytest.raises(EvidenceError, match="evidence is a JSON object, not list"):
        Evidence.from_json([])
    record = _evidence(_counted(4, 0)).to_json()
    del record["compared"]
    with pytest.raises(EvidenceError, match="evidence without compared"):
        Evidence.from_json(record)


@pytest.mark.parametrize(("agreeing", "holds"), [(98, True), (97, False)])
def test_agreement_is_held_to_its_minimum(agreeing: int, holds: bool) -> None:
    """At the minimum it holds."""
    texts = Thresholds(min_agreement=0.98).objections(_evidence(_counted(agreeing, 100 - agreeing)))
    expected = "agreement 0.9700 (95 % interval 0.9155 to 0.9897, 100 inputs) is below 0.98"
    assert texts == ([] if holds else [expected])


@pytest.mark.parametrize(("right", "holds"), [(87, True), (86, False)])
def test_accuracy_may_fall_by_so_much(right: int, holds: bool) -> None:
    """0.88 to 0.87 is a fall of 0.01, though not as floats."""
    comparison = Comparison()
    for count in range(100):
        comparison.add("x", _answer(0 if count < 88 else 1), _answer(0 if count < right else 1), label=0)
    texts = Thresholds(max_accuracy_drop=0.01).objections(_evidence(comparison))
    expected = "accuracy 0.8600 is 0.0200 below 0.8800 (p 0.5), more than 0.01"
    assert texts == ([] if holds else [expected])


@pytest.mark.parametrize(("ratio", "holds"), [(1.25, True), (1.24, False)])
def test_latency_is_held_to_its_ratio(ratio: float, holds: bool) -> None:
    """Of the medians, for each number in flight."""
    texts = Thresholds(max_latency_ratio=ratio).objections(_evidence(_counted(1, 0), _LATENCY))
    assert texts == ([] if holds else [_SLOWER])


def test_what_no_candidate_may_do_needs_no_threshold() -> None:
    """Answers that are no numbers, inputs that it alone refuses, and a comparison of nothing."""
    assert Thresholds().objections(_evidence(_counted(0, 9))) == []
    assert Thresholds(min_agreement=0.5).objections(_evidence(Comparison())) == [
        "no input was answered by both, so nothing was compared"
    ]
    comparison = _counted(9, 0)
    comparison.add("x", _answer(0), _nan())
    refusing = Side("canary", version=7, refused=2, refusal="INVALID_ARGUMENT: no")
    assert Thresholds().objections(_evidence(comparison, candidate=refusing)) == [
        "1 answers of canary (version 7) are not numbers (NaN or infinite)",
        "canary (version 7) refused 2 inputs, stable (version 6) 0: INVALID_ARGUMENT: no",
    ]


def test_a_side_is_named_with_its_version() -> None:
    """Once, where the name is the number."""
    assert [str(side) for side in (_BASELINE, _CANDIDATE, Side("recorded"))] == ["stable (version 6)", "7", "recorded"]

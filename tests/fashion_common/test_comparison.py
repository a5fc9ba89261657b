"""Two answers to each of many inputs become evidence, and evidence is held to thresholds."""

from __future__ import annotations

import json
import math
import re
from dataclasses import replace
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
        ({"agreeing": -1}, "evidence with -1 of 4 inputs agreeing"),
        ({"largest_difference": "0"}, "evidence with largest_difference '0'"),
        ({"inputs": "a.npy"}, "evidence with inputs 'a.npy'"),
        ({"examples": [None]}, "evidence without example"),
        ({"baseline": None}, "evidence without side"),
        ({"candidate": {"server": ""}}, "evidence without name"),
        ({"flips": 3}, "evidence with flips 3"),
        ({"latencies": [{}]}, "evidence without in_flight"),
        ({"date": 2026}, "evidence with date 2026"),
        (
            {"accuracy": {"labelled": 0, "both_right": 0, "only_baseline_right": 0, "only_candidate_right": 0}},
            "evidence with 0 labels",
        ),
        (
            {"accuracy": {"labelled": 5, "both_right": 5, "only_baseline_right": 0, "only_candidate_right": 0}},
            "evidence with 5 labels",
        ),
    ],
)
def test_what_is_no_evidence_is_refused_with_its_reason(change: dict[str, Any], error: str) -> None:
    """And with what would be."""
    with pytest.raises(EvidenceError) as raised:
        Evidence.from_json(_evidence(_counted(4, 0)).to_json() | change)
    assert raised.value.exit_code == 2
    assert str(raised.value) == f"{error}: give what `fashion compare --json` printed"


def test_evidence_at_its_limits_is_read() -> None:
    """No input agreeing, all of them labelled, and whole numbers where there may be fractions."""
    record = _evidence(_counted(0, 4)).to_json()
    counts = {"labelled": 4, "both_right": 1, "only_baseline_right": 0, "only_candidate_right": 2}
    evidence = Evidence.from_json(record | {"accuracy": counts, "largest_difference": 1, "inputs": [7]})
    assert (evidence.agreeing, evidence.agreement, evidence.largest_difference) == (0, 0.0, 1)
    assert evidence.inputs == ("7",)
    assert evidence.accuracy
    assert (evidence.accuracy.baseline, evidence.accuracy.candidate, evidence.accuracy.p_value) == (0.25, 0.75, 0.5)
    # Latencies and what else may be missing are those of a comparison without them.
    for name in ("accuracy", "latencies", "flips", "examples", "inputs"):
        record.pop(name)
    bare = Evidence.from_json(record)
    assert (bare.accuracy, bare.latencies, bare.flips, bare.examples, bare.inputs) == (None, (), (), (), ())


def test_the_json_of_a_record_says_what_follows_from_its_counts() -> None:
    """All of it, with the sides, the flips, the examples and what is known of the labels."""
    comparison = Comparison()
    comparison.add("a", _answer(0), _answer(0), label=0)
    comparison.add("b", _answer(0, 0.91), _answer(1, 0.73), label=1)
    evidence = _evidence(comparison, _LATENCY)
    assert evidence.to_json() == {
        "model_name": "fashion_mnist",
        "date": evidence.date,
        "baseline": {
            "name": "stable", "server": "grpc://127.0.0.1:8500", "version": 6, "not_numbers": 0, "refused": 0,
            "refusal": "",
        },
        "candidate": {
            "name": "7", "server": "grpc://127.0.0.1:8500", "version": 7, "not_numbers": 0, "refused": 0,
            "refusal": "",
        },
        "inputs": ("a.npy",),
        "sha256": "00",
        "compared": 2,
        "agreeing": 1,
        "largest_difference": pytest.approx(0.88),
        "mean_difference": pytest.approx((0.88 + 0.72 + 8 * 0.02) / 20),
        "accuracy": {
            "baseline": 0.5, "candidate": 1.0, "p_value": 1.0, "labelled": 2, "both_right": 1,
            "only_baseline_right": 0, "only_candidate_right": 1,
        },
        "latencies": (
            {
                "in_flight": 1, "baseline_p50_ms": 1.0, "baseline_p99_ms": 3.0, "baseline_requests": 900,
                "candidate_p50_ms": 1.25, "candidate_p99_ms": 2.0, "candidate_requests": 800, "ratio": 1.25,
            },
        ),
        "flips": ({"baseline": "T-shirt/top", "candidate": "Trouser", "count": 1},),
        "examples": (
            {
                "name": "b", "label": "Trouser", "baseline": "T-shirt/top", "baseline_probability": 0.91,
                "candidate": "Trouser", "candidate_probability": 0.73, "difference": pytest.approx(0.88),
            },
        ),
        "agreement": 0.5,
        "agreement_interval": evidence.interval,
    }  # fmt: skip
    assert re.fullmatch(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\+00:00", evidence.date)


def test_what_a_record_does_not_say_is_no_agreement() -> None:
    """Of nothing compared nothing agrees, and the interval is everything."""
    evidence = _evidence(Comparison())
    assert (evidence.agreement, evidence.interval, evidence.accuracy) == (0.0, (0.0, 1.0), None)


def test_json_that_is_no_object_is_no_evidence() -> None:
    """Nor is one without a count."""
    with pytest.raises(EvidenceError, match=r"^evidence is a JSON object, not list: give what --json printed$"):
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
    slow = replace(_LATENCY, in_flight=8, ratio=2.0)
    texts = Thresholds(max_latency_ratio=ratio).objections(_evidence(_counted(1, 0), _LATENCY, slow))
    assert texts == [
        *([] if holds else [_SLOWER]),
        f"latency is 2.00 times the baseline's with 8 in flight (p50 1.25 and 1.00 ms), more than {ratio:g}",
    ]
    assert Thresholds().objections(_evidence(_counted(1, 0), _LATENCY, slow)) == []


def test_all_that_speaks_against_a_candidate_is_told() -> None:
    """The failures first, then agreement, accuracy and latency."""
    comparison = Comparison()
    comparison.add("x", _answer(0), _answer(1), label=0)
    comparison.add("y", _answer(0), _nan(), label=0)
    candidate = replace(_CANDIDATE, refused=1, refusal="INTERNAL: no")
    texts = Thresholds(0.5, 0.25, 1.24).objections(_evidence(comparison, _LATENCY, candidate=candidate))
    assert texts == [
        "1 answers of 7 are not numbers (NaN or infinite)",
        "7 refused 1 inputs, stable (version 6) 0: INTERNAL: no",
        "agreement 0.0000 (95 % interval 0.0000 to 0.6576, 2 inputs) is below 0.5",
        "accuracy 0.0000 is 1.0000 below 1.0000 (p 0.5), more than 0.25",
        _SLOWER,
    ]


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
    # What both refuse speaks against neither.
    equal = _counted(9, 0).evidence("m", replace(_BASELINE, refused=2), refusing, inputs=[], sha256="")
    assert Thresholds().objections(equal) == []


def test_a_side_is_named_with_its_version() -> None:
    """Once, where the name is the number."""
    sides = (_BASELINE, _CANDIDATE, Side("recorded"))
    assert [str(side) for side in sides] == ["stable (version 6)", "7", "recorded"]
    assert [side.number for side in sides] == ["version 6", "version 7", ""]

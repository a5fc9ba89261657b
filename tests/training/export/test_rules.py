"""What a model is held to before it becomes a version, on figures alone."""

from __future__ import annotations

from pathlib import Path
from typing import Any, cast

import pytest

from fashion_common.evidence import Evidence, Side
from training.errors import TrainingError
from training.export.acceptance import accept, accept_signatures
from training.export.form import Form
from training.export.trained import TrainedModel

BEFORE = (4, {"accuracy": 0.875, "data": {"name": "fashion_mnist"}})


def candidate(accuracy: float | None, data: str | None = "fashion_mnist", *objections: str) -> TrainedModel:
    """A model that was measured so; what it is served as does not matter."""
    metrics = {} if accuracy is None else {"test_accuracy": accuracy}
    facts = {"name": data} if data else {}
    return TrainedModel(cast("Form", None), "run", (), metrics=metrics, data=facts, objections=objections)


def evidence(agreeing: int) -> Evidence:
    """Of a hundred recorded inputs."""
    sides = Side("recorded", version=1), Side("run")
    return Evidence("m", "2026-01-02T03:04:05+00:00", *sides, ("a",), "0", 100, agreeing, 0.0, 0.0)


def objections(model: TrainedModel, before: tuple[int, dict[str, Any]] | None = None, **options: Any) -> list[str]:
    """What speaks against a model; checks that it is refused with these words unless it is forced."""
    rules: dict[str, Any] = {"min_accuracy": None, "max_regression": 0.015625, **options}
    found = accept(model, before, force=True, **rules)
    if found:
        with pytest.raises(TrainingError) as error:
            accept(model, before, force=False, **rules)
        assert str(error.value) == f"Not exported: {'; '.join(found)} (--force exports it all the same)"
        assert error.value.exit_code == 1
    else:
        assert accept(model, before, force=False, **rules) == []
    return found


@pytest.mark.parametrize(
    ("accuracy", "minimum", "expected"),
    [
        (0.75, 0.75, []),
        (0.75, None, []),
        (None, None, []),
        (0.0, 0.0, []),
        (0.7499, 0.75, ["accuracy 0.7499 is below --min-accuracy 0.75"]),
        (None, 0.0, ["accuracy unknown is below --min-accuracy 0"]),
    ],
)
def test_the_least_accuracy(accuracy: float | None, minimum: float | None, expected: list[str]) -> None:
    """Is enough; one that is not known is not."""
    assert objections(candidate(accuracy), min_accuracy=minimum) == expected


@pytest.mark.parametrize(
    ("model", "expected"),
    [
        (candidate(0.859375), []),
        (candidate(0.95), []),
        (
            candidate(0.8593),
            ["accuracy 0.8593 is 0.0157 below version 4's 0.8750, more than --max-regression 0.015625"],
        ),
        (
            candidate(None),
            ["accuracy unknown on fashion_mnist cannot be compared with version 4's 0.8750 on fashion_mnist"],
        ),
        (
            candidate(0.9, "synthetic"),
            ["accuracy 0.9000 on synthetic cannot be compared with version 4's 0.8750 on fashion_mnist"],
        ),
        (
            candidate(0.9, None),
            ["accuracy 0.9000 on unknown data cannot be compared with version 4's 0.8750 on fashion_mnist"],
        ),
    ],
)
def test_the_version_before_is_not_to_be_missed_by_much(model: TrainedModel, expected: list[str]) -> None:
    """On the same images, by --max-regression at most."""
    assert objections(model, BEFORE) == expected


@pytest.mark.parametrize(
    ("manifest", "expected"),
    [
        ({}, []),
        ({"accuracy": None}, []),
        ({"accuracy": "0.99"}, []),
        ({"accuracy": 0}, ["accuracy 0.5000 on fashion_mnist cannot be compared with version 2's 0.0000 on None"]),
        (
            {"accuracy": 1, "data": None},
            ["accuracy 0.5000 on fashion_mnist cannot be compared with version 2's 1.0000 on None"],
        ),
        (
            {"accuracy": 1, "data": {"name": "fashion_mnist"}},
            ["accuracy 0.5000 is 0.5000 below version 2's 1.0000, more than --max-regression 0.015625"],
        ),
    ],
)
def test_manifests_of_any_release_are_read(manifest: dict[str, Any], expected: list[str]) -> None:
    """Where no accuracy is in one, there is nothing to compare with."""
    assert objections(candidate(0.5), (2, manifest)) == expected


def test_what_speaks_against_a_model_comes_in_order() -> None:
    """Its own doubts, the recordings, the accuracy, and the version before."""
    found = objections(candidate(0.5, "fashion_mnist", "doubtful"), BEFORE, min_accuracy=0.9, replayed=evidence(89))
    assert found == [
        "doubtful",
        "agreement 0.8900 (95 % interval 0.8137 to 0.9375, 100 inputs) is below 0.9",
        "accuracy 0.5000 is below --min-accuracy 0.9",
        "accuracy 0.5000 is 0.3750 below version 4's 0.8750, more than --max-regression 0.015625",
    ]


def test_recordings_are_to_be_agreed_with() -> None:
    """On nine of ten inputs, or on as many as are asked for."""
    assert objections(candidate(0.9), replayed=evidence(90)) == []
    assert objections(candidate(0.9), replayed=evidence(89), min_agreement=0.89) == []
    assert len(objections(candidate(0.9), replayed=evidence(90), min_agreement=0.91)) == 1
    assert objections(candidate(0.9), replayed=None, min_agreement=1.0) == []


TENSOR = {"dtype": "DT_FLOAT", "shape": [None, 28, 28]}
SIGNATURE = {"inputs": {"images": TENSOR}, "outputs": {"scores": TENSOR, "classes": TENSOR}}


@pytest.mark.parametrize(
    ("now", "expected"),
    [
        ({"a": SIGNATURE, "b": SIGNATURE}, []),
        ({"a": SIGNATURE, "b": SIGNATURE, "c": {"inputs": {}, "outputs": {}}}, []),
        ({"a": SIGNATURE, "b": SIGNATURE | {"outputs": {**SIGNATURE["outputs"], "more": TENSOR}}}, []),
        ({"a": SIGNATURE}, ["version 4 has the signature b, which this one lacks"]),
        (
            {"a": SIGNATURE | {"outputs": {}}, "b": SIGNATURE | {"outputs": {"scores": TENSOR}}},
            [
                "a does not give classes, scores, as it does in version 4",
                "b does not give classes, as it does in version 4",
            ],
        ),
        (
            {"a": SIGNATURE | {"inputs": {"x": TENSOR, "y": {"dtype": "DT_INT64", "shape": [None]}}}, "b": SIGNATURE},
            [
                "a takes x DT_FLOAT [None, 28, 28], y DT_INT64 [None], and images DT_FLOAT [None, 28, 28] in version 4",
            ],
        ),
    ],
)
def test_clients_of_the_version_before_are_served_as_before(now: dict[str, Any], expected: list[str]) -> None:
    """More signatures and outputs are no matter."""
    before = (4, {"signatures": {"a": SIGNATURE, "b": SIGNATURE}})
    assert accept_signatures(now, before, force=True) == expected
    if expected:
        with pytest.raises(TrainingError) as error:
            accept_signatures(now, before, force=False)
        assert str(error.value) == f"Not exported: {'; '.join(expected)} (--force exports it all the same)"
    else:
        assert accept_signatures(now, before, force=False) == []
    for nothing in (None, (4, {}), (4, {"signatures": None})):
        assert accept_signatures(now, nothing, force=False) == []


def test_the_accuracy_is_that_on_the_test_images(tmp_path: Path) -> None:
    """Not the one that choices depended on."""
    model = TrainedModel(cast("Form", None), str(tmp_path), (), metrics={"validation_accuracy": 0.5})
    assert model.accuracy is None

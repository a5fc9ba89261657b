"""How far answers are from the test set's: the index, and what `fashion doctor` says of it."""

from __future__ import annotations

import math

import pytest

from client.commands.doctor import diagnose
from client.commands.drift import Drift, drifts, stability_index
from client.connection import Connection
from client.transports.base import Exchange
from client.transports.fake import FakeTransport
from client.types import ModelSpec


def exposition(live: dict[str, int], tested: dict[str, int], version: int = 7) -> str:
    """Metrics of a version of `m` with these predictions by class; all are sure."""
    lines = []
    for source, classes in (("live", live), ("test_set", tested)):
        labels = f'model_name="m",source="{source}",version="{version}"'
        lines += [
            f':fashion:distribution:prediction_count{{class_id="{class_id}",{labels}}} {count}.0'
            for class_id, count in classes.items()
        ]
        if classes:
            lines.append(
                f':fashion:distribution:confidence_count{{confidence="0.9",{labels}}} {sum(classes.values())}.0'
            )
    return "\n".join([*lines, ":fashion:distribution:prediction_count{broken", ""])


def test_the_index() -> None:
    """0 for the same shares; by hand for two categories, with half a count added to each."""
    assert stability_index({"a": 10, "b": 30}, {"a": 10, "b": 30}) == 0
    shares = {"expected": (100.5 / 201, 100.5 / 201), "actual": (150.5 / 201, 50.5 / 201)}
    index = sum((a - e) * math.log(a / e) for e, a in zip(*shares.values(), strict=True))
    assert stability_index({"a": 100, "b": 100}, {"a": 150, "b": 50}) == pytest.approx(index)
    assert math.isfinite(stability_index({"a": 10}, {"b": 10}))


def test_versions_are_told_apart() -> None:
    """The newest first; one without answers, or without a test set, has nothing to compare; nor has another model."""
    text = "".join(
        (
            exposition({"1": 5}, {"1": 50}, 6), exposition({"1": 5}, {"1": 50}, 7), exposition({"1": 5}, {}, 8),
            exposition({}, {"1": 5}, 9), exposition({"1": 5}, {"1": 5}, 10).replace('"m"', '"other"'),
        )
    )  # fmt: skip
    found = list(drifts(text, "m"))
    assert found == [Drift(7, 5, found[0].indices), Drift(6, 5, found[1].indices)]
    assert set(found[0].indices) == {"classes", "confidence"}


class WithMetrics(FakeTransport):
    """A server with these metrics."""

    text = ""

    def metrics(self) -> Exchange[str]:
        """Read as the text."""
        return Exchange(None, lambda _: self.text)


@pytest.mark.parametrize(
    ("live", "state", "seen"),
    [
        ({"0": 199}, "ok", "199 predictions, fewer than 200 say nothing"),
        ({"0": 100, "1": 100}, "ok", "200 predictions, population stability index to the test set: classes 0.00, "),
        ({"0": 200}, "warning", "200 predictions, population stability index to the test set: classes 2."),
    ],
)
def test_doctor_says_when_answers_are_far_from_the_test_sets(live: dict[str, int], state: str, seen: str) -> None:
    """From 200 predictions on, above an index of 0.25; with the fix."""
    transport = WithMetrics()
    transport.text = exposition(live, {"0": 500, "1": 500})
    with Connection([transport], ModelSpec("m")) as connection:
        [finding] = [each for each in diagnose(connection) if each.check == "drift"]
    assert (finding.state, finding.seen.startswith(f"version 7: {seen}")) == (state, True), finding.seen
    assert bool(finding.fix) == (state == "warning")

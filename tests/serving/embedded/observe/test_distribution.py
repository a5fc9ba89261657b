"""What a classifier answers, counted by class and by confidence."""

from __future__ import annotations

import re

import numpy as np
import pytest

from serving.embedded.observe.distribution import Distribution
from serving.embedded.observe.metrics import Metrics

Counts = dict[tuple[str, int], tuple[list[int], list[int]]]


@pytest.fixture
def counts() -> Counts:
    """What was counted, by model and version."""
    return {}


@pytest.fixture
def distribution(counts: Counts) -> Distribution:
    """One that adds to `counts`."""

    def count(model: str, version: int, classes: list[int], confidence: list[int]) -> None:
        before = counts.get((model, version), ([0] * len(classes), [0] * len(confidence)))
        sums = [[a + b for a, b in zip(*pair, strict=True)] for pair in zip(before, (classes, confidence), strict=True)]
        counts[model, version] = sums[0], sums[1]

    return Distribution(count)  # type: ignore[arg-type]


def rows(*values: tuple[float, ...]) -> np.ndarray:
    """float32 [N, classes]."""
    return np.array(values, np.float32)


def test_classes_and_confidence_are_counted_by_version(distribution: Distribution, counts: Counts) -> None:
    """Confidence in tenths, of which the last has 1 too; a row with NaN is of no class."""
    distribution.add("m", 1, rows((0.25, 0.75), (1.0, 0.0)))
    distribution.add("m", 2, rows((0.05, 0.05)))
    distribution.add("m", 1, rows((np.nan, 0.5), (0.9, 0.05)))
    distribution.flush()
    assert counts["m", 1] == ([2, 1], [0, 0, 0, 0, 0, 0, 0, 1, 0, 2])
    assert counts["m", 2] == ([1, 0], [1, *[0] * 9])


@pytest.mark.parametrize(("runs", "size"), [(256, 1), (1, 4096), (2, 2048)])
def test_it_is_counted_before_much_waits(distribution: Distribution, counts: Counts, runs: int, size: int) -> None:
    """256 arrays, or 4,096 rows; one fewer waits."""
    for _ in range(runs - 1):
        distribution.add("m", 1, np.eye(10, dtype=np.float32)[np.zeros(size, int)])
    distribution.add("m", 1, np.eye(10, dtype=np.float32)[np.zeros(size - 1, int)])
    if runs == 256:
        assert counts["m", 1][0][0] == 255
        return
    assert not counts
    distribution.add("m", 1, np.eye(10, dtype=np.float32)[np.zeros(1, int)])
    assert counts["m", 1][0][0] == runs * size


@pytest.mark.parametrize("shape", [(3,), (1, 0), (1, 101), (1, 2, 3)])
def test_what_is_no_row_of_classes_is_not_counted(
    distribution: Distribution, counts: Counts, shape: tuple[int, ...]
) -> None:
    """An output of that name may be anything; 100 classes are counted."""
    distribution.add("m", 1, np.zeros(shape, np.float32))
    distribution.add("m", 1, np.zeros((1, 100), np.float32))
    distribution.flush()
    assert [len(classes) for classes, _ in counts.values()] == [100]


def test_the_metrics_have_both_distributions() -> None:
    """Live predictions beside those of the test set; what is 0 is not there."""
    metrics = Metrics()
    metrics.predictions.add("m", 7, rows((0.25, 0.75), (0.1, 0.9)))
    metrics.distribution("test_set", "m", 7, [3, 0], [0, 0, 0, 0, 0, 0, 0, 0, 1, 2])
    text = metrics.exposition().decode()
    found = re.findall(r"^:fashion:distribution:(\w+)\{(.*)\} (\S+)$", text, re.MULTILINE)
    live, tested = (f'model_name="m",source="{source}",version="7"' for source in ("live", "test_set"))
    assert sorted(found) == [
        ("confidence_count", f'confidence="0.7",{live}', "1.0"),
        ("confidence_count", f'confidence="0.8",{tested}', "1.0"),
        ("confidence_count", f'confidence="0.9",{live}', "1.0"),
        ("confidence_count", f'confidence="0.9",{tested}', "2.0"),
        ("prediction_count", f'class_id="0",{tested}', "3.0"),
        ("prediction_count", f'class_id="1",{live}', "2.0"),
    ]

"""The settings of a run: what they may hold, what is refused, and how they are written down."""

from __future__ import annotations

import math
from dataclasses import FrozenInstanceError
from typing import Any

import pytest

from training.config import SETTINGS, Range, TrainingConfig
from training.errors import TrainingUsageError

# The last value that is allowed at each end of each range, the first beyond it, and the rule in the message.
BOUNDS: list[tuple[str, float, float, str]] = [
    ("epochs", 1, 0, "at least 1 and at most 1,000,000,000"),
    ("epochs", 10**9, 10**9 + 1, "at least 1 and at most 1,000,000,000"),
    ("batch_size", 1, 0, "at least 1 and at most 1,000,000,000"),
    ("batch_size", 10**9, 10**9 + 1, "at least 1 and at most 1,000,000,000"),
    ("steps_per_execution", 1, 0, "at least 1 and at most 1,000,000,000"),
    ("steps_per_execution", 10**9, 10**9 + 1, "at least 1 and at most 1,000,000,000"),
    ("learning_rate", math.nextafter(0, 1), 0, "above 0 and below inf"),
    ("learning_rate", math.nextafter(math.inf, 0), math.inf, "above 0 and below inf"),
    ("warmup", 0, math.nextafter(0, -1), "at least 0 and below 1"),
    ("warmup", math.nextafter(1, 0), 1, "at least 0 and below 1"),
    ("weight_decay", 0, math.nextafter(0, -1), "at least 0 and below inf"),
    ("weight_decay", math.nextafter(math.inf, 0), math.inf, "at least 0 and below inf"),
    ("dropout", 0, math.nextafter(0, -1), "at least 0 and below 1"),
    ("dropout", math.nextafter(1, 0), 1, "at least 0 and below 1"),
    ("shift", 0, math.nextafter(0, -1), "at least 0 and at most 1"),
    ("shift", 1, math.nextafter(1, 2), "at least 0 and at most 1"),
    ("teacher_weight", 0, math.nextafter(0, -1), "at least 0 and at most 1"),
    ("teacher_weight", 1, math.nextafter(1, 2), "at least 0 and at most 1"),
    ("early_stopping", 0, -1, "at least 0 and at most 1,000,000,000"),
    ("early_stopping", 10**9, 10**9 + 1, "at least 0 and at most 1,000,000,000"),
    ("seed", 0, -1, "at least 0 and at most 4,294,967,295"),
    ("seed", 2**32 - 1, 2**32, "at least 0 and at most 4,294,967,295"),
]


@pytest.mark.parametrize(("name", "last", "beyond", "rule"), BOUNDS)
def test_each_bound_is_held_exactly_and_named(name: str, last: float, beyond: float, rule: str) -> None:
    """The last value is taken, the next one is refused by a rule that is true for both ends."""
    assert getattr(TrainingConfig.from_json({name: last}), name) == last
    with pytest.raises(TrainingUsageError) as error:
        TrainingConfig.from_json({name: beyond})
    assert str(error.value) == f"{name} {beyond} must be {rule}"


def test_every_range_has_its_bounds_tested() -> None:
    """A setting that gets a range gets two lines in the table above."""
    ranges = [name for name, setting in SETTINGS.items() if isinstance(setting.rule, Range)]
    assert sorted(name for name, *_ in BOUNDS) == sorted([*ranges, *ranges])


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"learning_rate": float("nan")}, "learning_rate nan must be above 0 and below inf"),
        ({"model": "cnn"}, "model 'cnn' is unknown: choose one of perceptron, mlp"),
        ({"epochs": "3"}, "epochs '3' must be of type int"),
        ({"epochs": True}, "epochs True must be of type int"),
        ({"recipe": 3}, "recipe 3 must be of type str"),
        ({"loop": "fit", "shift": 0.5}, "shift 0.5 needs loop custom, not fit"),
        ({"loop": "fit", "teacher": "cnn"}, "teacher cnn needs loop custom, not fit"),
        ({"loop": "fit", "strategy": "mirrored"}, "strategy mirrored needs loop custom, not fit"),
        (
            {"model": "perceptron", "batch_norm": True},
            "batch_norm and dropout act on hidden units, and the perceptron has none: use mlp",
        ),
        (
            {"strategy": "mirrored", "teacher": "cnn"},
            "teacher cnn does not go with strategy mirrored: leave one of them out",
        ),
        (
            {"strategy": "mirrored", "jit_compile": True},
            "jit_compile True does not go with strategy mirrored: leave one of them out",
        ),
    ],
)
def test_impossible_values_are_refused(settings: dict[str, Any], message: str) -> None:
    """The message names the value and the rule."""
    with pytest.raises(TrainingUsageError) as error:
        TrainingConfig.from_json(settings)
    assert str(error.value) == message


def test_a_configuration_cannot_be_changed() -> None:
    """It is frozen: a run ends with the settings that it began with."""
    with pytest.raises(FrozenInstanceError):
        TrainingConfig().epochs = 1  # type: ignore[misc]


def test_what_a_run_wrote_can_be_read_again() -> None:
    """Every field comes back, and a field that there is not is refused by its name."""
    config = TrainingConfig(recipe="mine", seed=5, learning_rate=1, batch_norm=True)
    assert TrainingConfig.from_json(config.to_json()) == config
    with pytest.raises(TrainingUsageError, match="unknown setting depth: known are recipe, dataset, "):
        TrainingConfig.from_json(config.to_json() | {"depth": 3})

"""The optimizer and the learning rate of each step, against values worked out by hand."""

from __future__ import annotations

import math
from typing import Any

import keras
import numpy as np
import pytest

from training.config import TrainingConfig
from training.fit import optimizers

COSINE: dict[str, Any] = {"epochs": 2, "batch_size": 10, "learning_rate": 0.1, "schedule": "cosine"}


def half_cosine(part: float) -> float:
    """A cosine schedule's share of the highest rate when that part of its steps is done."""
    return 0.5 * (1 + math.cos(math.pi * part))


@pytest.mark.parametrize(
    ("settings", "images", "rates"),
    [
        ({"warmup": 0.25}, 100, {0: 0.01, 2: 0.046, 5: 0.1, 11: 0.1 * half_cosine(6 / 15), 20: 0.0}),
        ({"warmup": 0.0}, 100, {0: 0.1, 5: 0.1 * half_cosine(1 / 4), 10: 0.05, 20: 0.0}),
        ({"warmup": 0.049}, 100, {0: 0.1, 10: 0.05, 20: 0.0}),
        ({"warmup": 0.05}, 100, {0: 0.01, 1: 0.1, 20: 0.0}),
        ({"warmup": 0.0}, 109, {10: 0.05, 20: 0.0}),
        ({"warmup": 0.0, "epochs": 4, "batch_size": 512}, 100, {0: 0.1, 1: 0.1 * half_cosine(1 / 4), 2: 0.05, 4: 0.0}),
    ],
    ids=["a quarter rises", "none rises", "less than a step", "one step", "images beyond the last batch", "one batch"],
)
def test_a_cosine_rises_from_a_tenth_and_ends_at_zero(
    settings: dict[str, Any], images: int, rates: dict[int, float]
) -> None:
    """Step by step over all epochs; what does not fill a batch makes no step, fewer images than a batch make one."""
    schedule = optimizers.learning_rate(TrainingConfig(**{**COSINE, **settings}), images)
    assert not isinstance(schedule, float)
    assert {step: float(schedule(step)) for step in rates} == pytest.approx(rates, abs=1e-7)


@pytest.mark.parametrize("schedule", ["constant", "exponential"])
def test_other_schedules_have_one_rate_for_every_step(schedule: str) -> None:
    """An exponential one is lowered by a callback, epoch by epoch."""
    assert optimizers.learning_rate(TrainingConfig(schedule=schedule, learning_rate=0.004), 100) == 0.004


def test_without_decay_it_is_plain_adam() -> None:
    """With the rate of the configuration."""
    optimizer = optimizers.build(TrainingConfig(schedule="constant", learning_rate=0.004), 100)
    assert type(optimizer) is keras.optimizers.Adam
    assert float(optimizer.learning_rate) == pytest.approx(0.004)


def test_decay_is_of_kernels_alone() -> None:
    """Without a gradient a kernel shrinks by rate times decay; biases and the scales of a normalisation stay."""
    model = keras.Sequential([keras.Input((3,)), keras.layers.Dense(2), keras.layers.BatchNormalization()])
    optimizer = optimizers.build(TrainingConfig(schedule="constant", learning_rate=0.5, weight_decay=0.2), 100)
    variables = model.trainable_variables
    for variable in variables:
        variable.assign(np.ones(variable.shape))
    optimizer.build(variables)
    optimizer.apply([np.zeros(variable.shape, np.float32) for variable in variables], variables)
    assert {variable.name: float(variable.numpy().reshape(-1)[0]) for variable in variables} == pytest.approx(
        {"kernel": 0.9, "bias": 1.0, "gamma": 1.0, "beta": 1.0}
    )

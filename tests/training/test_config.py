"""Configurations: recipes, overrides, and what is refused."""

from __future__ import annotations

from dataclasses import FrozenInstanceError
from typing import Any

import pytest

from training.config import RECIPES, from_json, resolve
from training.errors import TrainingUsageError


def test_an_override_changes_one_setting() -> None:
    """None leaves the recipe's value."""
    config = resolve("textbook", epochs=7, batch_size=None)
    assert (config.epochs, config.batch_size, config.recipe) == (7, 32, "textbook")


def test_recipes_cannot_be_changed() -> None:
    """They are frozen."""
    with pytest.raises(FrozenInstanceError):
        RECIPES["fast"].epochs = 1  # type: ignore[misc]


@pytest.mark.parametrize(
    ("overrides", "message"),
    [
        ({"epochs": 0}, "epochs 0 must be at least 1"),
        ({"learning_rate": -1.0}, "learning_rate -1.0 must be greater than 0"),
        ({"learning_rate": float("nan")}, "learning_rate nan must be greater than 0"),
        ({"warmup": 1.0}, "warmup 1.0 must be a share from 0 to below 1"),
        ({"seed": -1}, "seed -1 must be from 0 to 4294967295"),
        ({"model": "cnn"}, "model 'cnn' is unknown: choose one of perceptron, mlp"),
        ({"loop": "fit", "shift": 0.5}, "shift 0.5 needs loop custom, not fit"),
        ({"model": "perceptron", "batch_norm": True}, "batch_norm and dropout act on hidden units"),
        ({"strategy": "mirrored", "teacher": "cnn"}, "teacher does not go with strategy mirrored"),
        ({"depth": 3}, "unknown setting depth: known are "),
    ],
)
def test_impossible_values_are_refused(overrides: dict[str, Any], message: str) -> None:
    """The message names the value and the rule."""
    with pytest.raises(TrainingUsageError) as caught:
        resolve("fast", **overrides)
    assert str(caught.value).startswith(message)


def test_unknown_recipe_is_refused() -> None:
    """The message lists the known ones."""
    with pytest.raises(TrainingUsageError, match="recipe 'slow' is unknown: choose one of textbook, fast"):
        resolve("slow")


def test_what_a_run_wrote_can_be_read_again() -> None:
    """Every field comes back, and a wrong type is refused by its name."""
    config = resolve("accurate", seed=5)
    assert from_json(config.to_json()) == config
    with pytest.raises(TrainingUsageError, match="epochs '3' must be of type int"):
        from_json(config.to_json() | {"epochs": "3"})


def test_recipes_suit_what_they_are_given() -> None:
    """The perceptron has no hidden units to normalise, and few drawn images make small batches."""
    assert not resolve("fast", model="perceptron").batch_norm
    assert resolve("fast", dataset="synthetic").batch_size == 64
    assert resolve("fast", dataset="synthetic", batch_size=512).batch_size == 512

"""Recipes, and the overrides that make a run's configuration of one."""

from __future__ import annotations

import pytest

from training.errors import TrainingUsageError
from training.recipes import resolve


def test_an_override_changes_one_setting() -> None:
    """None leaves the recipe's value."""
    config = resolve("textbook", epochs=7, batch_size=None)
    assert (config.epochs, config.batch_size, config.recipe) == (7, 32, "textbook")


def test_unknown_recipe_is_refused() -> None:
    """The message lists the known ones."""
    with pytest.raises(TrainingUsageError, match="recipe 'slow' is unknown: choose one of textbook, fast"):
        resolve("slow")


def test_unknown_setting_is_refused() -> None:
    """So is a value that the configuration refuses."""
    with pytest.raises(TrainingUsageError, match="unknown setting depth: known are "):
        resolve("fast", depth=3)
    with pytest.raises(TrainingUsageError, match="epochs 0 must be at least 1 and at most 1,000,000,000"):
        resolve("fast", epochs=0)


def test_recipes_suit_the_model_and_the_data() -> None:
    """The perceptron has no hidden units to normalise, and few drawn images make small batches."""
    assert not resolve("fast", model="perceptron").batch_norm
    assert resolve("fast", dataset="synthetic").batch_size == 64
    assert resolve("fast", dataset="synthetic", batch_size=512).batch_size == 512

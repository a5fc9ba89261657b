"""Recipes, and the overrides that make a run's configuration of one."""

from __future__ import annotations

from dataclasses import asdict

import pytest

from training.errors import TrainingUsageError
from training.recipes import RECIPES, resolve


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


def test_the_recipes_are_those_that_were_measured() -> None:
    """What is on, or not 0, in each: README's accuracies and times are theirs."""
    settings = {
        name: {key: value for key, value in asdict(config).items() if value} for name, config in RECIPES.items()
    }
    common = {
        "dataset": "fashion_mnist", "model": "mlp", "api": "sequential", "teacher": "none", "teacher_weight": 0.5,
        "strategy": "none",
    }  # fmt: skip
    quick = common | {"loop": "custom", "schedule": "cosine", "steps_per_execution": 256, "batch_norm": True}
    assert settings == {
        "textbook": common | {
            "recipe": "textbook", "loop": "fit", "epochs": 5, "batch_size": 32, "learning_rate": 0.001,
            "schedule": "constant", "steps_per_execution": 1,
        },
        "fast": quick | {
            "recipe": "fast", "epochs": 3, "batch_size": 512, "learning_rate": 0.02, "warmup": 0.2, "weight_decay": 0.2,
        },
        "accurate": quick | {
            "recipe": "accurate", "epochs": 150, "batch_size": 512, "learning_rate": 0.015, "warmup": 0.1,
            "weight_decay": 0.02, "shift": 0.6, "teacher": "cnn", "jit_compile": True,
        },
    }  # fmt: skip


def test_recipes_suit_the_model_and_the_data() -> None:
    """The perceptron has no hidden units to normalise, and few drawn images make small batches."""
    assert not resolve("fast", model="perceptron").batch_norm
    assert resolve("fast", dataset="synthetic").batch_size == 64
    assert resolve("fast", dataset="synthetic", batch_size=512).batch_size == 512

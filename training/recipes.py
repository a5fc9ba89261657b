"""The recipes: configurations that are known to work. `docs/training.md` says what each setting was chosen from."""

from __future__ import annotations

from typing import Any

from training.config import TrainingConfig
from training.errors import TrainingUsageError

_SYNTHETIC_BATCH = 64  # 3,000 drawn images in large batches would be too few steps to learn anything

RECIPES = {
    # The textbook's program: Adam's defaults, batches of 32, five epochs of keras.Model.fit.
    "textbook": TrainingConfig(
        recipe="textbook",
        loop="fit",
        epochs=5,
        batch_size=32,
        learning_rate=0.001,
        schedule="constant",
        warmup=0.0,
        steps_per_execution=1,
    ),
    # The same model from memory, in larger batches, many steps a call, its hidden units normalised while it learns, at
    # a high rate that rises and falls.
    "fast": TrainingConfig(
        recipe="fast",
        epochs=3,
        batch_size=512,
        learning_rate=0.02,
        warmup=0.2,
        weight_decay=0.2,
        batch_norm=True,
    ),
    # Still the same model, as good as it gets in minutes: it learns from a larger one and from moved images, for long.
    "accurate": TrainingConfig(
        recipe="accurate",
        epochs=150,
        batch_size=512,
        learning_rate=0.015,
        warmup=0.1,
        weight_decay=0.02,
        batch_norm=True,
        shift=0.6,
        teacher="cnn",
        teacher_weight=0.5,
        jit_compile=True,
    ),
}


def resolve(recipe: str, **overrides: Any) -> TrainingConfig:
    """The recipe with every override that is not None.

    Raises TrainingUsageError for an unknown recipe or setting, and for what TrainingConfig refuses.
    """
    if recipe not in RECIPES:
        raise TrainingUsageError(f"recipe {recipe!r} is unknown: choose one of {', '.join(RECIPES)}")
    changes = {name: value for name, value in overrides.items() if value is not None}
    if changes.get("dataset") == "synthetic":
        changes = {"batch_size": min(RECIPES[recipe].batch_size, _SYNTHETIC_BATCH), **changes}
    if changes.get("model") == "perceptron":
        changes = {"batch_norm": False, "dropout": 0.0, **changes}  # it has no hidden units to act on
    return TrainingConfig.from_json(RECIPES[recipe].to_json() | changes)

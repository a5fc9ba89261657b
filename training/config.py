"""What a run is: every choice in one frozen, validated record, and the recipes that are known to work."""

from __future__ import annotations

from dataclasses import asdict, dataclass, fields, replace
from typing import Any

from training.errors import TrainingUsageError

DATASETS = ("fashion_mnist", "synthetic")
MODELS = ("perceptron", "mlp")
APIS = ("sequential", "functional", "subclassed")
LOOPS = ("fit", "custom")
SCHEDULES = ("constant", "cosine")
_CHOICES = {"dataset": DATASETS, "model": MODELS, "api": APIS, "loop": LOOPS, "schedule": SCHEDULES}
_AT_LEAST_ONE = ("epochs", "batch_size", "steps_per_execution")


@dataclass(frozen=True)
class TrainingConfig:
    """A run's configuration. Raises TrainingUsageError where a value cannot be.

    `loop` is `fit` (keras.Model.fit) or `custom` (our own tf.function over arrays in memory, see training/loop.py).
    `steps_per_execution` is how many optimizer steps one call into the graph takes. `warmup` is the share of all steps
    in which a cosine schedule's rate rises to `learning_rate`.
    """

    recipe: str
    dataset: str = "fashion_mnist"
    model: str = "mlp"
    api: str = "sequential"
    loop: str = "custom"
    epochs: int = 5
    batch_size: int = 256
    learning_rate: float = 0.003
    schedule: str = "cosine"
    warmup: float = 0.1
    steps_per_execution: int = 256
    jit_compile: bool = False
    seed: int = 0

    def __post_init__(self) -> None:
        for name, choices in _CHOICES.items():
            if getattr(self, name) not in choices:
                raise TrainingUsageError(
                    f"{name} {getattr(self, name)!r} is unknown: choose one of {', '.join(choices)}"
                )
        for name in _AT_LEAST_ONE:
            if getattr(self, name) < 1:
                raise TrainingUsageError(f"{name} {getattr(self, name)} is too small: at least 1")
        if not 0 < self.learning_rate < float("inf"):
            raise TrainingUsageError(f"learning_rate {self.learning_rate} must be greater than 0")
        if not 0 <= self.warmup < 1:
            raise TrainingUsageError(f"warmup {self.warmup} must be a share from 0 to below 1")
        if not 0 <= self.seed < 2**32:
            raise TrainingUsageError(f"seed {self.seed} must be from 0 to 4294967295")

    def to_json(self) -> dict[str, Any]:
        """The fields as plain values, as `config.json` holds them."""
        return asdict(self)


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
    # The same model from memory, in larger batches, many steps a call, and a rate that rises and falls.
    "fast": TrainingConfig(recipe="fast"),
}


def resolve(recipe: str, **overrides: Any) -> TrainingConfig:
    """The recipe with every override that is not None; raises TrainingUsageError for an unknown recipe or field."""
    if recipe not in RECIPES:
        raise TrainingUsageError(f"recipe {recipe!r} is unknown: choose one of {', '.join(RECIPES)}")
    known = {field.name for field in fields(TrainingConfig)}
    if unknown := set(overrides) - known:
        raise TrainingUsageError(f"unknown setting {', '.join(sorted(unknown))}: known are {', '.join(sorted(known))}")
    return replace(RECIPES[recipe], **{name: value for name, value in overrides.items() if value is not None})

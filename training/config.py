"""What a run is: every choice in one frozen, validated record, and the recipes that are known to work."""

from __future__ import annotations

from dataclasses import asdict, dataclass, fields, replace
from typing import Any

from training.errors import TrainingUsageError

CHOICES = {
    "dataset": ("fashion_mnist", "synthetic"),
    "model": ("perceptron", "mlp"),
    "api": ("sequential", "functional", "subclassed"),
    "loop": ("fit", "custom"),
    "schedule": ("constant", "exponential", "cosine"),
    "teacher": ("none", "cnn"),
    "strategy": ("none", "mirrored", "multi_worker"),
}
# The least value, the limit, whether the limit itself is allowed, and the rule in words.
_RANGES = {
    "epochs": (1, 1e9, True, "must be at least 1"),
    "batch_size": (1, 1e9, True, "must be at least 1"),
    "steps_per_execution": (1, 1e9, True, "must be at least 1"),
    "learning_rate": (1e-12, float("inf"), False, "must be greater than 0"),
    "warmup": (0, 1, False, "must be a share from 0 to below 1"),
    "weight_decay": (0, float("inf"), False, "must be 0 or greater"),
    "dropout": (0, 1, False, "must be a share from 0 to below 1"),
    "shift": (0, 1, True, "must be a share from 0 to 1"),
    "teacher_weight": (0, 1, True, "must be a share from 0 to 1"),
    "early_stopping": (0, 1e9, True, "must be a number of epochs, 0 for never"),
    "seed": (0, 2**32 - 1, True, "must be from 0 to 4294967295"),
}
_NOT_DISTRIBUTED = {"jit_compile": False, "teacher": "none"}
_SYNTHETIC_BATCH = 64  # 3,000 drawn images in large batches would be too few steps to learn anything
_KINDS: dict[str, tuple[type, ...]] = {"str": (str,), "int": (int,), "bool": (bool,), "float": (int, float)}
_ONLY_CUSTOM = {"shift": 0.0, "teacher": "none", "strategy": "none"}


@dataclass(frozen=True)
class TrainingConfig:
    """A run's configuration. Raises TrainingUsageError where a value, or two together, cannot be.

    loop: `fit` (keras.Model.fit) or `custom` (training/fit/loop.py). steps_per_execution: optimizer steps in one call
    into the graph. schedule: `exponential` lowers the rate by a tenth each epoch, `cosine` each step after it has risen
    over the share `warmup` of all steps. weight_decay: AdamW's, on kernels. batch_norm: normalises the hidden units
    while training, folded into their weights afterwards. shift: share of the images moved by up to a pixel each way.
    teacher: `cnn` trains a convolutional network first; its probabilities are then learned, by the share
    teacher_weight, with the labels. checkpoint: keeps the best epoch by validation accuracy. early_stopping: epochs
    without a better one before the run ends; 0 never.
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
    weight_decay: float = 0.0
    dropout: float = 0.0
    batch_norm: bool = False
    shift: float = 0.0
    teacher: str = "none"
    teacher_weight: float = 0.5
    steps_per_execution: int = 256
    jit_compile: bool = False
    checkpoint: bool = False
    early_stopping: int = 0
    strategy: str = "none"
    seed: int = 0

    def __post_init__(self) -> None:
        self._check_values()
        self._check_together()

    def _check_values(self) -> None:
        for name, choices in CHOICES.items():
            if getattr(self, name) not in choices:
                raise TrainingUsageError(
                    f"{name} {getattr(self, name)!r} is unknown: choose one of {', '.join(choices)}"
                )
        for name, (least, limit, limit_too, rule) in _RANGES.items():
            value = getattr(self, name)
            if not (least <= value < limit or (limit_too and value == limit)):
                raise TrainingUsageError(f"{name} {value} {rule}")

    def _check_together(self) -> None:
        if self.loop == "fit":
            for name, off in _ONLY_CUSTOM.items():
                if getattr(self, name) != off:
                    raise TrainingUsageError(f"{name} {getattr(self, name)} needs loop custom, not fit")
        if self.model == "perceptron" and (self.batch_norm or self.dropout):
            raise TrainingUsageError("batch_norm and dropout act on hidden units, and the perceptron has none: use mlp")
        for name, off in _NOT_DISTRIBUTED.items():
            if self.strategy != "none" and getattr(self, name) != off:
                raise TrainingUsageError(f"{name} does not go with strategy {self.strategy}: leave one of them out")

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
    """The recipe with every override that is not None; raises TrainingUsageError for an unknown recipe or field."""
    if recipe not in RECIPES:
        raise TrainingUsageError(f"recipe {recipe!r} is unknown: choose one of {', '.join(RECIPES)}")
    _refuse_unknown(overrides)
    changes = {name: value for name, value in overrides.items() if value is not None}
    if changes.get("dataset") == "synthetic":
        changes = {"batch_size": min(RECIPES[recipe].batch_size, _SYNTHETIC_BATCH), **changes}
    if changes.get("model") == "perceptron":
        changes = {"batch_norm": False, "dropout": 0.0, **changes}  # it has no hidden units to act on
    return replace(RECIPES[recipe], **changes)


def from_json(values: dict[str, Any]) -> TrainingConfig:
    """What `to_json` gave; raises TrainingUsageError for an unknown field or a value of another type."""
    _refuse_unknown(values)
    for field in fields(TrainingConfig):
        if field.name in values and not isinstance(values[field.name], _KINDS[str(field.type)]):
            raise TrainingUsageError(f"{field.name} {values[field.name]!r} must be of type {field.type}")
    return TrainingConfig(**{"recipe": "unknown", **values})


def _refuse_unknown(values: dict[str, Any]) -> None:
    known = [field.name for field in fields(TrainingConfig)]
    if unknown := set(values) - set(known):
        raise TrainingUsageError(f"unknown setting {', '.join(sorted(unknown))}: known are {', '.join(known)}")

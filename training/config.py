"""The settings of a run: the type, the choices or the range, and the help of each stand here and nowhere else."""

from __future__ import annotations

import math
from dataclasses import asdict, dataclass, field, fields
from typing import Any

from training.errors import TrainingUsageError

CHECKPOINT_SECONDS = 5.0  # of the fit that a crash may cost, unless the caller names another number


@dataclass(frozen=True)
class Range:
    """The numbers from `start` to `end`; an open end is not one of them, and NaN is in no range."""

    start: float
    end: float = math.inf
    start_open: bool = False
    end_open: bool = False

    def __contains__(self, value: Any) -> bool:
        above = value > self.start if self.start_open else value >= self.start
        return bool(above and (value < self.end if self.end_open else value <= self.end))

    def __str__(self) -> str:
        start, end = "above" if self.start_open else "at least", "below" if self.end_open else "at most"
        return f"{start} {self.start:,} and {end} {self.end:,}"


_COUNT = Range(1, 10**9)
_SHARE = Range(0, 1)
_SHARE_BELOW_1 = Range(0, 1, end_open=True)


@dataclass(frozen=True)
class Setting:
    """A field of TrainingConfig: its type, its help text, and the values that it may have where not all of its type."""

    kind: type
    help: str
    rule: tuple[str, ...] | Range | None = None

    def check(self, name: str, value: object) -> None:
        """Raises TrainingUsageError, naming the setting and the rule, for a value that it may not have."""
        kinds = (int, float) if self.kind is float else (self.kind,)
        if not isinstance(value, kinds) or (isinstance(value, bool) and self.kind is not bool):
            raise TrainingUsageError(f"{name} {value!r} must be of type {self.kind.__name__}")
        if isinstance(self.rule, tuple) and value not in self.rule:
            raise TrainingUsageError(f"{name} {value!r} is unknown: choose one of {', '.join(self.rule)}")
        if isinstance(self.rule, Range) and value not in self.rule:
            raise TrainingUsageError(f"{name} {value} must be {self.rule}")


def _setting(default: Any, text: str, rule: tuple[str, ...] | Range | None = None) -> Any:
    return field(default=default, metadata={"setting": Setting(type(default), text, rule)})


@dataclass(frozen=True)
class TrainingConfig:
    """A run's configuration; SETTINGS says what each field is.

    Raises TrainingUsageError for a value that its setting does not allow, and for values that exclude one another.
    """

    recipe: str = _setting("unknown", "The recipe that the other settings started from.")
    dataset: str = _setting(
        "fashion_mnist",
        "The images to train on; synthetic ones are drawn, for trying out.",
        ("fashion_mnist", "synthetic"),
    )
    model: str = _setting("mlp", "perceptron (7,850 parameters) or mlp (101,770).", ("perceptron", "mlp"))
    api: str = _setting(
        "sequential", "The Keras form that the model is built in.", ("sequential", "functional", "subclassed")
    )
    loop: str = _setting("custom", "keras.Model.fit, or our own loop over arrays in memory.", ("fit", "custom"))
    epochs: int = _setting(5, "Times through the training images.", _COUNT)
    batch_size: int = _setting(256, "Images in one optimizer step.", _COUNT)
    learning_rate: float = _setting(0.003, "The (highest) learning rate.", Range(0, start_open=True, end_open=True))
    schedule: str = _setting(
        "cosine",
        "How the learning rate goes: a tenth less each epoch, or along a cosine, step by step.",
        ("constant", "exponential", "cosine"),
    )
    warmup: float = _setting(0.1, "Share of all steps in which a cosine schedule first rises.", _SHARE_BELOW_1)
    weight_decay: float = _setting(0.0, "AdamW's decay of the kernels.", Range(0, end_open=True))
    dropout: float = _setting(0.0, "Share of the hidden units left out in each step.", _SHARE_BELOW_1)
    batch_norm: bool = _setting(False, "Normalise the hidden units while training; folded into the weights afterwards.")
    shift: float = _setting(0.0, "Share of the images moved by up to a pixel each way.", _SHARE)
    teacher: str = _setting(
        "none", "Train a larger network first, a convolutional one, and learn from it.", ("none", "cnn")
    )
    teacher_weight: float = _setting(0.5, "Share of the teacher's probabilities in what is learned.", _SHARE)
    steps_per_execution: int = _setting(256, "Optimizer steps in one call into the graph.", _COUNT)
    jit_compile: bool = _setting(False, "Compile the steps with XLA.")
    checkpoint: bool = _setting(False, "Keep the best epoch by validation accuracy; the run's model is that one.")
    early_stopping: int = _setting(0, "Stop after so many epochs without a better one; 0 never.", Range(0, 10**9))
    strategy: str = _setting(
        "none",
        "tf.distribute: all devices of this machine, or the workers of TF_CONFIG.",
        ("none", "mirrored", "multi_worker"),
    )
    seed: int = _setting(0, "The seed of every random choice.", Range(0, 2**32 - 1))

    def __post_init__(self) -> None:
        for name, setting in SETTINGS.items():
            setting.check(name, getattr(self, name))
        if self.loop == "fit":
            self._check_off("needs loop custom, not fit", "shift", "teacher", "strategy")
        if self.strategy != "none":
            self._check_off(
                f"does not go with strategy {self.strategy}: leave one of them out", "jit_compile", "teacher"
            )
        if self.model == "perceptron" and (self.batch_norm or self.dropout):
            raise TrainingUsageError("batch_norm and dropout act on hidden units, and the perceptron has none: use mlp")

    @classmethod
    def from_json(cls, values: dict[str, Any]) -> TrainingConfig:
        """What `to_json` gave; raises TrainingUsageError for an unknown field too."""
        if unknown := values.keys() - SETTINGS.keys():
            raise TrainingUsageError(f"unknown setting {', '.join(sorted(unknown))}: known are {', '.join(SETTINGS)}")
        return cls(**values)

    def to_json(self) -> dict[str, Any]:
        """The fields as plain values, as `config.json` holds them."""
        return asdict(self)

    def _check_off(self, rule: str, *names: str) -> None:
        for name in names:
            if getattr(self, name) not in (False, 0, "none"):
                raise TrainingUsageError(f"{name} {getattr(self, name)} {rule}")


SETTINGS: dict[str, Setting] = {setting.name: setting.metadata["setting"] for setting in fields(TrainingConfig)}

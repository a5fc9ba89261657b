"""What a model is served as: the one thing that the export knows of the model that it publishes."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, Protocol

from serving.apis.messages import PredictionLog
from serving.apis.self_test import Case


class Form(Protocol):
    """A model with its signatures, and what they are warmed up and tested with.

    class_names: in label order, none for a model that does not classify. lite_required: whether a model that LiteRT
    cannot run is refused, instead of being published without `model.tflite`.
    """

    @property
    def class_names(self) -> Sequence[str]: ...  # noqa: D102 - above

    @property
    def lite_required(self) -> bool: ...  # noqa: D102 - above

    def functions(self) -> Mapping[str, Any]:
        """The traced function of every signature (a TensorFlow ConcreteFunction), by the signature's name."""

    def golden_cases(self) -> dict[str, Case]:
        """Inputs for the signatures and the outputs that a server must give for them."""

    def write(self, path: Path) -> None:
        """Writes the SavedModel directory `path`. Raises OSError, OpError."""

    def warmup_records(self, model_name: str, size: int) -> Iterator[PredictionLog]:
        """The warmup requests of a batch size, at most one for each signature."""

    def describe(self) -> dict[str, Any]:
        """Name, layers and number of parameters, for the manifest."""

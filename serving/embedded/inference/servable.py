"""What a runtime gives for a version directory: the one place where the server knows what a loaded model can do."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Protocol

import numpy.typing as npt

from serving.apis.messages import SignatureDef

Array = npt.NDArray[Any]


class Servable(Protocol):
    """A loaded model, whatever runtime it runs on."""

    @property
    def signatures(self) -> Mapping[str, SignatureDef]:
        """The signatures by name."""

    @property
    def loop_free(self) -> frozenset[str]:
        """The outputs, by tensor name, whose time the size of the inputs bounds."""

    def run(self, feeds: Mapping[str, Array], fetches: Sequence[str]) -> list[Array]:
        """The values of the tensors `fetches`, given those of `feeds`. Raises ServingError."""

    def close(self) -> None:
        """Frees the model."""

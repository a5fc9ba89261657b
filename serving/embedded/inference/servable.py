"""What a runtime makes of a version's directory: all that the server knows of a loaded model."""

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
        """The outputs, by tensor name, whose time is bounded by the size of the inputs: no loop has a part in them."""

    def run(self, feeds: Mapping[str, Array], fetches: Sequence[str]) -> list[Array]:
        """The values of the tensors `fetches`, given those of `feeds`. Raises ServingError."""

    def close(self) -> None:
        """Frees the model."""

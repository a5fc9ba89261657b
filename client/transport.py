"""What a connection must be able to do, whichever API carries it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Protocol

import numpy.typing as npt

Array = npt.NDArray[Any]


@dataclass(frozen=True)
class ModelSpec:
    """Which model, and which of its versions: a number, a label, or neither for the newest."""

    name: str = "fashion_mnist"
    version: int | None = None
    version_label: str | None = None


@dataclass(frozen=True)
class VersionStatus:
    """The state of one version, in TF Serving's words.

    `state` is START, LOADING, AVAILABLE, UNLOADING or END; `error_code` a gRPC status code's name, OK when all is well.
    """

    version: int
    state: str
    error_code: str = "OK"
    error_message: str = ""


class Transport(Protocol):
    """One connection to one server. Every call takes its deadline in seconds and raises ServerError.

    Implementations are safe to use from several threads.
    """

    def predict(
        self, model: ModelSpec, signature_name: str, inputs: Mapping[str, Array], *, timeout: float
    ) -> dict[str, Array]:
        """Runs a signature: input name -> array in, output name -> array out; strings are objects of bytes."""

    def status(self, model: ModelSpec, *, timeout: float) -> list[VersionStatus]:
        """The state of the model's versions, the newest first."""

    def close(self) -> None:
        """Ends the connection; further calls fail."""

"""A Transport for tests: answers what it was told to, and remembers what it was asked."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

import numpy as np

from client.errors import ServerError
from client.transport import Array, ModelSpec, VersionStatus


@dataclass
class FakeTransport:
    """Answers every image with the same `class_id`; `error`, when set, is raised instead.

    `asked` holds (signature_name, inputs) of each predict call, in order.
    """

    class_id: int = 0
    versions: list[VersionStatus] = field(default_factory=lambda: [VersionStatus(1, "AVAILABLE")])
    error: ServerError | None = None
    asked: list[tuple[str, dict[str, Array]]] = field(default_factory=list)
    closed: bool = False

    def predict(
        self, model: ModelSpec, signature_name: str, inputs: Mapping[str, Array], *, timeout: float
    ) -> dict[str, Array]:
        """Ten probabilities an image: 0.91 for `class_id`, 0.01 for each other class."""
        del model, timeout
        if self.error:
            raise self.error
        self.asked.append((signature_name, dict(inputs)))
        probabilities = np.full((len(inputs["images"]), 10), 0.01, np.float32)
        probabilities[:, self.class_id] = 0.91
        return {"probabilities": probabilities}

    def status(self, model: ModelSpec, *, timeout: float) -> list[VersionStatus]:
        """The versions it was made with."""
        del model, timeout
        if self.error:
            raise self.error
        return self.versions

    def close(self) -> None:
        """Sets `closed`."""
        self.closed = True

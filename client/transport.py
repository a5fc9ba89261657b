"""What a connection must be able to do, whichever API carries it."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol

from client.types import Call, Metadata, ModelSpec, Output, VersionStatus


class Transport(Protocol):
    """One connection to a server. Every call takes its deadline in seconds and raises ServerError.

    Implementations are safe to use from several threads.
    """

    def predict(self, model: ModelSpec, calls: Sequence[Call], *, timeout: float) -> dict[str, Output]:
        """Runs the cheapest of `calls`, which all ask the same; output name -> values.

        REST answers a single output without its name: here its name is "".
        """

    def status(self, model: ModelSpec, *, timeout: float) -> list[VersionStatus]:
        """The state of the model's versions, the newest first."""

    def metadata(self, model: ModelSpec, *, timeout: float) -> Metadata:
        """The model's signatures."""

    def close(self) -> None:
        """Ends the connection; further calls fail."""


class AsyncTransport(Protocol):
    """A Transport whose calls are awaited."""

    async def predict(self, model: ModelSpec, calls: Sequence[Call], *, timeout: float) -> dict[str, Output]:
        """See Transport."""

    async def status(self, model: ModelSpec, *, timeout: float) -> list[VersionStatus]:
        """See Transport."""

    async def metadata(self, model: ModelSpec, *, timeout: float) -> Metadata:
        """See Transport."""

    async def close(self) -> None:
        """See Transport."""

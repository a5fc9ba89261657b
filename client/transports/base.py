"""What a connection must be able to do, whichever API carries it."""

from __future__ import annotations

from typing import Protocol

from client.types import Calls, Metadata, ModelSpec, Output, VersionStatus


class Transport(Protocol):
    """One connection to a server. Every call takes its deadline in seconds and raises ServerError.

    Implementations are safe to use from several threads.
    """

    def predict(self, model: ModelSpec, calls: Calls, *, timeout: float) -> dict[str, Output]:
        """Runs one of `calls`, the first or the cheapest; output name -> values.

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

    async def predict(self, model: ModelSpec, calls: Calls, *, timeout: float) -> dict[str, Output]:
        """See Transport."""

    async def status(self, model: ModelSpec, *, timeout: float) -> list[VersionStatus]:
        """See Transport."""

    async def metadata(self, model: ModelSpec, *, timeout: float) -> Metadata:
        """See Transport."""

    async def close(self) -> None:
        """See Transport."""

"""What carries requests to a server: a Transport for threads, an AsyncTransport for asyncio, each over either API."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import AbstractContextManager
from dataclasses import dataclass
from typing import Any, Generic, Protocol, TypeVar

from client.types import Calls, Metadata, ModelSpec, Output, VersionStatus

_R = TypeVar("_R")


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


@dataclass(frozen=True)
class Exchange(Generic[_R]):
    """A request as its API sends it, and `read`, which makes the client's types of the API's response."""

    request: Any
    read: Callable[[Any], _R]


class Wire(Protocol):
    """How an API writes requests and reads responses, without input and output: the module grpc_wire or rest_wire."""

    def predict(self, model: ModelSpec, calls: Calls) -> Exchange[dict[str, Output]]:
        """See Transport."""

    def status(self, model: ModelSpec) -> Exchange[list[VersionStatus]]:
        """See Transport."""

    def metadata(self, model: ModelSpec) -> Exchange[Metadata]:
        """See Transport."""


class Api(Protocol):
    """A connection that sends an API's requests; `send` and `close` return awaitables where it is asyncio's."""

    wire: Wire

    def send(self, request: Any, timeout: float) -> Any:
        """The response to an Exchange's request."""

    def errors(self, timeout: float, /) -> AbstractContextManager[None]:
        """Raises what the API's library raises within as a ClientError, with its cause."""

    def close(self) -> Any:
        """Ends the connection."""


class SyncTransport:
    """An Api as a Transport."""

    def __init__(self, api: Api) -> None:
        self._api = api

    def predict(self, model: ModelSpec, calls: Calls, *, timeout: float) -> dict[str, Output]:
        """See Transport."""
        return self._call(self._api.wire.predict(model, calls), timeout)

    def status(self, model: ModelSpec, *, timeout: float) -> list[VersionStatus]:
        """See Transport."""
        return self._call(self._api.wire.status(model), timeout)

    def metadata(self, model: ModelSpec, *, timeout: float) -> Metadata:
        """See Transport."""
        return self._call(self._api.wire.metadata(model), timeout)

    def close(self) -> None:
        """See Transport."""
        self._api.close()

    def _call(self, exchange: Exchange[_R], timeout: float) -> _R:
        with self._api.errors(timeout):
            response = self._api.send(exchange.request, timeout)
        return exchange.read(response)


class AsyncTransport:
    """An Api of asyncio's, awaited; belongs to the event loop that it is first used in."""

    def __init__(self, api: Api) -> None:
        self._api = api

    async def predict(self, model: ModelSpec, calls: Calls, *, timeout: float) -> dict[str, Output]:
        """See Transport."""
        return await self._call(self._api.wire.predict(model, calls), timeout)

    async def status(self, model: ModelSpec, *, timeout: float) -> list[VersionStatus]:
        """See Transport."""
        return await self._call(self._api.wire.status(model), timeout)

    async def metadata(self, model: ModelSpec, *, timeout: float) -> Metadata:
        """See Transport."""
        return await self._call(self._api.wire.metadata(model), timeout)

    async def close(self) -> None:
        """See Transport."""
        await self._api.close()

    async def _call(self, exchange: Exchange[_R], timeout: float) -> _R:
        with self._api.errors(timeout):
            response = await self._api.send(exchange.request, timeout)
        return exchange.read(response)

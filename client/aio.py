"""The connection for asyncio: `async with client.aio.connect("grpc://host:8500") as connection`."""

from __future__ import annotations

import asyncio
import functools
from collections.abc import Awaitable, Callable, Sequence
from types import TracebackType
from typing import TypeVar

from client.connection import DEFAULT_TIMEOUT, checked_addresses
from client.errors import ServerError
from client.pictures.batch import ArrayLike, Batch, calls, predictions
from client.transports.address import ServerAddress
from client.transports.aio import AsyncGrpcTransport, AsyncRestTransport
from client.transports.base import AsyncTransport
from client.transports.retry import RoundRobin
from client.transports.security import Security
from client.types import Metadata, ModelSpec, Prediction, VersionStatus

_R = TypeVar("_R")


class AsyncConnection:
    """`Connection`, awaited: an async context manager for any number of tasks of one event loop."""

    def __init__(
        self, transports: Sequence[AsyncTransport], model: ModelSpec, *, timeout: float = DEFAULT_TIMEOUT
    ) -> None:
        self.model = model
        self._round_robin = RoundRobin(transports)
        self._timeout = timeout
        self._metadata: Metadata | None = None

    async def predict(
        self, images: ArrayLike | Sequence[ArrayLike], *, signature_name: str | None = None
    ) -> list[Prediction]:
        """See Connection.predict."""
        result: list[Prediction] = []
        for part in Batch.of(images).split():
            ways = functools.partial(calls, part, await self.metadata(), signature_name)
            outputs = await self._call(lambda transport, timeout: transport.predict(self.model, ways, timeout=timeout))  # noqa: B023 - awaited at once
            result += predictions(outputs, part.count)
        return result

    async def status(self) -> list[VersionStatus]:
        """See Connection.status."""
        return await self._call(lambda transport, timeout: transport.status(self.model, timeout=timeout))

    async def metadata(self) -> Metadata:
        """See Connection.metadata."""
        if self._metadata is None:
            self._metadata = await self._call(
                lambda transport, timeout: transport.metadata(self.model, timeout=timeout)
            )
        return self._metadata

    async def close(self) -> None:
        """Ends the connection."""
        for transport in self._round_robin.transports:
            await transport.close()

    async def __aenter__(self) -> AsyncConnection:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        await self.close()

    async def _call(self, ask: Callable[[AsyncTransport, float], Awaitable[_R]]) -> _R:
        attempts = self._round_robin.attempts(self._timeout)
        while True:
            try:
                return await ask(attempts.transport, attempts.timeout)
            except ServerError as error:
                await asyncio.sleep(attempts.pause(error))


def connect(
    *servers: str,
    model: ModelSpec | None = None,
    timeout: float = DEFAULT_TIMEOUT,
    security: Security | None = None,
) -> AsyncConnection:
    """`client.connect` for asyncio: the same arguments, the same errors."""
    addresses = checked_addresses(servers, timeout)
    transports = [_transport(address, security or Security()) for address in addresses]
    return AsyncConnection(transports, model or ModelSpec(), timeout=timeout)


def _transport(address: ServerAddress, security: Security) -> AsyncTransport:
    return (AsyncRestTransport if address.is_rest else AsyncGrpcTransport)(address, security)

"""The connection for asyncio: `async with client.aio.connect("grpc://host:8500") as connection`."""

from __future__ import annotations

import asyncio
import itertools
from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING, Any, TypeVar

from client.calls import parts
from client.connection import BaseConnection, open_transports
from client.errors import ServerError
from client.limits import TIMEOUT
from client.pictures.batch import Batch, Images
from client.predictions import predictions
from client.transports.base import Exchange, Wire
from client.transports.security import Security
from client.types import Metadata, ModelSpec, Prediction, VersionStatus

if TYPE_CHECKING:
    from google.protobuf.message import Message

    from client.recorder import Recorder

_R = TypeVar("_R")


class AsyncConnection(BaseConnection):
    """`Connection`, awaited: an async context manager for any number of tasks of one event loop."""

    _lock_type = asyncio.Lock

    async def predict(self, images: Images, *, signature_name: str | None = None) -> list[Prediction]:
        """See Connection.predict."""
        return list(await self.predict_lazily(images, signature_name=signature_name))

    async def predict_lazily(self, images: Images, *, signature_name: str | None = None) -> Iterator[Prediction]:
        """See Connection.predict_lazily."""
        answers = []
        for count, part_calls in parts(Batch.of(images), await self.metadata(), signature_name):
            outputs = await self._call(lambda wire: wire.predict(self.model, part_calls))  # noqa: B023 - called at once
            answers.append(predictions(outputs, count))
        return itertools.chain.from_iterable(answers)

    async def exchange(self, request: Message) -> Any:
        """See Connection.exchange."""
        return await self._call(lambda wire: wire.message(request))

    async def status(self) -> list[VersionStatus]:
        """See Connection.status."""
        return await self._call(lambda wire: wire.status(self.model))

    async def metadata(self) -> Metadata:
        """See Connection.metadata."""
        async with self._metadata_lock:
            if self._metadata is None:
                self._metadata = await self._call(lambda wire: wire.metadata(self.model))
            return self._metadata

    async def metrics(self) -> str:
        """See Connection.metrics."""
        return await self._call(lambda wire: wire.metrics())

    async def diagnosis(self) -> str:
        """See Connection.diagnosis."""
        texts = [await asyncio.to_thread(transport.diagnosis) for transport in self._round_robin.transports]
        return "; ".join(dict.fromkeys(filter(None, texts)))

    async def close(self) -> None:
        """See Connection.close."""
        self._closed = True
        for transport in self._round_robin.transports:
            await transport.close()

    async def __aenter__(self) -> AsyncConnection:
        return self

    async def __aexit__(self, *_error: object) -> None:
        await self.close()

    async def _call(self, exchange_of: Callable[[Wire], Exchange[_R]]) -> _R:
        attempts = self._attempts()
        while True:
            transport, timeout = attempts.transport, attempts.timeout
            try:
                exchange = exchange_of(transport.wire)
                with transport.client_errors(timeout):
                    response = await transport.send(exchange.request, timeout)
                result = exchange.read(response)
            except ServerError as error:
                await asyncio.sleep(attempts.pause(error))
                continue
            if self.recorder is not None and exchange.messages is not None:
                self.recorder.write(*exchange.messages(response, await self.metadata()))
            return result


def connect(
    *servers: str,
    model: ModelSpec | None = None,
    timeout: float = TIMEOUT,
    security: Security | None = None,
    retry: bool = True,
    recorder: Recorder | None = None,
) -> AsyncConnection:
    """`client.connect` for asyncio: the same arguments, the same errors."""
    transports = open_transports(servers, timeout, security, asynchronous=True)
    return AsyncConnection(transports, model or ModelSpec(), timeout=timeout, retry=retry, recorder=recorder)

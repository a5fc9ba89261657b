"""The connection for asyncio: `async with client.aio.connect("grpc://host:8500") as connection`."""

from __future__ import annotations

import asyncio
import itertools
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any, TypeVar

from client import tracing
from client.calls import parts
from client.connection import BaseConnection, open_transports
from client.errors import ServerError
from client.limits import TIMEOUT
from client.pictures.batch import Batch, Images, are_arrays
from client.predictions import predictions
from client.transports.base import Exchange, Wire
from client.transports.security import Security
from client.types import ClassScore, Metadata, ModelSpec, Prediction, Preprocess, VersionStatus

if TYPE_CHECKING:
    from google.protobuf.message import Message

    from client.examples import Features
    from client.recorder import Recorder
    from serving.apis.tensors import Array

_R = TypeVar("_R")


class AsyncConnection(BaseConnection):
    """`Connection`, awaited: an async context manager for any number of tasks of one event loop."""

    _lock_type = asyncio.Lock

    async def predict(
        self,
        images: Images,
        *,
        signature_name: str | None = None,
        preprocess: Preprocess = "auto",
        timeout: float | None = None,
    ) -> list[Prediction]:
        """See Connection.predict."""
        return list(
            await self.predict_lazily(images, signature_name=signature_name, preprocess=preprocess, timeout=timeout)
        )

    async def predict_lazily(
        self,
        images: Images,
        *,
        signature_name: str | None = None,
        preprocess: Preprocess = "auto",
        timeout: float | None = None,
    ) -> Iterator[Prediction]:
        """See Connection.predict_lazily."""
        answers = []
        # Pictures are decoded beside the event loop.
        batch = Batch.of(images) if are_arrays(images) else await asyncio.to_thread(Batch.of, images, preprocess)
        for count, part_calls in parts(batch, await self.metadata(timeout=timeout), signature_name):
            outputs = await self._call(lambda wire: wire.predict(self.model, part_calls), timeout)  # noqa: B023 - called at once
            answers.append(predictions(outputs, count))
        return itertools.chain.from_iterable(answers)

    async def infer(
        self,
        inputs: Mapping[str, Any],
        *,
        signature_name: str | None = None,
        output_filter: Sequence[str] = (),
        timeout: float | None = None,
    ) -> dict[str, Array]:
        """See Connection.infer."""
        from client.inputs import call

        request, signature = call(inputs, await self.metadata(timeout=timeout), signature_name, output_filter)
        return await self._call(lambda wire: wire.infer(self.model, request, signature), timeout)

    async def classify(
        self,
        examples: Sequence[Features],
        *,
        context: Features | None = None,
        signature_name: str | None = None,
        timeout: float | None = None,
    ) -> list[list[ClassScore]]:
        """See Connection.classify."""
        from client.examples import class_scores, classification_request

        metadata = await self.metadata(timeout=timeout)
        request = classification_request(self.model, metadata, signature_name, examples, context)
        return class_scores((await self.exchange(request, timeout=timeout)).result)

    async def regress(
        self,
        examples: Sequence[Features],
        *,
        context: Features | None = None,
        signature_name: str | None = None,
        timeout: float | None = None,
    ) -> list[float]:
        """See Connection.regress."""
        from client.examples import regression_request, values

        metadata = await self.metadata(timeout=timeout)
        request = regression_request(self.model, metadata, signature_name, examples, context)
        return values((await self.exchange(request, timeout=timeout)).result)

    async def multi_inference(
        self,
        examples: Sequence[Features],
        signature_names: Sequence[str],
        *,
        context: Features | None = None,
        timeout: float | None = None,
    ) -> dict[str, list[list[ClassScore]] | list[float]]:
        """See Connection.multi_inference."""
        from client.examples import multi_inference_request, results

        metadata = await self.metadata(timeout=timeout)
        request = multi_inference_request(self.model, metadata, signature_names, examples, context)
        return results(await self.exchange(request, timeout=timeout))

    async def exchange(self, request: Message, *, timeout: float | None = None) -> Any:
        """See Connection.exchange."""
        return await self._call(lambda wire: wire.message(request), timeout)

    async def status(self, *, timeout: float | None = None) -> list[VersionStatus]:
        """See Connection.status."""
        return await self._call(lambda wire: wire.status(self.model), timeout)

    async def metadata(self, *, timeout: float | None = None) -> Metadata:
        """See Connection.metadata."""
        self._check_open()
        async with self._metadata_lock:
            if self._metadata is None:
                self._metadata = await self._call(lambda wire: wire.metadata(self.model), timeout)
            return self._metadata

    async def metrics(self, *, timeout: float | None = None) -> str:
        """See Connection.metrics."""
        return await self._call(lambda wire: wire.metrics(), timeout)

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

    async def _call(self, exchange_of: Callable[[Wire], Exchange[_R]], timeout: float | None = None) -> _R:
        attempts = self._attempts(timeout)
        with tracing.call_span(self.model.name) as span:
            while True:
                transport, seconds = attempts.transport, attempts.timeout
                try:
                    exchange = exchange_of(transport.wire)
                    with span.attempt(transport, exchange.request):
                        with transport.client_errors(seconds):
                            response = await transport.send(exchange.request, seconds)
                        result = exchange.read(response)
                except ServerError as error:
                    error.locate("", tracing.current(), in_trace=True)
                    self._check_open(error)
                    await asyncio.sleep(attempts.pause(error))
                    continue
                except (Exception, asyncio.CancelledError) as error:
                    # The libraries have errors of their own for what is closed; of gRPC's the task looks cancelled.
                    if not (isinstance(error, asyncio.CancelledError) and _is_cancelled()):
                        self._check_open(error)
                    raise
                if self.recorder is not None and exchange.messages is not None:
                    self.recorder.write(*exchange.messages(response, await self.metadata()))
                return result


def _is_cancelled() -> bool:
    """Whether someone cancelled this very task; Python 3.10 does not tell."""
    task: Any = asyncio.current_task()
    return hasattr(task, "cancelling") and task.cancelling() > 0


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

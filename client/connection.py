"""A connection to a served model: images in, predictions out."""

from __future__ import annotations

import functools
import itertools
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from types import TracebackType
from typing import TypeVar

from client.errors import ClientUsageError, ServerError
from client.pictures.batch import ArrayLike, Batch, calls, predictions
from client.transports.address import DEFAULT_SERVER, ServerAddress
from client.transports.base import Transport
from client.transports.retry import RoundRobin
from client.transports.security import Security
from client.types import Metadata, ModelSpec, Prediction, VersionStatus

DEFAULT_TIMEOUT = 10.0
_R = TypeVar("_R")


class Connection:
    """One model on one server, or on several that serve the same; a context manager, safe to share between threads."""

    def __init__(self, transports: Sequence[Transport], model: ModelSpec, *, timeout: float = DEFAULT_TIMEOUT) -> None:
        self.model = model
        self._round_robin = RoundRobin(transports)
        self._timeout = timeout
        self._metadata: Metadata | None = None
        self._reading_metadata = threading.Lock()

    def predict(
        self, images: ArrayLike | Sequence[ArrayLike], *, signature_name: str | None = None
    ) -> list[Prediction]:
        """Classifies images, in order.

        images: uint8 [N, 28, 28], raw pixels from 0 (background) to 255; or float32 from 0 to 1 for a signature that
        takes floats; or a sequence of N arrays [28, 28]. More than fit into a message of 4 MB are sent in parts.
        Raises ClientUsageError for what the model cannot take, before anything is sent; ServerError for what the server
        answers.
        """
        return self.predict_batch(Batch.of(images), signature_name=signature_name)

    def predict_batch(self, batch: Batch, *, signature_name: str | None = None) -> list[Prediction]:
        """`predict` for images that are bytes already."""
        return list(self.predict_lazily(batch, signature_name=signature_name))

    def predict_lazily(self, batch: Batch, *, signature_name: str | None = None) -> Iterator[Prediction]:
        """`predict_batch`, asked at once, but each Prediction is made when it is taken.

        Thousands at a time cost more than one after the other: memory that is new to the processor, and the garbage
        collector's walks through it.
        """
        answered: list[Iterator[Prediction]] = []
        for part in batch.split():
            ways = functools.partial(calls, part, self.metadata(), signature_name)
            outputs = self._call(lambda transport, timeout: transport.predict(self.model, ways, timeout=timeout))  # noqa: B023 - called at once
            answered.append(predictions(outputs, part.count))
        return itertools.chain.from_iterable(answered)

    def status(self) -> list[VersionStatus]:
        """The state of the model's versions, the newest first. Raises ServerError."""
        return self._call(lambda transport, timeout: transport.status(self.model, timeout=timeout))

    def metadata(self) -> Metadata:
        """The model's signatures; asked once a connection. Raises ServerError."""
        with self._reading_metadata:
            if self._metadata is None:
                self._metadata = self._call(lambda transport, timeout: transport.metadata(self.model, timeout=timeout))
            return self._metadata

    def close(self) -> None:
        """Ends the connection."""
        for transport in self._round_robin.transports:
            transport.close()

    def __enter__(self) -> Connection:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.close()

    def _call(self, ask: Callable[[Transport, float], _R]) -> _R:
        attempts = self._round_robin.attempts(self._timeout)
        while True:
            try:
                return ask(attempts.transport, attempts.timeout)
            except ServerError as error:
                time.sleep(attempts.pause(error))


def connect(
    *servers: str,
    model: ModelSpec | None = None,
    timeout: float = DEFAULT_TIMEOUT,
    security: Security | None = None,
) -> Connection:
    """A connection to a served model; nothing is sent yet.

    servers: `grpc://HOST:PORT`, `grpcs://`, `http://`, `https://` or `unix:///PATH`; one, or several that serve the
        same model; `grpc://127.0.0.1:8500` by default.
    model: which model and version; the newest version of `fashion_mnist` by default.
    timeout: the deadline of every call, in seconds.
    security: certificates and headers.
    Raises ClientUsageError for a bad address, deadline or certificate.
    """
    addresses = checked_addresses(servers, timeout)
    return Connection(
        [_transport(one, security or Security()) for one in addresses], model or ModelSpec(), timeout=timeout
    )


def checked_addresses(servers: Sequence[str], timeout: float) -> list[ServerAddress]:
    """The addresses, the default one for none. Raises ClientUsageError for a bad address or deadline."""
    if not timeout > 0:
        raise ClientUsageError(f"a deadline of {timeout:g} s cannot be met: --timeout takes seconds above 0")
    return [ServerAddress.parse(server) for server in servers or (DEFAULT_SERVER,)]


def _transport(address: ServerAddress, security: Security) -> Transport:
    if address.is_rest:
        from client.transports.rest import RestTransport

        return RestTransport(address, security)
    from client.transports.grpc import GrpcTransport

    return GrpcTransport(address, security)

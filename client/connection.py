"""A connection to a served model: images in, predictions out."""

from __future__ import annotations

import itertools
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any, ClassVar, TypeVar

from client import tracing
from client.calls import parts
from client.errors import ClientUsageError, ServerError
from client.limits import TIMEOUT
from client.pictures.batch import Batch, Images
from client.predictions import predictions
from client.transports.address import DEFAULT_SERVER, ServerAddress
from client.transports.base import Exchange, Transport, Wire
from client.transports.retry import Attempts, RoundRobin
from client.transports.security import Security
from client.types import ClassScore, Metadata, ModelSpec, Prediction, Preprocess, VersionStatus

if TYPE_CHECKING:
    from google.protobuf.message import Message

    from client.examples import Features
    from client.recorder import Recorder
    from serving.apis.tensors import Array

_R = TypeVar("_R")


class BaseConnection:
    """What a Connection and an AsyncConnection are made of: one model, its servers in turn, its metadata once read.

    recorder: records what is predicted, if there is one.
    """

    # Of threads, or of an event loop.
    _lock_type: ClassVar[type[Any]]

    def __init__(
        self,
        transports: Sequence[Transport],
        model: ModelSpec,
        *,
        timeout: float = TIMEOUT,
        retry: bool = True,
        recorder: Recorder | None = None,
    ) -> None:
        self.model = model
        self.recorder = recorder
        self._round_robin = RoundRobin(transports, retry=retry)
        self._timeout = timeout
        self._metadata: Metadata | None = None
        self._metadata_lock = self._lock_type()
        self._closed = False

    def _attempts(self, timeout: float | None) -> Attempts:
        self._check_open()
        if timeout is not None:
            check_timeout(timeout)
        return self._round_robin.attempts(self._timeout if timeout is None else timeout)

    def _check_open(self, cause: BaseException | None = None) -> None:
        """Raises ClientUsageError when the connection is closed, whatever came of that."""
        if self._closed:
            raise ClientUsageError("the connection is closed: open another one with connect") from cause


class Connection(BaseConnection):
    """One model on one server, or on several that serve the same; a context manager, safe to share between threads."""

    _lock_type = threading.Lock

    def predict(
        self,
        images: Images,
        *,
        signature_name: str | None = None,
        preprocess: Preprocess = "auto",
        timeout: float | None = None,
    ) -> list[Prediction]:
        """Classifies images, in order.

        images: uint8 [N, 28, 28], raw pixels from 0 (background) to 255; or float32 from 0 to 1 for a signature that
            takes floats; or a path, the bytes of a picture file, or an image of Pillow's; or a sequence of such and of
            arrays [28, 28]. A path may be all that `fashion predict` takes: a directory, a glob, an array file.
        More than fit into a message of 4 MB are sent in parts.
        preprocess: of pictures, as `fashion predict --preprocess`; a doubtful one is an ImageWarning.
        timeout: the deadline of each request in seconds, here and in every method; by default the connection's.
        Raises ClientUsageError for what the model cannot take, before anything is sent; ServerError for what the server
        answers.
        """
        return list(self.predict_lazily(images, signature_name=signature_name, preprocess=preprocess, timeout=timeout))

    def predict_lazily(
        self,
        images: Images,
        *,
        signature_name: str | None = None,
        preprocess: Preprocess = "auto",
        timeout: float | None = None,
    ) -> Iterator[Prediction]:
        """`predict`: the server is asked at once, but each Prediction is made when it is taken.

        Thousands at a time cost more than one after the other: memory that is new to the processor, and the garbage
        collector's walks through it (a tenth of the client's time, at 1000 images a request).
        """
        answers = []
        batch = Batch.of(images, preprocess)
        for count, part_calls in parts(batch, self.metadata(timeout=timeout), signature_name):
            outputs = self._call(lambda wire: wire.predict(self.model, part_calls), timeout)  # noqa: B023 - called at once
            answers.append(predictions(outputs, count))
        return itertools.chain.from_iterable(answers)

    def infer(
        self,
        inputs: Mapping[str, Any],
        *,
        signature_name: str | None = None,
        output_filter: Sequence[str] = (),
        timeout: float | None = None,
    ) -> dict[str, Array]:
        """Runs a signature of any model: arrays in, arrays out, by name.

        inputs: for every input of the signature an array of its dtype and shape; or lists or a scalar that take the
            dtype without loss (0.1 becomes the nearest float32; 300 is no uint8). Strings are text or bytes.
        signature_name: `serving_default` by default. output_filter: the outputs that are wanted; all by default.
        Strings in the answer are arrays of objects, which are bytes. bfloat16, float8 and int4 need the package
        ml_dtypes. Raises ClientUsageError, before anything is sent, for inputs that the model's metadata does not have
        and for what REST cannot carry (complex numbers, empty arrays such as [0, 4]); ServerError for what the server
        answers.
        """
        from client.inputs import call

        request, signature = call(inputs, self.metadata(timeout=timeout), signature_name, output_filter)
        return self._call(lambda wire: wire.infer(self.model, request, signature), timeout)

    def classify(
        self,
        examples: Sequence[Features],
        *,
        context: Features | None = None,
        signature_name: str | None = None,
        timeout: float | None = None,
    ) -> list[list[ClassScore]]:
        """TF Serving's Classify: the classes of each example, as labels and scores, in the model's order.

        examples: dicts of features, `{"x": 1.0, "image/encoded": b"..."}`; text and bytes, ints, or floats, one or a
            flat list of them. A model that wants floats does not take ints: 1.0, not 1.
        context: features of all examples. signature_name: by default the only one of this method, else
            `serving_default`.
        Raises ClientUsageError for what is no example, and for a signature that takes none; ServerError.
        """
        from client.examples import class_scores, classification_request

        metadata = self.metadata(timeout=timeout)
        request = classification_request(self.model, metadata, signature_name, examples, context)
        return class_scores(self.exchange(request, timeout=timeout).result)

    def regress(
        self,
        examples: Sequence[Features],
        *,
        context: Features | None = None,
        signature_name: str | None = None,
        timeout: float | None = None,
    ) -> list[float]:
        """TF Serving's Regress: the value of each example; otherwise as `classify`."""
        from client.examples import regression_request, values

        metadata = self.metadata(timeout=timeout)
        request = regression_request(self.model, metadata, signature_name, examples, context)
        return values(self.exchange(request, timeout=timeout).result)

    def multi_inference(
        self,
        examples: Sequence[Features],
        signature_names: Sequence[str],
        *,
        context: Features | None = None,
        timeout: float | None = None,
    ) -> dict[str, list[list[ClassScore]] | list[float]]:
        """TF Serving's MultiInference: the same examples by several signatures in one run, each as its method has it.

        Over gRPC only. Raises as `classify`, and ClientUsageError over REST.
        """
        from client.examples import multi_inference_request, results

        metadata = self.metadata(timeout=timeout)
        request = multi_inference_request(self.model, metadata, signature_names, examples, context)
        return results(self.exchange(request, timeout=timeout))

    def exchange(self, request: Message, *, timeout: float | None = None) -> Any:
        """Sends a request message of PredictionService as it is, model and all, and gives its response message.

        request: PredictRequest, ClassificationRequest, RegressionRequest or MultiInferenceRequest. Raises ServerError;
        ClientUsageError for what REST cannot carry: MultiInferenceRequest, an output_filter, complex numbers.
        """
        return self._call(lambda wire: wire.message(request), timeout)

    def status(self, *, timeout: float | None = None) -> list[VersionStatus]:
        """The state of the model's versions, the newest first. Raises ServerError."""
        return self._call(lambda wire: wire.status(self.model), timeout)

    def metadata(self, *, timeout: float | None = None) -> Metadata:
        """The model's signatures; read once a connection. Raises ServerError."""
        self._check_open()
        with self._metadata_lock:
            if self._metadata is None:
                self._metadata = self._call(lambda wire: wire.metadata(self.model), timeout)
            return self._metadata

    def metrics(self, *, timeout: float | None = None) -> str:
        """What Prometheus reads of the server. Raises ServerError; ClientUsageError over gRPC, which has no metrics."""
        return self._call(lambda wire: wire.metrics(), timeout)

    def diagnosis(self) -> str:
        """Why servers do not answer, with the fix for each; "" where nothing is wrong with the connections.

        For an error whose code is UNAVAILABLE or DEADLINE_EXCEEDED; looks at names, ports, protocols and certificates,
        which takes up to two seconds a server.
        """
        return "; ".join(dict.fromkeys(filter(None, (each.diagnosis() for each in self._round_robin.transports))))

    def close(self) -> None:
        """Ends the connection; further calls raise ClientUsageError, and so do those under way, by their deadline."""
        self._closed = True
        for transport in self._round_robin.transports:
            transport.close()

    def __enter__(self) -> Connection:
        return self

    def __exit__(self, *_error: object) -> None:
        self.close()

    def _call(self, exchange_of: Callable[[Wire], Exchange[_R]], timeout: float | None = None) -> _R:
        attempts = self._attempts(timeout)
        with tracing.call_span(self.model.name) as span:
            while True:
                transport, seconds = attempts.transport, attempts.timeout
                try:
                    exchange = exchange_of(transport.wire)
                    with span.attempt(transport, exchange.request):
                        with transport.client_errors(seconds):
                            response = transport.send(exchange.request, seconds)
                        result = exchange.read(response)
                except ServerError as error:
                    error.locate("", tracing.current(), in_trace=True)
                    self._check_open(error)
                    time.sleep(attempts.pause(error))
                    continue
                except Exception as error:
                    # The libraries have errors of their own for a channel that is closed.
                    self._check_open(error)
                    raise
                if self.recorder is not None and exchange.messages is not None:
                    self.recorder.write(*exchange.messages(response, self.metadata()))
                return result


def connect(
    *servers: str,
    model: ModelSpec | None = None,
    timeout: float = TIMEOUT,
    security: Security | None = None,
    retry: bool = True,
    recorder: Recorder | None = None,
) -> Connection:
    """A connection to a served model; nothing is sent yet.

    servers: `grpc://HOST:PORT`, `grpcs://`, `http://`, `https://` or `unix:///PATH`; one, or several that serve the
        same model; `grpc://127.0.0.1:8500` by default.
    model: which model and version; the newest version of `fashion_mnist` by default.
    timeout: the deadline of every call, in seconds.
    security: certificates, headers, and the token of a server that asks who calls.
    retry: whether UNAVAILABLE is tried again, and several servers are asked for one call; False to measure them.
    recorder: records every Predict request that is answered, and its answer; its maker closes it.
    Raises ClientUsageError for a bad address, deadline or certificate, and a token that would go in the clear.
    """
    transports = open_transports(servers, timeout, security, asynchronous=False)
    return Connection(transports, model or ModelSpec(), timeout=timeout, retry=retry, recorder=recorder)


def open_transports(
    servers: Sequence[str], timeout: float, security: Security | None, *, asynchronous: bool
) -> list[Transport]:
    """One for each server, the default one for none; nothing is sent yet. Raises ClientUsageError as `connect`."""
    check_timeout(timeout)
    addresses = [ServerAddress.parse(server) for server in servers or (DEFAULT_SERVER,)]
    if security and security.is_tls and not any(address.is_secure for address in addresses):
        raise ClientUsageError(
            f"{addresses[0]} has no TLS, which --tls-ca, --tls-certificate and --tls-server-name are for: "
            "name a server by grpcs:// or https://"
        )
    for address in addresses:
        if security and security.token and not (address.is_secure or address.is_local):
            raise ClientUsageError(
                f"{address} has no TLS, and the token could be read on the way: name the server by grpcs:// or "
                "https://, or reach it over a tunnel to 127.0.0.1"
            )
    return [_open(address, security or Security(), asynchronous=asynchronous) for address in addresses]


def check_timeout(timeout: float) -> None:
    """Raises ClientUsageError for a deadline that is none."""
    if not timeout > 0:
        raise ClientUsageError(f"a deadline of {timeout:g} s cannot be met: --timeout takes seconds above 0")


def _open(address: ServerAddress, security: Security, *, asynchronous: bool) -> Transport:
    # Only the API that is used is imported.
    if address.is_rest:
        from client.transports.rest import RestTransport

        return RestTransport(address, security, asynchronous=asynchronous)
    from client.transports.grpc import GrpcTransport

    return GrpcTransport(address, security, asynchronous=asynchronous)

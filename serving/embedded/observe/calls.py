"""The one interceptor: every call that a port answers passes it, over gRPC and over REST."""

from __future__ import annotations

import itertools
import logging
import secrets
import time
from collections.abc import Callable, Collection, Mapping
from typing import NamedTuple

from serving.apis.recordings import TRACEPARENT_HEADER, Origin, traceparent
from serving.apis.status import Code
from serving.embedded.admission.budget import Budget
from serving.embedded.observe.metrics import Metrics
from serving.embedded.observe.recording import Exchange, Recording
from serving.errors import Internal, ResourceExhausted, ServingError

log = logging.getLogger(__name__)

REQUEST_ID_HEADER = "x-request-id"
_TRACEPARENT = TRACEPARENT_HEADER.encode()
_NO_METADATA: Mapping[bytes, bytes] = {}
# A client's own id that is longer is not taken over: it would fill the log.
_MAX_REQUEST_ID = 128
_UNKNOWN_MODEL = "unknown"
# A new id is unique to this process's life and its number in it.
_PREFIX = secrets.token_hex(6)
_NUMBERS = itertools.count(1)


class Operation(NamedTuple):
    """A method of a gRPC service or a REST route, as the interceptor needs to know it.

    entrypoint: GRPC or REST. measured: whether TF Serving's request metrics have it, with its name as their API.
    counts: whether --max_concurrent_requests bounds it; what asks for the server's state is never refused.
    """

    entrypoint: str
    name: str
    measured: bool = False
    counts: bool = True


class Call:
    """One call, which a `with` block answers; what is not known yet is empty.

    The block begins with ResourceExhausted when too many calls, or bytes, are under way, and an error that is no
    ServingError leaves it as Internal. request_id: the client's own, or empty. begin: by `time.perf_counter`. deadline:
    by `time.monotonic`. size: of the request, in bytes; they are the call's until it ends, or gives them back. code: OK
    unless the call's handler sets another or an error says so. header: one more for the answer, its name and value.
    metadata: the request's headers. recorded: what it is recorded with, if it is.
    """

    __slots__ = (
        "_interceptor", "_metadata", "_request_id", "begin", "code", "deadline", "header", "model", "operation", "path",
        "peer", "recorded", "size",
    )  # fmt: skip

    def __init__(
        self,
        interceptor: Interceptor,
        operation: Operation,
        path: str,
        peer: Callable[[], str],
        request_id: str,
        deadline: float | None = None,
        size: int = 0,
        metadata: Mapping[bytes, bytes] = _NO_METADATA,
    ) -> None:
        self.begin = time.perf_counter()
        self.operation = operation
        self.path = path
        self.peer = peer
        self.deadline = deadline
        self.model = ""
        self.code = Code.OK
        self.header: tuple[bytes, bytes] | None = None
        self._interceptor = interceptor
        self._request_id = request_id
        self.size = size
        self._metadata = metadata
        self.recorded: Exchange | None = None

    @property
    def request_id(self) -> str:
        """The client's own, if it has one that can be printed, or else one that no other call has."""
        own = self._request_id
        if not (0 < len(own) <= _MAX_REQUEST_ID and own.isascii() and own.isprintable()):
            self._request_id = own = f"{_PREFIX}-{next(_NUMBERS):x}"
        return own

    def charge(self, size: int) -> None:
        """Takes so many bytes more for as long as the call lasts. Raises ResourceExhausted when there are too few."""
        self._interceptor.budget.charge(size)
        self.size += size

    def refund(self, size: int) -> None:
        """Gives bytes back that the call needs no more, such as those of a request that runs."""
        self._interceptor.budget.refund(size)
        self.size -= size

    def give_back(self) -> None:
        """Gives all bytes back."""
        self.refund(self.size)

    def exchange(self, model: str) -> Exchange | None:
        """What to record this request to a model with, or None where it is not recorded."""
        recording = self._interceptor.recording
        if recording is not None:
            self.recorded = recording.exchange(model)
        return self.recorded

    @property
    def origin(self) -> Origin:
        """Where it came from, as it is recorded."""
        return Origin(self.request_id, traceparent(self._metadata.get(_TRACEPARENT, b"").decode("latin-1")))

    def __enter__(self) -> Call:
        self._interceptor.enter(self)
        return self

    def __exit__(self, kind: object, error: BaseException | None, _: object) -> None:
        unforeseen = isinstance(error, Exception) and not isinstance(error, ServingError)
        if isinstance(error, ServingError):
            self.code = error.code
        elif unforeseen:
            self.code = Code.INTERNAL
        elif error is not None:
            # Cancelled: by the port, which has set its reason, or because the client went away.
            self.code = self.code or Code.CANCELLED
        self._interceptor.leave(self)
        if unforeseen:
            log.error("unforeseen error in %s", self.path, exc_info=error)
            raise Internal(f"{type(error).__name__}: {error}") from error


class Interceptor:
    """Lets calls in up to a limit, counts and times them, and logs how each was answered.

    max_concurrent: 0 = no limit. budget: of their bytes; None for no limit. metrics, access_log, recording: None for
    none; the log is called with each call that has ended. logs: whether there is one.
    """

    def __init__(
        self,
        model_names: Callable[[], Collection[str]],
        *,
        max_concurrent: int = 0,
        budget: Budget | None = None,
        metrics: Metrics | None = None,
        access_log: Callable[[Call], None] | None = None,
        recording: Recording | None = None,
    ) -> None:
        self._model_names = model_names
        self._max_concurrent = max_concurrent
        self.budget = budget or Budget(0, time.monotonic)
        self._metrics = metrics
        self._access_log = access_log
        self.logs = access_log is not None
        self.recording = recording
        self._under_way = 0

    def enter(self, call: Call) -> None:
        """Begins a call. Raises ResourceExhausted when as many calls, or bytes, are under way as may be."""
        try:
            self._let_in(call)
        except ResourceExhausted:
            call.code = Code.RESOURCE_EXHAUSTED
            self._record(call)
            raise

    def leave(self, call: Call) -> None:
        """Ends a call that has its code."""
        self.budget.refund(call.size)
        call.size = 0
        if call.recorded is not None:
            self._end_exchange(call, call.recorded)
            call.recorded = None
        if call.operation.counts:
            self._under_way -= 1
        self._record(call)

    def _end_exchange(self, call: Call, exchange: Exchange) -> None:
        assert self.recording is not None
        origin = call.origin if call.code == Code.OK else None
        self.recording.end(exchange, origin, time.perf_counter() - call.begin)

    def _let_in(self, call: Call) -> None:
        if not call.operation.counts:
            # A probe is small, and never refused.
            self.budget.take(call.size)
            return
        if self._max_concurrent and self._under_way >= self._max_concurrent:
            raise ResourceExhausted(
                f"{self._under_way} requests are under way, as many as --max_concurrent_requests lets in: try again"
            )
        self.budget.charge(call.size)
        self._under_way += 1

    def _record(self, call: Call) -> None:
        if self._metrics is not None and call.operation.measured:
            # Names that clients make up must not become metrics.
            model = call.model if call.model in self._model_names() else _UNKNOWN_MODEL
            self._metrics.request(model, call.operation.name, call.operation.entrypoint, call.code, call.begin)
        if self._access_log is not None:
            self._access_log(call)

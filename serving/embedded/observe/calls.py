"""The one interceptor: every call that a port answers passes it, over gRPC and over REST."""

from __future__ import annotations

import itertools
import logging
import secrets
import time
from collections.abc import Callable, Collection, Mapping, Sequence
from typing import TYPE_CHECKING, Any, NamedTuple, Protocol, TypeVar

from fashion_common.trace_context import TRACEPARENT, TRACESTATE, TraceContext, new_trace, parse
from serving.apis.recordings import Origin
from serving.apis.status import Code
from serving.embedded.admission.budget import Budget
from serving.embedded.admission.samples import Sample, Samples
from serving.embedded.observe.metrics import Metrics
from serving.errors import Internal, ResourceExhausted, ServingError

if TYPE_CHECKING:
    from serving.embedded.observe.telemetry import CallSpan, Telemetry

log = logging.getLogger(__name__)

REQUEST_ID_HEADER = "x-request-id"
_TRACEPARENT, _TRACESTATE = TRACEPARENT.encode(), TRACESTATE.encode()
_NO_METADATA: Mapping[bytes, bytes] = {}
# A client's own id that is longer is not taken over: it would fill the log.
_MAX_REQUEST_ID = 128
_UNKNOWN_MODEL = "unknown"
# A new id is unique to this process's life and its number in it.
_PREFIX = secrets.token_hex(6)
_NUMBERS = itertools.count(1)


class Operation(NamedTuple):
    """A method of a gRPC service or a REST route, as the interceptor needs to know it.

    entrypoint: GRPC or REST. scopes: one of them lets a caller ask, where there are tokens; without a default, so that
    no method can be forgotten. measured: whether TF Serving's request metrics have it, with its name as their API.
    counts: whether --max_concurrent_requests bounds it; what asks for the server's state is never refused.
    """

    entrypoint: str
    name: str
    scopes: frozenset[str]
    measured: bool = False
    counts: bool = True


S = TypeVar("S", bound=Sample)


class Sampler(Protocol[S]):
    """Who keeps some of the requests, and their answers, for later."""

    def sample(self, model: str) -> S | None:
        """What to keep of a request to a model, or None for nothing."""

    def end(self, sample: S, origin: Origin | None, seconds: float) -> None:
        """The request was answered, after so many seconds. origin: None when it failed."""


class Call:
    """One call, which a `with` block answers; what is not known yet is empty.

    The block begins with ResourceExhausted when too many calls, or bytes, are under way, and an error that is no
    ServingError leaves it as Internal. request_id: the client's own, or empty. begin: by `time.perf_counter`. deadline:
    by `time.monotonic`. size: of the request, in bytes; they are the call's until it ends, or gives them back. code: OK
    unless the call's handler sets another or an error says so. header: one more for the answer, its name and value.
    metadata: the request's headers. caller: the name of its token, if any. samples: what is kept of it, and for whom.
    span: of a call that is traced, from its beginning.
    """

    __slots__ = (
        "_interceptor", "_metadata", "_request_id", "_trace", "begin", "caller", "code", "deadline", "header", "model",
        "operation", "path", "peer", "samples", "size", "span",
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
        caller: str = "",
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
        self.caller = caller
        self._trace: TraceContext | None = None
        self.span: CallSpan | None = None
        self.samples: Sequence[tuple[Sampler[Any], Sample]] = ()

    @property
    def request_id(self) -> str:
        """The client's own, if it has one that can be printed, or else one that no other call has."""
        own = self._request_id
        if not (0 < len(own) <= _MAX_REQUEST_ID and own.isascii() and own.isprintable()):
            self._request_id = own = f"{_PREFIX}-{next(_NUMBERS):x}"
        return own

    @property
    def caller_trace(self) -> TraceContext | None:
        """The trace that the caller says, if it says one."""
        parent = self._metadata.get(_TRACEPARENT)
        if parent is None:
            return None
        return parse(parent.decode("latin-1"), self._metadata.get(_TRACESTATE, b"").decode("latin-1"))

    @property
    def trace(self) -> TraceContext:
        """This call as a span: of the caller's trace, or else of a new one. Made when it is first asked for."""
        if self.span is not None:
            return self.span.trace
        if self._trace is None:
            caller = self.caller_trace
            self._trace = new_trace() if caller is None else caller.child()
        return self._trace

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

    def sample(self, model: str) -> Sample | Samples | None:
        """What to keep of this request to a model, or None: most are not chosen."""
        for sampler in self._interceptor.samplers:
            sample = sampler.sample(model)
            if sample is not None:
                self.samples = [*self.samples, (sampler, sample)]
        if not self.samples:
            return None
        return self.samples[0][1] if len(self.samples) == 1 else Samples([sample for _, sample in self.samples])

    @property
    def origin(self) -> Origin:
        """Where it came from, as its record says."""
        return Origin(self.request_id, (self.caller_trace or self.trace).traceparent)

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

    max_concurrent: 0 = no limit. budget: of their bytes; None for no limit. metrics, access_log: None for none; the log
    is called with each call that has ended. logs: whether there is one. samplers: what keeps some of the requests.
    telemetry: None for no spans.
    """

    def __init__(
        self,
        model_names: Callable[[], Collection[str]],
        *,
        max_concurrent: int = 0,
        budget: Budget | None = None,
        metrics: Metrics | None = None,
        access_log: Callable[[Call], None] | None = None,
        samplers: Sequence[Sampler[Any]] = (),
        telemetry: Telemetry | None = None,
    ) -> None:
        self._model_names = model_names
        self._max_concurrent = max_concurrent
        self.budget = budget or Budget(0, time.monotonic)
        self._metrics = metrics
        self._access_log = access_log
        self.logs = access_log is not None
        self.samplers = samplers
        self._telemetry = telemetry
        self._under_way = 0

    def enter(self, call: Call) -> None:
        """Begins a call. Raises ResourceExhausted when as many calls, or bytes, are under way as may be."""
        if self._telemetry is not None and call.operation.counts:
            call.span = self._telemetry.begin(call)
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
        if call.samples:
            self._end_samples(call)
        if call.operation.counts:
            self._under_way -= 1
        self._record(call)

    def _end_samples(self, call: Call) -> None:
        origin = call.origin if call.code == Code.OK else None
        seconds = time.perf_counter() - call.begin
        for sampler, sample in call.samples:
            sampler.end(sample, origin, seconds)
        call.samples = ()

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
        if call.span is not None and self._telemetry is not None:
            self._telemetry.end(call, call.span)

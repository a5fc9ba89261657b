"""Calls as OpenTelemetry's spans: one for each call, with children for what it goes through. Imported where it is on.

Names and attributes are those of the semantic conventions, version 1.45, for RPC and HTTP servers
(https://opentelemetry.io/docs/specs/semconv/rpc/grpc/, .../http/http-spans/); our own begin with `fashion.`.
"""

from __future__ import annotations

import time
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from opentelemetry.context import Context
from opentelemetry.sdk.trace.id_generator import RandomIdGenerator
from opentelemetry.sdk.trace.sampling import Decision
from opentelemetry.trace import (
    Link,
    Span,
    SpanContext,
    SpanKind,
    StatusCode,
    Tracer,
    set_span_in_context,
)

from fashion_common import telemetry
from fashion_common.trace_context import TraceContext
from serving.apis.status import Code
from serving.embedded.observe.calls import Call

if TYPE_CHECKING:
    from opentelemetry.sdk.trace import TracerProvider

_STOP_SECONDS = 2.0
_MODEL = "/v1/models/{model}"
# The REST routes that have spans, by operation: method and template. Of the gRPC methods all that are no probe have.
_ROUTES = {
    "Predict": ("POST", f"{_MODEL}:predict"),
    "Classify": ("POST", f"{_MODEL}:classify"),
    "Regress": ("POST", f"{_MODEL}:regress"),
    "GetModelStatus": ("GET", _MODEL),
    "GetModelMetadata": ("GET", f"{_MODEL}/metadata"),
}
# Of gRPC's codes, those that are a fault of the server's; over HTTP that is 5xx.
_FAULTS = frozenset(
    (Code.UNKNOWN, Code.DEADLINE_EXCEEDED, Code.UNIMPLEMENTED, Code.INTERNAL, Code.UNAVAILABLE, Code.DATA_LOSS)
)
_HTTP_FAULT = 500
# What a trace begins in.
_ROOT = Context()


class Telemetry:
    """Makes the spans of a process. scheme: of the REST port, http or https."""

    def __init__(self, provider: TracerProvider, scheme: str = "http") -> None:
        self._provider = provider
        self._ids = provider.id_generator = _Ids()
        self._tracer = provider.get_tracer("fashion-mnist-serving")
        self._scheme = scheme

    def begin(self, call: Call) -> CallSpan | None:
        """The span of a call that begins, as a part of its caller's trace; None for a call that is not sampled."""
        route = None
        if call.operation.entrypoint == "GRPC":
            name = call.path.lstrip("/")
            attributes: dict[str, Any] = {"rpc.system.name": "grpc", "rpc.method": name}
        else:
            route = _ROUTES.get(call.operation.name)
            if route is None:
                return None
            name = " ".join(route)
            attributes = {
                "http.request.method": route[0], "http.route": route[1], "url.scheme": self._scheme,
                "url.path": call.path,
            }  # fmt: skip
        caller = call.caller_trace
        if caller is None:
            # Most calls are not sampled: the decision alone costs a third of a span that records nothing.
            trace_id = self._ids.generate_trace_id()
            result = self._provider.sampler.should_sample(_ROOT, trace_id, name, SpanKind.SERVER, attributes)
            if result.decision == Decision.DROP:
                return None
            self._ids.next_trace_id = trace_id
        context = _ROOT if caller is None else telemetry.context_of(caller)
        offset = time.time_ns() - int(time.perf_counter() * 1e9)
        span = self._tracer.start_span(
            name, context, SpanKind.SERVER, attributes, start_time=offset + int(call.begin * 1e9)
        )
        if not span.is_recording():
            return None
        return CallSpan(self._tracer, span, call.begin, offset)

    def end(self, call: Call, span: CallSpan) -> None:
        """Ends a call's span with what has come of it."""
        attributes: dict[str, Any] = {"fashion.model.name": call.model, "fashion.request.id": call.request_id}
        host, _, port = call.peer().removeprefix("ipv4:").removeprefix("ipv6:").rpartition(":")
        if port.isdigit():
            attributes |= {"network.peer.address": host, "network.peer.port": int(port)}
        if call.operation.entrypoint == "GRPC":
            attributes["rpc.response.status_code"] = call.code.name
            is_fault = call.code in _FAULTS
        else:
            status = 200 if call.code == Code.OK else call.code.http_status
            attributes["http.response.status_code"] = status
            is_fault = status >= _HTTP_FAULT
        if is_fault:
            attributes["error.type"] = call.code.name
            span.span.set_status(StatusCode.ERROR)
        span.span.set_attributes(attributes)
        span.end()

    def ran(self, run: Any, begin: float, end: float) -> None:
        """A Run of one or several calls, from and to these moments of `time.perf_counter`.

        One span, in the trace of the first call, that links to every call in it; each of the others links to it.
        """
        spans: Sequence[CallSpan] = run.spans
        first = spans[0]
        model = run.version.servable
        for span in spans:
            span.phase("queue", begin)
        links = [Link(span.context) for span in spans] if len(spans) > 1 else ()
        attributes = {
            "fashion.model.name": model.name, "fashion.model.version": model.number,
            "fashion.model.runtime": model.runtime, "fashion.batch.requests": run.requests,
        }  # fmt: skip
        context = first.phase("run", end, links, attributes)
        for span in spans[1:]:
            span.skip(end, context)

    def close(self) -> None:
        """Sends what is left, within some seconds."""
        telemetry.stop(self._provider, _STOP_SECONDS)


class _Ids(RandomIdGenerator):
    """Random ids, but for a trace that was decided on already. On the event loop: children have their parent's."""

    next_trace_id = 0

    def generate_trace_id(self) -> int:
        """That of the trace that is about to begin."""
        trace_id, self.next_trace_id = self.next_trace_id, 0
        return trace_id or super().generate_trace_id()


class CallSpan:
    """One call's span. What the call goes through are children of it, each from the end of the one before."""

    __slots__ = ("_children", "_has_run", "_moment", "_offset", "_tracer", "span")

    def __init__(self, tracer: Tracer, span: Span, moment: float, offset: int) -> None:
        self.span = span
        self._tracer = tracer
        self._children = set_span_in_context(span, _ROOT)
        # Of time.perf_counter; offset: from it to the Unix epoch, in nanoseconds.
        self._moment = moment
        self._offset = offset
        self._has_run = False

    @property
    def context(self) -> SpanContext:
        """The span's ids."""
        return self.span.get_span_context()

    @property
    def trace(self) -> TraceContext:
        """The span as W3C's headers have it."""
        return telemetry.trace_of(self.context)

    def parsed(self) -> None:
        """The request is read."""
        self.phase("parse", time.perf_counter())

    def phase(
        self, name: str, end: float, links: Sequence[Link] = (), attributes: dict[str, Any] | None = None
    ) -> SpanContext:
        """A child from the end of the one before to a moment; gives its ids."""
        child = self._tracer.start_span(
            name, self._children, attributes=attributes, links=links,
            start_time=self._offset + int(self._moment * 1e9),
        )  # fmt: skip
        child.end(self._offset + int(end * 1e9))
        self._moment = end
        self._has_run = self._has_run or name == "run"
        return child.get_span_context()

    def skip(self, end: float, run: SpanContext) -> None:
        """The time until this moment belongs to a run that is another call's child."""
        self._moment, self._has_run = end, True
        # The call may have ended by its deadline.
        if self.span.is_recording():
            self.span.add_link(run)

    def end(self) -> None:
        """Ends the span, now."""
        now = time.perf_counter()
        if self._has_run:
            self.phase("serialise", now)
        self.span.end(self._offset + int(now * 1e9))

"""Calls as OpenTelemetry's spans: one for a call, and in it one for each attempt, which goes on to the server.

Imported only where the program has imported OpenTelemetry itself. Names and attributes are those of the semantic
conventions, version 1.45, for RPC and HTTP clients.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from opentelemetry.trace import (
    Span,
    SpanKind,
    StatusCode,
    get_current_span,
    get_tracer,
    use_span,
)

from client.errors import ServerError
from fashion_common.telemetry import context_of, trace_of
from fashion_common.trace_context import TraceContext


class CallSpan:
    """A call's span while it is entered. caller: the trace that it belongs to, where there is no current span."""

    def __init__(self, model: str, caller: TraceContext | None) -> None:
        self._tracer = get_tracer("fashion-mnist-serving")
        context = None
        if caller is not None and current() is None:
            context = context_of(caller)
        self._span = self._tracer.start_span("call", context, SpanKind.CLIENT, {"fashion.model.name": model})
        self._using = use_span(self._span, end_on_exit=True, record_exception=False, set_status_on_exception=False)
        self._attempts = 0

    def __enter__(self) -> CallSpan:
        self._using.__enter__()
        return self

    def __exit__(self, kind: object, error: BaseException | None, trace: object) -> None:
        _fail(self._span, error)
        # No error is passed on to it, which would be recorded a second time.
        self._using.__exit__(None, None, None)

    @contextmanager
    def attempt(self, transport: Any, request: Any) -> Iterator[None]:
        """One attempt: request is a Transport's. A span that is current within."""
        name, attributes = _described(transport, request)
        self._span.update_name(name.rpartition("/")[2] if "rpc.method" in attributes else name)
        if self._attempts and "rpc.method" not in attributes:
            attributes["http.request.resend_count"] = self._attempts
        self._attempts += 1
        caller = current()
        span = self._tracer.start_span(name, kind=SpanKind.CLIENT, attributes=attributes)
        if caller is not None and f"{span.get_span_context().span_id:016x}" == caller.span_id:
            # There is no SDK, which gives each span an id: a server takes two attempts for one otherwise.
            span = get_current_span(context_of(caller.child()))
        with use_span(span, end_on_exit=True, record_exception=False, set_status_on_exception=False):
            error: BaseException | None = None
            try:
                yield
            except BaseException as failure:
                error = failure
                raise
            finally:
                _fail(span, error)
                for key, value in _status(attributes, error):
                    span.set_attribute(key, value)


def current() -> TraceContext | None:
    """The current span of OpenTelemetry, if there is one."""
    context = get_current_span().get_span_context()
    return trace_of(context) if context.is_valid else None


def _described(transport: Any, request: Any) -> tuple[str, dict[str, Any]]:
    """The name and the attributes of an attempt's span."""
    address = getattr(transport, "address", None)
    attributes: dict[str, Any] = {}
    if address is not None and address.scheme == "unix":
        attributes["server.address"] = address.target.removeprefix("unix://")
    elif address is not None:
        attributes["server.address"], attributes["server.port"] = address.endpoint
    path = getattr(request, "path", None)
    if path is not None:
        method: str = request.method
        return method, attributes | {"http.request.method": method, "url.full": f"{address}{path}"}
    rpc = getattr(getattr(request, "method", None), "path", "/call").lstrip("/")
    return rpc, attributes | {"rpc.system.name": "grpc", "rpc.method": rpc}


def _status(attributes: dict[str, Any], error: BaseException | None) -> Iterator[tuple[str, str | int]]:
    if "rpc.method" in attributes:
        if error is None or isinstance(error, ServerError):
            yield "rpc.response.status_code", error.code if isinstance(error, ServerError) else "OK"
    elif error is None:
        yield "http.response.status_code", 200
    elif isinstance(error, ServerError) and error.http_status is not None:
        yield "http.response.status_code", error.http_status


def _fail(span: Span, error: BaseException | None) -> None:
    if error is not None:
        span.set_attribute("error.type", error.code if isinstance(error, ServerError) else type(error).__name__)
        span.set_status(StatusCode.ERROR, str(error) if isinstance(error, ServerError) else None)

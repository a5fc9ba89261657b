"""The distributed trace that calls belong to: it goes on to the server, each attempt as a span of its own."""

from __future__ import annotations

import sys
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from contextvars import ContextVar
from types import ModuleType
from typing import TYPE_CHECKING

from client.errors import ClientUsageError
from fashion_common.trace_context import TRACEPARENT, TRACESTATE, TraceContext, parse

if TYPE_CHECKING:
    from client.telemetry import CallSpan

_trace: ContextVar[TraceContext | None] = ContextVar("trace", default=None)
# The process's own, where it was started as a part of a trace.
_process_trace: TraceContext | None = None


@contextmanager
def trace(traceparent: str, tracestate: str = "") -> Iterator[None]:
    """Calls within belong to this trace, in this thread or asyncio task: the headers of whoever asks you.

    Raises ClientUsageError for what is no traceparent (https://www.w3.org/TR/trace-context/).
    """
    context = parse(traceparent, tracestate)
    if context is None:
        raise ClientUsageError(
            f"{traceparent!r} is no traceparent: expected 00-, 32 and 16 hexadecimal digits, and flags: "
            "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01"
        )
    token = _trace.set(context)
    try:
        yield
    finally:
        _trace.reset(token)


def take_environment(environment: Mapping[str, str]) -> None:
    """Makes TRACEPARENT and TRACESTATE the trace of this process's calls; what is no traceparent is passed over.

    https://opentelemetry.io/docs/specs/otel/context/env-carriers/
    """
    global _process_trace  # noqa: PLW0603 - it is the process's
    names = TRACEPARENT.upper(), TRACESTATE.upper()
    _process_trace = parse(*(environment.get(name, "") for name in names))


def current() -> TraceContext | None:
    """The trace that a call belongs to now, or None: OpenTelemetry's current span goes before all else."""
    spans = _spans()
    return (spans.current() if spans is not None else None) or _trace.get() or _process_trace


def attempt_headers(headers: Sequence[tuple[str, str]]) -> tuple[tuple[str, str], ...]:
    """What goes with an attempt besides the caller's own headers: its place in the trace, unless they have one."""
    if any(name == TRACEPARENT for name, _ in headers):
        return ()
    spans = _spans()
    attempt: TraceContext | None = None if spans is None else spans.current()
    if attempt is None and (context := _trace.get() or _process_trace) is not None:
        attempt = context.child()
    return () if attempt is None else attempt.headers


class NoSpan:
    """A call that is not traced by OpenTelemetry, and each of its attempts."""

    def __enter__(self) -> NoSpan:
        return self

    def __exit__(self, *_error: object) -> None:
        pass

    def attempt(self, _transport: object, _request: object) -> NoSpan:
        """One attempt."""
        return self


_NO_SPAN = NoSpan()


def call_span(model: str) -> CallSpan | NoSpan:
    """The span of a call to a model, to be entered; where the program has not imported OpenTelemetry it is none."""
    spans = _spans()
    return _NO_SPAN if spans is None else spans.CallSpan(model, _trace.get() or _process_trace)


def _spans() -> ModuleType | None:
    """`client.telemetry`, where the program has imported OpenTelemetry: nobody else pays for it."""
    if "opentelemetry.trace" not in sys.modules:
        return None
    from client import telemetry

    return telemetry

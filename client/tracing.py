"""The distributed trace that calls belong to: it goes on to the server, each attempt as a span of its own."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from contextvars import ContextVar

from client.errors import ClientUsageError
from fashion_common.trace_context import TRACEPARENT, TRACESTATE, TraceContext, parse

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
    """The trace that a call belongs to now, or None."""
    return _trace.get() or _process_trace


def attempt_headers(headers: Sequence[tuple[str, str]]) -> tuple[tuple[str, str], ...]:
    """What goes with an attempt besides the caller's own headers: its place in the trace, unless they have one."""
    context = current()
    if context is None or any(name == TRACEPARENT for name, _ in headers):
        return ()
    return context.child().headers

"""Where a call's trace comes from: the code around it, or the environment of the process."""

from __future__ import annotations

import contextlib
import sys
from collections.abc import Iterator

import pytest

import client
from client import tracing
from fashion_common.trace_context import parse
from tests.support.records import TRACEPARENT

OTHER = TRACEPARENT.replace("4", "5")


@pytest.fixture(autouse=True)
def _environment() -> Iterator[None]:
    """None is left behind."""
    yield
    tracing.take_environment({})


def test_the_environment_is_the_trace_of_a_process() -> None:
    """TRACEPARENT and TRACESTATE; the code around a call goes before it, and what is no traceparent is passed over."""
    tracing.take_environment({"TRACEPARENT": TRACEPARENT, "TRACESTATE": "a=1"})
    context = tracing.current()
    assert context is not None
    assert context.headers == (("traceparent", TRACEPARENT), ("tracestate", "a=1"))
    with client.trace(OTHER):
        assert dict(tracing.attempt_headers(()))["traceparent"].split("-")[1] == OTHER.split("-")[1]
    assert tracing.current() == context
    tracing.take_environment({"TRACEPARENT": "none"})
    assert tracing.current() is None
    assert tracing.attempt_headers(()) == ()


def test_what_is_no_traceparent_is_an_error_of_the_caller() -> None:
    """With the form that it has."""
    with (
        pytest.raises(client.ClientUsageError, match=r"^'00-1' is no traceparent: expected 00-, 32 and 16"),
        client.trace("00-1"),
    ):
        pass


def test_an_attempt_is_a_child_of_the_trace() -> None:
    """A span of its own each time; the caller's own header goes before it, and nothing is left behind."""
    with client.trace(TRACEPARENT, "a=1"):
        headers = [dict(tracing.attempt_headers((("x", "y"),))) for _ in range(2)]
        assert tracing.attempt_headers((("traceparent", "mine"),)) == ()
    first, second = (each["traceparent"].split("-") for each in headers)
    _, trace_id, span_id, flags = TRACEPARENT.split("-")
    assert first[1:2] + first[3:] == second[1:2] + second[3:] == [trace_id, flags]
    assert len({first[2], second[2], span_id}) == 3
    assert [each["tracestate"] for each in headers] == ["a=1", "a=1"]
    assert tracing.current() is None
    assert tracing.attempt_headers(()) == ()


def test_a_trace_within_a_trace() -> None:
    """The inner one counts, until it ends, however it does."""
    with client.trace(TRACEPARENT):
        with contextlib.suppress(KeyError), client.trace(OTHER):
            inner = tracing.current()
            raise KeyError
        outer = tracing.current()
    assert (inner, outer) == (parse(OTHER), parse(TRACEPARENT))
    assert tracing.current() is None


def test_without_opentelemetry_a_call_has_no_span(monkeypatch: pytest.MonkeyPatch) -> None:
    """It costs nothing; the trace goes on all the same."""
    monkeypatch.delitem(sys.modules, "opentelemetry.trace", raising=False)
    span = tracing.call_span("m")
    with span as entered, entered.attempt(None, None) as attempt:
        assert entered is attempt is span is tracing.call_span("other")
    with client.trace(TRACEPARENT):
        assert dict(tracing.attempt_headers(()))["traceparent"].split("-")[1] == TRACEPARENT.split("-")[1]
        assert tracing.current() == parse(TRACEPARENT)

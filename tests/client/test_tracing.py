"""Where a call's trace comes from: the code around it, or the environment of the process."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

import client
from client import tracing
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

"""The client's errors: what they say, and what they carry."""

from __future__ import annotations

import pytest

from client.errors import DeadlineExceededError, ServerError, ServerUnreachableError, server_error
from fashion_common.trace_context import parse
from tests.support.records import TRACEPARENT

_VERSIONS = "`fashion status` shows the versions; --model-version or --version-label names one"


@pytest.mark.parametrize(
    ("code", "details", "kind", "hint"),
    [
        ("UNAVAILABLE", "x", ServerUnreachableError, "start a server with `fashion serve`, or name one with --server"),
        ("DEADLINE_EXCEEDED", "x", DeadlineExceededError, "give it longer with --timeout SECONDS"),
        ("NOT_FOUND", "Servable not found for request: Latest(m)", ServerError, "is this name served? --model-name"),
        ("NOT_FOUND", "Servable not found for request: Specific(m, 9)", ServerError, _VERSIONS),
        ("INVALID_ARGUMENT", "Unrecognized servable version label: x", ServerError, _VERSIONS),
        ("INTERNAL", "version 3 of m is gone", ServerError, _VERSIONS),
        ("INTERNAL", "version x of m", ServerError, ""),
        ("UNAUTHENTICATED", "no token", ServerError, "--token-file names the file with your token; `fashion token`"),
        ("UNAUTHENTICATED", "no client certificate", ServerError, "--tls-certificate FILE --tls-key FILE"),
        ("INTERNAL", "no client certificate", ServerError, ""),
        ("PERMISSION_DENIED", "x", ServerError, "ask who runs the server for a token with that scope: `fashion token"),
        ("UNIMPLEMENTED", "x", ServerError, "is this address TF Serving's? gRPC is usually on port 8500, REST on 8501"),
        (
            "RESOURCE_EXHAUSTED",
            "larger than 100 bytes",
            ServerError,
            "send fewer rows at a time, or raise the server's",
        ),
        ("RESOURCE_EXHAUSTED", "larger than max (1 vs. 0)", ServerError, "send fewer rows at a time, or raise the ser"),
        ("RESOURCE_EXHAUSTED", "too many", ServerError, ""),
        ("INTERNAL", "larger than 100 bytes", ServerError, ""),
    ],
)
def test_a_code_has_its_class_and_its_hint(code: str, details: str, kind: type[ServerError], hint: str) -> None:
    """Versions, sizes and certificates are known by the server's words; the text is one line."""
    error = server_error(code, f" {details}\n")
    assert type(error) is kind
    assert (error.code, error.details) == (code, details)
    assert error.hint.startswith(hint)
    assert bool(error.hint) == bool(hint)
    assert str(error) == f"{code}: {details}" + (f" ({error.hint})" if hint else "")
    assert (error.request_id, error.trace_id, error.in_trace, error.http_status) == ("", "", False, None)


def test_another_hint_leaves_the_rest_as_it_was() -> None:
    """An empty one leaves the hint, too."""
    error = server_error("UNAVAILABLE", "gone").locate("id", parse(TRACEPARENT), in_trace=True)
    error.http_status = 503
    for hint, expected in (("do this", "do this"), ("", error.hint)):
        other = error.with_hint(hint)
        assert other is not error
        assert type(other) is ServerUnreachableError
        assert (other.code, other.details, other.hint) == ("UNAVAILABLE", "gone", expected)
        assert (other.request_id, other.trace_id, other.in_trace) == ("id", TRACEPARENT.split("-")[1], True)
        assert other.http_status == 503
        assert str(other) == f"UNAVAILABLE: gone ({expected}) [trace {TRACEPARENT.split('-')[1]}]"


def test_where_a_request_is_found_is_noted_bit_by_bit() -> None:
    """What is not known leaves what was; a trace that is the server's own is not in the text."""
    trace, trace_id = parse(TRACEPARENT), TRACEPARENT.split("-")[1]
    error = server_error("INTERNAL", "broken")
    assert error.locate("", None, in_trace=True) is error
    assert (error.request_id, error.trace_id, error.in_trace) == ("", "", False)
    error.locate("id", trace)
    assert (error.request_id, error.trace_id, error.in_trace, str(error)) == (
        "id",
        trace_id,
        False,
        "INTERNAL: broken",
    )
    error.locate("", None)
    assert (error.request_id, error.trace_id) == ("id", trace_id)
    error.locate("", trace, in_trace=True).locate("other", None)
    assert (error.request_id, error.in_trace) == ("other", True)
    assert str(error) == f"INTERNAL: broken [trace {trace_id}]"

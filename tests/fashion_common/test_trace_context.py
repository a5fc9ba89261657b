"""W3C Trace Context as its specification has it: what is taken, what is not, and what goes on."""

from __future__ import annotations

import re

import pytest

from fashion_common.trace_context import TraceContext, new_trace, parse

TRACE, SPAN = "4bf92f3577b34da6a3ce929d0e0e4736", "00f067aa0ba902b7"
VALID = f"00-{TRACE}-{SPAN}-01"


def test_a_traceparent_comes_back_as_it_was() -> None:
    """With its flag, and what a tracing system adds."""
    context = parse(VALID, "congo=t61rcWkgMzE,rojo=00f067")
    assert context == TraceContext(TRACE, SPAN, sampled=True, tracestate="congo=t61rcWkgMzE,rojo=00f067")
    assert context.traceparent == VALID
    assert context.headers == (("traceparent", VALID), ("tracestate", "congo=t61rcWkgMzE,rojo=00f067"))
    assert TraceContext(TRACE, SPAN).headers == (("traceparent", f"00-{TRACE}-{SPAN}-00"),)


@pytest.mark.parametrize(
    "text",
    [
        "", VALID[:-1], f"{VALID}0", f"{VALID}-", f"{VALID}-x", VALID.upper(), VALID.replace("-", ";"), f" {VALID}",
        f"ff-{TRACE}-{SPAN}-01", f"00-{'0' * 32}-{SPAN}-01", f"00-{TRACE}-{'0' * 16}-01", f"00-{TRACE}-{SPAN}-0g",
        f"cc-{TRACE}-{SPAN}-01what", f"{VALID},{VALID}", f"{VALID}\n", "\u00e9" * 55,
    ],
)  # fmt: skip
def test_what_is_no_traceparent(text: str) -> None:
    """Too short, too long, wrong letters, the version that may not be, zeros, two at once; its tracestate goes too."""
    assert parse(text, "a=1") is None


@pytest.mark.parametrize("text", [f"cc-{TRACE}-{SPAN}-01", f"01-{TRACE}-{SPAN}-01-what-the-future-will-be-like"])
def test_a_version_of_the_future_counts_as_version_00(text: str) -> None:
    """Whatever it has at its end."""
    context = parse(text)
    assert context is not None
    assert context.traceparent == VALID


@pytest.mark.parametrize(("flags", "sampled"), [("00", "00"), ("01", "01"), ("03", "01"), ("ff", "01"), ("fe", "00")])
def test_flags_that_version_00_does_not_know_are_not_passed_on(flags: str, sampled: str) -> None:
    """Only the first one is."""
    context = parse(f"00-{TRACE}-{SPAN}-{flags}")
    assert context is not None
    assert context.traceparent.endswith(sampled)


@pytest.mark.parametrize(
    "text",
    [
        "a=1", "a=1,b=2", "a=1, b=2", "a=1,,\tb=2 ", "tenant@system=x", "0tenant@s=x", f"{'z' * 256}=1",
        f"a={'v' * 256}", "a=  x", ",".join(f"k{number}=1" for number in range(32)), "a-b/c*d_e=!~",
    ],
)  # fmt: skip
def test_a_tracestate_is_kept_whole(text: str) -> None:
    """Up to 32 members, 256 characters for a key and for a value; spaces around members, empty ones."""
    context = parse(VALID, text)
    assert context is not None
    assert context.tracestate == text


@pytest.mark.parametrize(
    "text",
    [
        "a", "a=", "=1", "A=1", "0=1", "a=1,a=2", "a=b=c", "a=\u00e9", "a=1;b=2,c", f"{'z' * 257}=1", f"a={'v' * 257}",
        f"{'t' * 242}@s=1", f"t@{'s' * 15}=1", ",".join(f"k{number}=1" for number in range(33)),
    ],
)  # fmt: skip
def test_what_is_no_tracestate_is_dropped_alone(text: str) -> None:
    """The trace goes on."""
    assert parse(VALID, text) == TraceContext(TRACE, SPAN, sampled=True)


def test_a_child_is_another_span_of_the_same_trace() -> None:
    """All else stays; a new trace is another one each time, and not sampled."""
    context = TraceContext(TRACE, SPAN, sampled=True, tracestate="a=1")
    child = context.child()
    assert child._replace(span_id=SPAN) == context
    assert child.span_id != SPAN
    first, second = new_trace(), new_trace()
    assert first.trace_id != second.trace_id
    for each in (child, first, second):
        assert parse(each.traceparent, each.tracestate) == each
        assert re.fullmatch(r"[0-9a-f]{16}", each.span_id)

"""W3C Trace Context: a request's place in a distributed trace, as the headers `traceparent` and `tracestate` have it.

https://www.w3.org/TR/trace-context/
"""

from __future__ import annotations

import os
import re
from typing import NamedTuple

TRACEPARENT = "traceparent"
TRACESTATE = "tracestate"
# The answer's header: https://w3c.github.io/trace-context/#traceresponse-header
TRACERESPONSE = "traceresponse"
# As they come with a request.
FIELDS = frozenset((TRACEPARENT.encode(), TRACESTATE.encode()))

_PARENT = re.compile(r"([0-9a-f]{2})-([0-9a-f]{32})-([0-9a-f]{16})-([0-9a-f]{2})(-.*)?")
_VERSION, _INVALID_VERSION = "00", "ff"
_SAMPLED = 1
# A key, which may have a tenant before its system, and a value: sections 3.3.1.3.1 and 3.3.1.3.2.
_MEMBER = re.compile(
    r"([a-z][a-z0-9_\-*/]{0,255}|[a-z0-9][a-z0-9_\-*/]{0,240}@[a-z][a-z0-9_\-*/]{0,13})"
    r"=[ -+\--<>-~]{0,255}[!-+\--<>-~]"
)
_MAX_MEMBERS = 32


class TraceContext(NamedTuple):
    """trace_id: 32 hexadecimal digits. span_id: 16, of who asks. tracestate: what tracing systems add, as it came."""

    trace_id: str
    span_id: str
    sampled: bool = False
    tracestate: str = ""

    @property
    def traceparent(self) -> str:
        """The header's value, version 00; flags that it does not know are not passed on (section 3.2.2.5)."""
        return f"{_VERSION}-{self.trace_id}-{self.span_id}-{'01' if self.sampled else '00'}"

    @property
    def headers(self) -> tuple[tuple[str, str], ...]:
        """What goes with a request."""
        parent = ((TRACEPARENT, self.traceparent),)
        return (*parent, (TRACESTATE, self.tracestate)) if self.tracestate else parent

    def child(self) -> TraceContext:
        """A new span of the same trace."""
        return self._replace(span_id=os.urandom(8).hex())


def new_trace() -> TraceContext:
    """The first span of a new trace."""
    digits = os.urandom(24).hex()
    return TraceContext(digits[:32], digits[32:])


def parse(traceparent: str, tracestate: str = "") -> TraceContext | None:
    """What the headers say, or None: whoever gets a traceparent that is none is to begin a new trace.

    A version that is not known counts as 00, whatever it has behind the flags (section 3.2.2.2). A tracestate that is
    none is dropped alone.
    """
    match = _PARENT.fullmatch(traceparent)
    if match is None:
        return None
    version, trace_id, span_id, flags, more = match.groups()
    if (
        version == _INVALID_VERSION
        or (version == _VERSION and more)
        or not (trace_id.strip("0") and span_id.strip("0"))
    ):
        return None
    return TraceContext(trace_id, span_id, bool(int(flags, 16) & _SAMPLED), _tracestate(tracestate))


def _tracestate(text: str) -> str:
    """The header's value if it is a tracestate, else an empty text."""
    members = [member.strip(" \t") for member in text.split(",")]
    keys = [member.partition("=")[0] for member in members if member]
    is_list = len(keys) <= _MAX_MEMBERS and len(set(keys)) == len(keys)
    return text if is_list and all(_MEMBER.fullmatch(member) for member in members if member) else ""

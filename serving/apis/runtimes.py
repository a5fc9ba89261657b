"""Which runtime serves each version of a model: a header beside its status, which only the embedded server sends."""

from __future__ import annotations

import re
from collections.abc import Mapping

HEADER = "x-runtimes"
# Clients take 8 KB of headers.
_MAX_VERSIONS = 100
_ENTRY = re.compile(r"\b([0-9]{1,19})=(\w+)", re.ASCII)


def header_value(runtimes: Mapping[int, str]) -> str:
    """The header's value; of many versions the newest. runtimes: a runtime's name by the version's number."""
    newest = sorted(runtimes.items(), reverse=True)[:_MAX_VERSIONS]
    return ",".join(f"{number}={runtime}" for number, runtime in newest)


def read_header(value: str) -> dict[int, str]:
    """What `header_value` was given; what is no such value tells nothing."""
    return {int(number): runtime for number, runtime in _ENTRY.findall(value)}

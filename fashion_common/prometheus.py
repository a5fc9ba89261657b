"""Samples in the text that Prometheus reads.

https://prometheus.io/docs/instrumenting/exposition_formats/#text-based-format
"""

from __future__ import annotations

import re
from collections.abc import Iterator

_LABEL = re.compile(r'(\w+)="((?:[^"\\]|\\.)*)"')


def samples(text: str, name: str) -> Iterator[tuple[dict[str, str], float]]:
    """The labels and the value of each sample of this name; what is none is passed over."""
    for line in text.splitlines():
        if line.startswith(f"{name}{{"):
            labels, _, value = line.removeprefix(name).rpartition("} ")
            try:
                yield dict(_LABEL.findall(labels)), float(value.split()[0])
            except (ValueError, IndexError):
                continue

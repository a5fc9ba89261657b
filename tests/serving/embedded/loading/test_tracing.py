"""How long a trace of TensorFlow's is taken."""

from __future__ import annotations

import threading
from types import SimpleNamespace
from typing import Any

import pytest

from serving.embedded.admission import resources
from serving.embedded.loading.tensorflow import tracing


class End:
    """An event that is never set: it lets the clock go on."""

    def __init__(self) -> None:
        self.now = 50.0
        self.waits: list[float] = []

    def wait(self, seconds: float) -> bool:
        """Notes it."""
        self.waits.append(round(seconds, 6))
        self.now += seconds
        return False


@pytest.fixture
def end(monkeypatch: pytest.MonkeyPatch) -> Any:
    """Such an event, by whose clock is looked."""
    end = End()
    monkeypatch.setattr(tracing, "time", SimpleNamespace(monotonic=lambda: end.now))
    return end


def test_a_trace_ends_after_its_time(end: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    """It is looked every fifth of a second."""
    monkeypatch.setattr(resources, "resident_bytes", lambda: 0)
    tracing._wait(end, 0.5)
    assert end.waits == [0.2, 0.2, 0.1]
    end.waits.clear()
    tracing._wait(end, 0)
    assert end.waits == [0]


def test_a_trace_ends_when_it_has_taken_much_memory(end: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    """More than 256 MiB beside what the process had."""
    sizes = iter([1000, 1000 + 2**28, 1001 + 2**28])
    monkeypatch.setattr(resources, "resident_bytes", lambda: next(sizes))
    tracing._wait(end, 100)
    assert end.waits == [0.2, 0.2]


def test_a_trace_ends_when_it_is_told_to() -> None:
    """At once."""
    end = threading.Event()
    end.set()
    tracing._wait(end, 3600)

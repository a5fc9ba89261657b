"""What a test reads of the log: its own lines."""

from __future__ import annotations

import threading

import pytest


@pytest.fixture(autouse=True)
def earlier_threads() -> frozenset[threading.Thread]:
    """The threads that were there before the test, but for its own."""
    return frozenset(threading.enumerate()) - {threading.current_thread()}


@pytest.fixture
def caplog(caplog: pytest.LogCaptureFixture, earlier_threads: frozenset[threading.Thread]) -> pytest.LogCaptureFixture:
    """pytest's, without what threads of other tests still log, whichever came before."""
    caplog.handler.addFilter(lambda _: threading.current_thread() not in earlier_threads)
    return caplog

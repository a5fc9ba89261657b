"""Time that passes only where a test says so."""

from __future__ import annotations

import math


class Clock:
    """Stands in for the module `time`: seconds pass by sleeping, and where `now` is moved. slept: the pauses."""

    def __init__(self) -> None:
        self.now = 1024.0
        self.slept: list[float] = []

    def perf_counter(self) -> float:
        """The time, in seconds."""
        return self.now

    def monotonic(self) -> float:
        """The time, in seconds."""
        return self.now

    def sleep(self, seconds: float) -> None:
        """Passes so many seconds."""
        self.slept.append(seconds)
        # A pause that a float cannot hold takes time all the same.
        self.now = max(self.now + seconds, math.nextafter(self.now, math.inf))

"""How far a job is: a line that moves on a terminal, or JSON lines."""

from __future__ import annotations

import json
import sys
import time
from collections.abc import Callable
from typing import Any, TextIO

_TERMINAL_SECONDS, _JSON_SECONDS = 0.2, 1.0
_MINUTE = 60


class Progress:
    """Told of rows, it says so on stderr now and then. kind: `bar`, which only a terminal gets, or `json`.

    total: rows in all. clock: in seconds.
    """

    def __init__(
        self, kind: str, total: int, stream: TextIO | None = None, clock: Callable[[], float] = time.monotonic
    ) -> None:
        self._stream = stream or sys.stderr
        self._kind = kind
        self._is_shown = kind == "json" or (kind == "bar" and self._stream.isatty())
        self._total = total
        self._before = self.rows = 0
        self._clock = clock
        self.begin()
        self._next = 0.0

    def begin(self) -> None:
        """From here on it counts: what answers is there."""
        self._begin = self._clock()

    def skip(self, rows: int) -> None:
        """So many were done by an earlier run: they count for how far it is, not for the rate."""
        self._before += rows
        self.rows += rows

    def add(self, rows: int) -> None:
        """So many rows more are done."""
        self.rows += rows
        now = self._clock()
        if self._is_shown and now >= self._next:
            self._next = now + (_JSON_SECONDS if self._kind == "json" else _TERMINAL_SECONDS)
            self._show()

    def end(self) -> None:
        """Says how far it came, whatever the time."""
        if self._is_shown:
            self._show()
            if self._kind == "bar":
                self._stream.write("\n")
                self._stream.flush()

    @property
    def seconds(self) -> float:
        """Since it began."""
        return self._clock() - self._begin

    @property
    def rate(self) -> float:
        """Rows a second of this run."""
        return (self.rows - self._before) / max(self.seconds, 1e-6)

    def facts(self) -> dict[str, Any]:
        """For a machine; seconds_left is null before anything is done."""
        left = (self._total - self.rows) / self.rate if self.rate else None
        return {
            "rows": self.rows,
            "total": self._total,
            "rows_per_second": round(self.rate, 1),
            "seconds_left": None if left is None else round(max(0.0, left), 1),
        }

    def _show(self) -> None:
        facts = self.facts()
        if self._kind == "json":
            self._stream.write(json.dumps(facts) + "\n")
        else:
            share = self.rows / max(1, self._total)
            left = "" if facts["seconds_left"] is None else f", {_time(facts['seconds_left'])} left"
            line = f"{self.rows:,} of {self._total:,} rows ({share:.0%}), {self.rate:,.0f}/s{left}"
            self._stream.write(f"\r\x1b[K{line}")
        self._stream.flush()


def _time(seconds: float) -> str:
    minutes, seconds = divmod(round(seconds), _MINUTE)
    hours, minutes = divmod(minutes, _MINUTE)
    return f"{hours}:{minutes:02d}:{seconds:02d}" if hours else f"{minutes}:{seconds:02d}"

"""Servers of a model base path that answer over REST what a test has them say, and a clock that it moves."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any
from urllib.parse import unquote

from fashion_common.installation import state_directory
from fashion_common.labels import read_labels
from fashion_common.layout import version_directories
from fashion_common.running import RunningServer, recorded
from tests.support.clocks import Clock
from tests.support.status_servers import http_server


class PlannedClock(Clock):
    """Sleeping also does what is planned for then."""

    def __init__(self) -> None:
        super().__init__()
        self._plans: list[tuple[float, Callable[[], object]]] = []

    def sleep(self, seconds: float) -> None:
        """They pass."""
        super().sleep(seconds)
        due = [plan for plan in self._plans if plan[0] <= self.now + 1e-9]
        self._plans = [plan for plan in self._plans if plan not in due]
        for _, act in due:
            act()

    def after(self, seconds: float, act: Callable[[], object]) -> None:
        """Does it so many seconds from now."""
        self._plans.append((self.now + seconds, act))


class SimulatedServer:
    """What a server of model `m` says.

    states: of the versions, by number. errors: why one is at its end. labels: those that it answers by; None for those
    of the model base path. metrics: in Prometheus' text.
    """

    def __init__(self, base: Path, url: str = "") -> None:
        self.base = base
        self.url = url
        self.states = dict.fromkeys(version_directories(base), "AVAILABLE")
        self.errors: dict[int, str] = {}
        self.labels: dict[str, int] | None = None
        self.metrics = ""

    def answer(self, headers: Mapping[str, str]) -> tuple[int, bytes]:
        """Status and body of a GET."""
        path = headers[":path"]
        if path == "/monitoring/prometheus/metrics":
            return 200, self.metrics.encode()
        if path == "/v1/models/m":
            return 200, json.dumps({"model_version_status": [self._status(number) for number in self.states]}).encode()
        label = unquote(path.removeprefix("/v1/models/m/labels/").removesuffix("/metadata"))
        labels = read_labels(self.base).named(list(self.states)) if self.labels is None else self.labels
        if label not in labels:
            return 404, b"{}"
        return 200, json.dumps({"model_spec": {"version": str(labels[label])}}).encode()

    def _status(self, number: int) -> dict[str, Any]:
        error = self.errors.get(number, "")
        status = {"error_code": "INTERNAL" if error else "OK", "error_message": error}
        return {"version": str(number), "state": self.states[number], "status": status}


@contextmanager
def simulated_server(base: Path, port: int = 8500) -> Iterator[SimulatedServer]:
    """One that is recorded as running; port: that of its record, by which servers are ordered."""
    simulated = SimulatedServer(base)
    with http_server(simulated.answer) as rest:
        simulated.url = f"http://127.0.0.1:{rest}/v1/models/m"
        server = RunningServer(str(base), str(base), "m", simulated.url, "/c")
        with recorded(server, state_directory() / str(port)):
            yield simulated

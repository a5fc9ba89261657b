"""One server with little memory for all attacks, and the table of what they cost."""

from __future__ import annotations

import contextlib
import json
import os
import platform
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from tests.hostile.attacks import ATTACKS
from tests.hostile.grounds import Cost, Grounds, grounds

RESULTS = Path(__file__).parents[2] / "benchmarks" / "results" / "hostile.json"
COSTS: dict[str, Cost] = {}
MEANS: list[str] = []


@pytest.fixture(autouse=True)
def _unmeasured(monkeypatch: pytest.MonkeyPatch) -> None:
    """Servers and callers at their own speed: to measure the coverage of a process makes it half as fast."""
    for name in [name for name in os.environ if name.startswith("COVERAGE_")]:
        monkeypatch.delenv(name)


@pytest.fixture(scope="session")
def hostile_grounds(toys: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Callable[[], Grounds]]:
    """Gives the server; a new one when an attack has brought it down, so that each test speaks for itself."""
    with contextlib.ExitStack() as stack:
        current: list[Grounds] = []

        def get() -> Grounds:
            if not current or not current[-1].is_alive:
                if current:
                    current[-1].server.process.kill()
                current.append(stack.enter_context(grounds(toys, tmp_path_factory.mktemp("hostile"))))
                MEANS.append(current[-1].memory.means)
            return current[-1]

        yield get


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter, exitstatus: int, config: pytest.Config) -> None:
    """Prints what the attacks cost; with --hostile-results writes it for `make readme`."""
    if not COSTS:
        return
    terminalreporter.section("what the attacks cost")
    terminalreporter.write_line(f"limited by {', '.join(sorted(set(MEANS)))}; longest waits in seconds, memory in MiB")
    for name, cost in COSTS.items():
        terminalreporter.write_line(
            f"{name:28} gRPC {cost.grpc:5.2f}  REST {cost.rest:5.2f}  machine {cost.late:5.2f}  "
            f"peak {cost.peak >> 20:5}  kept {cost.kept >> 20:4}"
        )
    if config.getoption("--hostile-results"):
        rows = [
            {
                "attack": name.replace("_", " "),
                "what": (ATTACKS[name].__doc__ or "").splitlines()[0].rstrip(".")
                if name in ATTACKS
                else "The innocent callers alone",
                "grpc_seconds": round(cost.grpc, 3),
                "rest_seconds": round(cost.rest, 3),
                "peak_mib": cost.peak >> 20,
            }
            for name, cost in COSTS.items()
        ]
        machine = f"{os.cpu_count()} cores, {platform.machine()}, Python {platform.python_version()}"
        result = {"date": time.strftime("%Y-%m-%d"), "machine": machine, "means": MEANS[-1], "attacks": rows}
        RESULTS.write_text(json.dumps(result, indent=1) + "\n")

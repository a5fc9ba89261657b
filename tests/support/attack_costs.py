"""The table of what attacks cost, from the reports of all processes that test; hooks of pytest."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from tests.support.measured import measured_on

# What a test of an attack reports: its name, what it is, how memory is limited, and its Cost.
PROPERTY = "cost"
RESULTS = Path(__file__).parents[2] / "benchmarks" / "results" / "hostile.json"
_COSTS: list[Any] = []


def pytest_runtest_logreport(report: pytest.TestReport) -> None:
    """Collects the costs."""
    if report.when == "call":
        _COSTS.extend(value for name, value in report.user_properties if name == PROPERTY)


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter, config: pytest.Config) -> None:
    """Prints what the attacks cost; with --hostile-results writes it for `make readme`."""
    if not _COSTS:
        return
    means = ", ".join(sorted({cost["means"] for cost in _COSTS}))
    terminalreporter.section("what the attacks cost")
    terminalreporter.write_line(f"limited by {means}; longest waits in seconds, memory in MiB")
    for cost in _COSTS:
        terminalreporter.write_line(
            f"{cost['name']:28} gRPC {cost['grpc']:5.2f}  REST {cost['rest']:5.2f}  machine {cost['late']:5.2f}  "
            f"peak {cost['peak'] >> 20:5}  kept {cost['kept'] >> 20:4}"
        )
    if config.getoption("--hostile-results"):
        rows = [
            {
                "attack": cost["name"].replace("_", " "),
                "what": cost["what"].rstrip("."),
                "grpc_seconds": round(cost["grpc"], 3),
                "rest_seconds": round(cost["rest"], 3),
                "peak_mib": cost["peak"] >> 20,
            }
            for cost in _COSTS
        ]
        result = {**measured_on(), "means": means, "attacks": rows}
        RESULTS.write_text(json.dumps(result, indent=1) + "\n")

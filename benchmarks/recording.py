"""What recording costs the embedded server: off, at 1 % and at 100 %, in turns, over both APIs.

`python -m benchmarks.recording`, some minutes, needs h2load and wrk. One image a request on 32 connections is what a
record weighs most on. Ratios are medians of the ratios of neighbouring rounds: what drifts meanwhile is in both.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import re
import statistics
import sys
import tempfile
from pathlib import Path
from typing import Any
from urllib.request import urlopen

from benchmarks.contenders import HERE, Contender, Running, embedded, running
from benchmarks.load import Case, Measured, load, missing_tools, write_requests
from fashion_common.layout import version_directories
from tests.support.measured import measured_on

RESULTS = HERE / "results" / "recording.json"
RATES = (0.0, 0.01, 1.0)
CASES = (Case("gRPC", 1, 32), Case("REST", 1, 32))
# At 1 %, of the rate without recording.
BAR_RATE, BAR = 0.01, 0.99
_RECORDS = re.compile(r':fashion:recording:record_count\{.*outcome="(\w+)"\} (\S+)')


def main() -> int:
    """Measures; exit code 1 when 1 % of sampling costs more than 1 % of the requests and --check is given."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0], epilog="Example: recording.py --rounds 20")
    parser.add_argument("--model-base-path", type=Path, default=Path("models/fashion_mnist"))
    parser.add_argument("--runtime", default="litert", help="the quicker one, of which a record is the larger part")
    parser.add_argument("--rounds", type=int, default=25, help="rounds of each rate and API")
    parser.add_argument("--seconds", type=int, default=2, help="length of a round")
    parser.add_argument("--json", type=Path, default=RESULTS, help="where the figures go as JSON")
    parser.add_argument("--check", action="store_true", help="exit with 1 when the bar is missed")
    options = parser.parse_args()
    if missing := missing_tools():
        print(f"this needs {' and '.join(missing)}", file=sys.stderr)
        return 2
    base = options.model_base_path.absolute()
    if not (base.is_dir() and version_directories(base)):
        print(f"no version under {options.model_base_path}: `make train export`", file=sys.stderr)
        return 2
    rows = measure(base, options.runtime, options.rounds, options.seconds)
    for row in rows:
        print(
            f"{row['api']} at {row['sampling_rate']:.0%}: {row['rate']:,.0f} requests/s, {row['rate_ratio']:.3f} of "
            f"the rate without; CPU {row['cpu']:.1f} us, {row['cpu_ratio']:.3f} times; {row['written']:,} records, "
            f"{row['dropped']:,} dropped"
        )
    result = {**measured_on(), "runtime": options.runtime, "rounds": options.rounds, "bar": BAR, "rows": rows}
    options.json.write_text(json.dumps(result, indent=1) + "\n")
    is_missed = any(row["rate_ratio"] < BAR for row in rows if row["sampling_rate"] == BAR_RATE)
    return 1 if options.check and is_missed else 0


def measure(base: Path, runtime: str, rounds: int, seconds: int) -> list[dict[str, Any]]:
    """The rows of the results, by API and rate; the first round only warms up."""
    with tempfile.TemporaryDirectory() as directory, contextlib.ExitStack() as stack:
        write_requests(Path(directory))
        servers = {rate: stack.enter_context(running(_contender(rate, base, runtime, directory))) for rate in RATES}
        results: dict[tuple[Case, float], list[Measured]] = {(case, rate): [] for case in CASES for rate in RATES}
        records: dict[tuple[Case, float], dict[str, int]] = {}
        for case in CASES:
            before = {rate: _records(server) for rate, server in servers.items()}
            for turn in range(rounds + 1):
                # There and back: what comes first favours nobody.
                for rate in RATES[:: 1 if turn % 2 else -1]:
                    server = servers[rate]
                    row = load(case, server.ports[case.api], server.process.pid, seconds, Path(directory))
                    if turn:
                        results[case, rate].append(row)
            for rate, server in servers.items():
                after = _records(server)
                records[case, rate] = {key: after[key] - before[rate].get(key, 0) for key in after}
    return [_row(case, rate, results, records[case, rate]) for case, rate in results]


def _contender(rate: float, base: Path, runtime: str, directory: str) -> Contender:
    monitoring = HERE.parent / "serving" / "config" / "monitoring.config"
    flags = [f"--runtime={runtime}", f"--monitoring_config_file={monitoring}"]
    if rate:
        flags += [f"--record_filename_prefix={directory}/{rate:g}/", f"--record_sampling_rate={rate:g}"]
    return embedded(f"recording {rate:.0%}", base, HERE.parent, *flags)[0]


def _row(
    case: Case, rate: float, results: dict[tuple[Case, float], list[Measured]], records: dict[str, int]
) -> dict[str, Any]:
    pairs = list(zip(results[case, 0.0], results[case, rate], strict=True))
    rows = results[case, rate]
    return {
        "api": case.api,
        "sampling_rate": rate,
        "rate": statistics.median(row.rate for row in rows),
        "rate_ratio": statistics.median(row.rate / off.rate for off, row in pairs),
        "p99": statistics.median(row.p99 for row in rows),
        "cpu": statistics.median(row.cpu for row in rows),
        "cpu_ratio": statistics.median(row.cpu / off.cpu for off, row in pairs),
        "written": records.get("written", 0),
        "dropped": records.get("dropped", 0),
    }


def _records(server: Running) -> dict[str, int]:
    """How many requests were recorded, and how many were not though they were chosen."""
    url = f"http://127.0.0.1:{server.ports['REST']}/monitoring/prometheus/metrics"
    with urlopen(url, timeout=5) as answer:
        return {outcome: int(float(count)) for outcome, count in _RECORDS.findall(answer.read().decode())}


if __name__ == "__main__":
    sys.exit(main())

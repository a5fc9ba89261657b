"""The embedded server on both runtimes, beside what others know, in one run on the loopback: start, memory, speed.

`make bench-server`, or `python -m benchmarks.bench_server --rounds 5`. Beside it stand a bare grpc.aio echo server, a
FastAPI program, and `tensorflow_model_server` where it is on the PATH. Short rounds alternate between the servers, so
that a busy machine is busy for all of them; the tables have medians. CPU is the server's own time for a request: a
loaded machine changes it least.

`--baseline CHECKOUT` measures a change instead: the server of another checkout, with a .venv of its own, and this one's
in turns. Ratios are medians of the ratios of neighbouring rounds.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import statistics
import subprocess
import sys
import tempfile
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import NamedTuple

from benchmarks.contenders import BATCHING, HERE, Contender, Running, embedded, running, yardsticks
from benchmarks.load import CASES, Case, Measured, answer_bytes, load, missing_tools, write_requests
from fashion_common.layout import version_directories
from tests.support.measured import measured_on

RESULTS = HERE / "results"
RUNTIMES = {"embedded": "tensorflow", "light": "litert"}
BEFORE, ECHO, FASTAPI, REAL = "before", "echo", "FastAPI", "TF Serving"
RUN_IMAGES = (1, 128, 1000)
# Of this checkout's rate to the baseline's: what the server without TensorFlow, or with it, is to reach at least.
BASELINE_BARS = {
    ("light", Case("REST", 1, 32)): 1.9,
    ("light", Case("gRPC", 128, 4)): 1.4,
    ("light", Case("gRPC", 1000, 4)): 1.5,
    ("embedded", Case("REST", 1, 32)): 1.7,
    **{("embedded", case): 0.97 for case in CASES if case.api == "gRPC"},
}

# By contender's name and case, one for each round.
Rounds = dict[tuple[str, Case], list[Measured]]


class Started(NamedTuple):
    """What one start took. seconds: until AVAILABLE. memory, loaded: MiB then, and after all the load."""

    seconds: float
    memory: float
    loaded: float


class Ratio(NamedTuple):
    """A ratio, and the least that it is to be; 0 where there is none."""

    text: str
    value: float
    bar: float


def main() -> int:
    """Runs the benchmark; exit code 1 when a ratio is below its bar and --check is given."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0], epilog="Example: bench_server.py --rounds 5")
    parser.add_argument("--model-base-path", type=Path, default=Path("models/fashion_mnist"))
    parser.add_argument("--rounds", type=int, default=5, help="rounds of each server and case")
    parser.add_argument("--seconds", type=int, default=2, help="length of a round")
    parser.add_argument("--json", type=Path, help="where the results go as JSON (default: benchmarks/results)")
    parser.add_argument("--check", action="store_true", help="exit with 1 when a ratio misses its bar")
    parser.add_argument("--baseline", type=Path, metavar="CHECKOUT", help="measure this checkout against another one")
    options = parser.parse_args()
    if missing := missing_tools():
        print(f"bench-server needs {' and '.join(missing)}", file=sys.stderr)
        return 2
    base = options.model_base_path.absolute()
    versions = version_directories(base) if base.is_dir() else {}
    if not versions:
        print(f"no version under {options.model_base_path}: `make train export`", file=sys.stderr)
        return 2
    ours = [
        contender
        for name, runtime in RUNTIMES.items()
        for contender in embedded(name, base, HERE.parent, f"--runtime={runtime}")
    ]
    others = embedded(BEFORE, base, options.baseline.absolute()) if options.baseline else yardsticks(base)
    contenders = [*others, *ours]
    started, rounds = measure(contenders, options.rounds, options.seconds)
    order = [contender.name for contender in contenders]
    medians = {
        key: Measured(*map(statistics.median, zip(*rounds[key], strict=True)))
        for key in sorted(rounds, key=lambda key: (order.index(key[0]), CASES.index(key[1])))
    }
    runs = {
        (name, images): model_run(versions[max(versions)], runtime, images)
        for name, runtime in RUNTIMES.items()
        for images in RUN_IMAGES
    }
    print_tables(started, medians, runs)
    results = baseline_ratios(rounds) if options.baseline else bars(medians, started)
    for ratio in results:
        verdict = f"(bar {ratio.bar:.2f}: {'reached' if ratio.value >= ratio.bar else 'MISSED'})" if ratio.bar else ""
        print(f"{ratio.text}: {ratio.value:.3f} {verdict}")
    file = options.json or RESULTS / f"{'baseline' if options.baseline else 'server'}.json"
    file.parent.mkdir(exist_ok=True)
    content = {
        **measured_on(),
        "starts": [{"server": name, **start._asdict()} for name, start in started.items()],
        "runs": [{"server": name, "images": images, "us": us} for (name, images), us in runs.items()],
        "medians": [{"server": name, **case._asdict(), **row._asdict()} for (name, case), row in medians.items()],
        "ratios": [ratio._asdict() for ratio in results],
    }
    file.write_text(json.dumps(content, indent=1) + "\n")
    return 1 if options.check and any(ratio.value < ratio.bar for ratio in results) else 0


def measure(contenders: Sequence[Contender], rounds: int, seconds: int) -> tuple[dict[str, Started], Rounds]:
    """Starts the contenders one by one in each round, then all of them for the load; its first round only warms up."""
    starts: dict[str, list[tuple[float, float]]] = {}
    for _ in range(rounds):
        for contender in contenders:
            if contender.serves and not contender.name.endswith(BATCHING):
                with running(contender) as server:
                    starts.setdefault(contender.name, []).append((server.seconds, server.memory()))
    with tempfile.TemporaryDirectory() as directory, contextlib.ExitStack() as stack:
        servers = [stack.enter_context(running(contender)) for contender in contenders]
        results = _load_all(servers, rounds, seconds, Path(directory))
        loaded = {server.contender.name: server.memory() for server in servers}
    started = {
        name: Started(
            statistics.median(seconds for seconds, _ in rows),
            statistics.median(memory for _, memory in rows),
            loaded[name],
        )
        for name, rows in starts.items()
    }
    return started, results


def _load_all(servers: Sequence[Running], rounds: int, seconds: int, directory: Path) -> Rounds:
    write_requests(directory)
    turns = [(server, case) for case in CASES for server in servers if _asked(server.contender, case)]
    answers = {
        (server.contender.name, case.images): answer_bytes(server.ports["gRPC"], case.images)
        for server, case in turns
        if case.api == "gRPC" and server.contender.serves
    }
    results: Rounds = {}
    for turn in range(rounds + 1):
        # There and back: what drifts meanwhile favours nobody.
        for done, (server, case) in enumerate(turns[:: 1 if turn % 2 else -1]):
            name = server.contender.name
            if sys.stderr.isatty():
                print(
                    f"\r{turn * len(turns) + done}/{(rounds + 1) * len(turns)} {name}, {case}\033[K",
                    end="",
                    file=sys.stderr,
                )
            answer = answers.get((name, case.images), 0)
            row = load(case, server.ports[case.api], server.process.pid, seconds if turn else 1, directory, answer)
            if turn:
                results.setdefault((name, case), []).append(row)
    if sys.stderr.isatty():
        print(file=sys.stderr)
    return results


def _asked(contender: Contender, case: Case) -> bool:
    return case.api in contender.apis and (case.images == 1 or not contender.single)


def model_run(version: Path, runtime: str, images: int) -> float:
    """Microseconds of one run of a version, without a server around it."""
    command = [sys.executable, "-m", "benchmarks.model_run", str(version), runtime, str(images)]
    return float(subprocess.run(command, check=True, capture_output=True, text=True, cwd=HERE.parent).stdout)


def print_tables(
    started: dict[str, Started], medians: dict[tuple[str, Case], Measured], runs: dict[tuple[str, int], float]
) -> None:
    """All that was measured."""
    print(f"{'server':22}{'start s':>9}{'MiB':>7}{'loaded':>8}")
    for name, start in started.items():
        print(f"{name:22}{start.seconds:9.2f}{start.memory:7.0f}{start.loaded:8.0f}")
    print(f"{'one run':22}" + "".join(f"{images:>8} x" for images in RUN_IMAGES))
    for name in RUNTIMES:
        print(f"{name:22}" + "".join(f"{runs[name, images]:7.1f} us" for images in RUN_IMAGES))
    print(f"{'server':22}{'case':32}{'requests/s':>12}{'p50 us':>9}{'p99 us':>9}{'CPU us':>8}")
    for (name, case), row in sorted(medians.items(), key=lambda item: CASES.index(item[0][1])):
        print(f"{name:22}{case!s:32}{row.rate:12.0f}{row.p50:9.0f}{row.p99:9.0f}{row.cpu:8.0f}")


def bars(medians: dict[tuple[str, Case], Measured], started: dict[str, Started]) -> list[Ratio]:
    """The ratios that are to be reached, of the better of each runtime's two settings."""
    grpc, rest, lone = Case("gRPC", 1, 32), Case("REST", 1, 32), Case("gRPC", 1, 1)
    echo, fastapi = medians[ECHO, grpc], medians[FASTAPI, rest]
    results = []
    for name in RUNTIMES:
        results += [
            Ratio(f"{name}, {grpc}: rate to echo's", _best(medians, name, grpc, _rate) / echo.rate, 0.7),
            Ratio(f"{name}, {rest}: rate to FastAPI's", _best(medians, name, rest, _rate) / fastapi.rate, 3.0),
            Ratio(
                f"{name}, {lone}: echo's p50 to ours",
                medians[ECHO, lone].p50 * _best(medians, name, lone, lambda row: 1 / row.p50),
                1 / 1.5,
            ),
        ]
    if REAL in started:
        results += [
            Ratio(
                f"light, {case}: rate to TF Serving's",
                _best(medians, "light", case, _rate) / _best(medians, REAL, case, _rate),
                1.0,
            )
            for case in CASES
        ]
    for yardstick in (REAL, "embedded"):
        if yardstick in started:
            other, light = started[yardstick], started["light"]
            bar = 3.0 if yardstick == REAL else 0.0
            results += [
                Ratio(f"start, {yardstick} to light", other.seconds / light.seconds, bar),
                Ratio(f"memory, {yardstick} to light", other.memory / light.memory, bar),
                Ratio(f"memory after the load, {yardstick} to light", other.loaded / light.loaded, bar),
            ]
    return results


def _rate(row: Measured) -> float:
    return row.rate


def _best(
    medians: dict[tuple[str, Case], Measured], name: str, case: Case, value: Callable[[Measured], float]
) -> float:
    settings = (name, f"{name}, {BATCHING}")
    return max(value(medians[setting, case]) for setting in settings if (setting, case) in medians)


def baseline_ratios(rounds: Rounds) -> list[Ratio]:
    """This checkout's rates to the other's, and the other's times to this one's: above 1 it has become better."""
    results = []
    for (name, case), rows in rounds.items():
        runtime, *setting = name.split(", ")
        if runtime == BEFORE:
            continue
        pairs = list(zip(rounds[", ".join([BEFORE, *setting]), case], rows, strict=True))
        rate = statistics.median(after.rate / before.rate for before, after in pairs)
        p99 = statistics.median(before.p99 / max(1.0, after.p99) for before, after in pairs)
        cpu = statistics.median(before.cpu / after.cpu for before, after in pairs)
        results += [
            Ratio(f"{name}, {case}: rate to before", rate, BASELINE_BARS.get((runtime, case), 0.0)),
            Ratio(f"{name}, {case}: p99 before to after", p99, 0.0),
            Ratio(f"{name}, {case}: CPU a request before to after", cpu, 0.0),
        ]
    return results


if __name__ == "__main__":
    sys.exit(main())

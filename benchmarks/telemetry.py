"""What traces cost the embedded server: the checkout before, 1 % and 100 % of calls as spans, beside a server without.

`python -m benchmarks.telemetry --before CHECKOUT`, some minutes, needs h2load and wrk. One image a request on 32
connections is what a span weighs most on. Each round of a setting has one of the server without beside it, before or
after it in turn, and ratios are medians of the ratios of such pairs. Spans go to a receiver that throws them away.
"""

from __future__ import annotations

import argparse
import contextlib
import itertools
import json
import sys
import tempfile
from collections.abc import Iterator, Mapping
from functools import partial
from http.server import BaseHTTPRequestHandler, HTTPServer
from multiprocessing import Process, Queue
from pathlib import Path
from typing import Any

from benchmarks.contenders import HERE, Contender, embedded, running
from benchmarks.load import Case, Pair, compared, load_on, missing_tools, pair, write_requests
from tests.support.measured import measured_on

RESULTS = HERE / "results" / "telemetry.json"
OFF, BEFORE = "off", "the checkout before"
SHARES = {"1 % of calls": 0.01, "100 % of calls": 1.0}
CASES = (Case("gRPC", 1, 32), Case("REST", 1, 32))


def main() -> int:
    """Measures, prints the rows, and writes them down."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0], epilog="Example: telemetry.py --rounds 20")
    parser.add_argument("--model-base-path", type=Path, default=Path("models/fashion_mnist"))
    parser.add_argument("--before", type=Path, help="a checkout with a .venv, to be no quicker than this one")
    parser.add_argument("--runtime", default="litert", help="the quicker one, of which a span is the larger part")
    parser.add_argument("--rounds", type=int, default=10, help="rounds of each setting and API, with new servers")
    parser.add_argument("--seconds", type=int, default=2, help="length of a round")
    parser.add_argument("--json", type=Path, default=RESULTS, help="where the figures go as JSON")
    options = parser.parse_args()
    if missing := missing_tools():
        print(f"this needs {' and '.join(missing)}", file=sys.stderr)
        return 2
    with collector() as endpoint:
        settings = contenders(options.model_base_path.absolute(), options.before, options.runtime, endpoint)
        rows = measure(settings, options.rounds, options.seconds)
    for row in rows:
        print(
            f"{row['api']}, {row['setting']}: {row['rate']:,.0f} requests/s, {row['rate_ratio']:.3f} of the rate "
            f"without; CPU {row['cpu']:.1f} us, {row['cpu_ratio']:.3f} times"
        )
    result = {**measured_on(), "runtime": options.runtime, "rounds": options.rounds, "rows": rows}
    options.json.write_text(json.dumps(result, indent=1) + "\n")
    return 0


def contenders(base: Path, before: Path | None, runtime: str, endpoint: str) -> dict[str, Contender]:
    """The servers, by setting."""
    flags = [f"--runtime={runtime}"]
    own = embedded(OFF, base, HERE.parent, *flags)[0]
    settings = {OFF: own}
    if before is not None:
        settings[BEFORE] = embedded(BEFORE, base, before.absolute(), *flags)[0]
    for name, share in SHARES.items():
        environment = [
            f"OTEL_EXPORTER_OTLP_ENDPOINT={endpoint}", "OTEL_TRACES_SAMPLER=parentbased_traceidratio",
            f"OTEL_TRACES_SAMPLER_ARG={share}",
        ]  # fmt: skip
        settings[name] = own._replace(name=name, command=["env", *environment, *own.command])
    return settings


def measure(settings: Mapping[str, Contender], rounds: int, seconds: int) -> list[dict[str, Any]]:
    """The rows of the results. Each round has new servers: two processes of one program differ all their lives."""
    pairs: dict[tuple[Case, str], list[Pair]] = {}
    with tempfile.TemporaryDirectory() as name:
        directory = Path(name)
        write_requests(directory)
        for turn in range(rounds):
            with contextlib.ExitStack() as stack:
                servers = {name: stack.enter_context(running(each)) for name, each in settings.items()}
                for case, setting in itertools.product(CASES, list(settings)[1:]):
                    run = partial(load_on, case, servers, directory)
                    two = pair(run, OFF, setting, seconds, is_first=turn % 2 == 0)
                    pairs.setdefault((case, setting), []).append(two)
    return [{"api": case.api, "setting": setting, **compared(each)} for (case, setting), each in pairs.items()]


class _Handler(BaseHTTPRequestHandler):
    """Takes spans, and throws them away."""

    def do_POST(self) -> None:
        self.rfile.read(int(self.headers["content-length"]))
        self.send_response(200)
        self.send_header("Content-Length", "0")
        self.end_headers()

    def log_message(self, *_arguments: object) -> None:
        pass


@contextlib.contextmanager
def collector() -> Iterator[str]:
    """The address of a receiver in a process of its own."""
    ports: Queue[int] = Queue()
    process = Process(target=_collect, args=(ports,), daemon=True)
    process.start()
    try:
        yield f"http://127.0.0.1:{ports.get()}"
    finally:
        process.kill()


def _collect(ports: Queue[int]) -> None:
    server = HTTPServer(("127.0.0.1", 0), _Handler)
    ports.put(server.server_address[1])
    server.serve_forever()


if __name__ == "__main__":
    sys.exit(main())

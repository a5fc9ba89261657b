"""What tokens, limits and TLS cost the embedded server, beside a plain one without limits.

`python -m benchmarks.access`, some minutes, needs h2load and wrk. One image a request on 32 connections that are kept
is what a check of each request weighs most on. Each round of a setting has a plain one at the same time: the servers
share the first core, and what loads them the last one. Ratios are medians of such pairs' ratios. The rates are those of
two servers on one core.
"""

from __future__ import annotations

import argparse
import contextlib
import itertools
import json
import sys
import tempfile
from collections.abc import Mapping
from functools import partial
from pathlib import Path
from typing import Any

import trustme

from benchmarks.contenders import HERE, Contender, Running, embedded, running
from benchmarks.load import (
    Case,
    Measured,
    Pair,
    answer_bytes,
    compared,
    load,
    missing_tools,
    one_core,
    simultaneous_pair,
    write_requests,
)
from fashion_common.layout import version_directories
from fashion_common.tokens import PREDICT, entry, new_token
from tests.serving.embedded.test_tls import write_config
from tests.support.measured import measured_on

RESULTS = HERE / "results" / "access.json"
# The second plain one says how far equal servers differ.
PLAIN, PLAIN_AGAIN = "plain", "plain, again"
TOKENS, TLS, BOTH = "tokens and limits", "TLS", "TLS, tokens and limits"
_NO_LIMITS = ["--max_concurrent_requests=0", "--max_connections=0", "--max_connections_per_address=0"]
# The others have their defaults.
_LIMITS = ["--max_request_rows=1000", "--token_file={directory}/tokens"]
_TLS = ["--ssl_config_file={directory}/ssl.config"]
SETTINGS = {
    PLAIN: _NO_LIMITS,
    PLAIN_AGAIN: _NO_LIMITS,
    TOKENS: _LIMITS,
    TLS: [*_NO_LIMITS, *_TLS],
    BOTH: [*_LIMITS, *_TLS],
}
CASES = (Case("gRPC", 1, 32), Case("REST", 1, 32))
# Of the plain rate, with tokens and limits.
BAR = 0.95
_TOKENS = 10


def main() -> int:
    """Measures; exit code 1 when tokens and limits cost more than 5 % of the requests and --check is given."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0], epilog="Example: access.py --rounds 20")
    parser.add_argument("--model-base-path", type=Path, default=Path("models/fashion_mnist"))
    parser.add_argument("--runtime", default="litert", help="the quicker one, of which a check is the larger part")
    parser.add_argument("--rounds", type=int, default=15, help="rounds of each setting and API, with new servers")
    parser.add_argument("--seconds", type=int, default=3, help="length of a round")
    parser.add_argument("--quick", action="store_true", help="two rounds of a second, and no results are written")
    parser.add_argument("--json", type=Path, default=RESULTS, help="where the figures go as JSON")
    parser.add_argument("--check", action="store_true", help="exit with 1 when the bar is missed")
    options = parser.parse_args()
    if missing := missing_tools():
        print(f"this needs {' and '.join(missing)}", file=sys.stderr)
        return 2
    base = options.model_base_path.absolute()
    if not (version_directories(base) if base.is_dir() else {}):
        print(f"no version under {options.model_base_path}: `make train export`", file=sys.stderr)
        return 2
    rounds, seconds = (2, 1) if options.quick else (options.rounds, options.seconds)
    rows = measure(base, options.runtime, rounds, seconds)
    for row in rows:
        print(
            f"{row['api']}, {row['setting']}: {row['rate']:,.0f} requests/s, {row['rate_ratio']:.3f} of plain; "
            f"CPU {row['cpu']:.1f} us, {row['cpu_ratio']:.3f} times"
        )
    result = {**measured_on(), "runtime": options.runtime, "rounds": rounds, "bar": BAR, "rows": rows}
    if not options.quick:
        options.json.write_text(json.dumps(result, indent=1) + "\n")
    is_missed = any(row["rate_ratio"] < BAR for row in rows if row["setting"] == TOKENS)
    return 1 if options.check and is_missed else 0


def measure(base: Path, runtime: str, rounds: int, seconds: int) -> list[dict[str, Any]]:
    """The rows of the results, by API and setting. Each round has new servers, which differ by some percent."""
    results: dict[tuple[Case, str], list[Pair]] = {}
    with tempfile.TemporaryDirectory() as name:
        directory = Path(name)
        write_requests(directory)
        write_config(directory, trustme.CA())
        token = new_token()
        tokens = [token, *(new_token() for _ in range(_TOKENS - 1))]
        lines = [entry(f"client-{number}", text, [PREDICT]).line for number, text in enumerate(tokens)]
        (directory / "tokens").write_text("\n".join(lines))
        for _ in range(rounds):
            with contextlib.ExitStack() as stack:
                with one_core(0):
                    servers = {
                        setting: stack.enter_context(running(_contender(setting, base, directory, runtime)))
                        for setting in SETTINGS
                    }
                answer = answer_bytes(servers[PLAIN].ports["gRPC"], 1)
                for case, setting in itertools.product(CASES, list(SETTINGS)[1:]):
                    run = partial(_load, case, servers, directory, answer, token)
                    two = simultaneous_pair(run, PLAIN, setting, seconds)
                    results.setdefault((case, setting), []).append(two)
    return [{"api": case.api, "setting": setting, **compared(pairs)} for (case, setting), pairs in results.items()]


def _load(
    case: Case, servers: Mapping[str, Running], directory: Path, answer: int, token: str, setting: str, seconds: int
) -> Measured:
    server = servers[setting]
    headers = [f"authorization: Bearer {token}"] if setting in (TOKENS, BOTH) else []
    tls = setting in (TLS, BOTH)
    return load(case, server.ports[case.api], server.process.pid, seconds, directory, answer, tls=tls, headers=headers)


def _contender(setting: str, base: Path, directory: Path, runtime: str) -> Contender:
    flags = [f"--runtime={runtime}", *(flag.format(directory=directory) for flag in SETTINGS[setting])]
    scheme = "https" if setting in (TLS, BOTH) else "http"
    return embedded(setting, base, HERE.parent, *flags)[0]._replace(probe=f"{scheme}://127.0.0.1:{{rest}}/readyz")


if __name__ == "__main__":
    sys.exit(main())

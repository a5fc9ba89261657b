"""What recording and the shadow cost the embedded server: off, 1 % and 100 % recorded, 5 % shadowed, in turns.

`python -m benchmarks.recording`, some minutes, needs h2load and wrk. One image a request on 32 connections is what a
record weighs most on. Each round of a setting has one without beside it, before or after it in turn, and ratios are
medians of the ratios of such pairs: what drifts meanwhile is in both.
"""

from __future__ import annotations

import argparse
import contextlib
import itertools
import json
import re
import shutil
import sys
import tempfile
from collections import Counter
from functools import partial
from pathlib import Path
from typing import Any
from urllib.request import urlopen

from benchmarks.contenders import HERE, Contender, Running, embedded, running
from benchmarks.load import Case, Pair, compared, load_on, missing_tools, pair, write_requests
from fashion_common.layout import version_directories
from tests.support.measured import measured_on

RESULTS = HERE / "results" / "recording.json"
OFF, RECORDED, SHADOWED = "off", "1 % recorded", "5 % shadowed"
SETTINGS = {
    OFF: [],
    RECORDED: ["--record_filename_prefix={directory}/1/", "--record_sampling_rate=0.01"],
    "all recorded": ["--record_filename_prefix={directory}/100/", "--record_sampling_rate=1"],
    SHADOWED: ["--shadow_label=canary", "--shadow_rate=0.05"],
}
CASES = (Case("gRPC", 1, 32), Case("REST", 1, 32))
# Of the rate without recording, where 1 % are recorded.
BAR = 0.99
_SAMPLES = re.compile(r':fashion:(?:recording:record|shadow:request)_count\{.*outcome="(\w+)"\} (\S+)')
_CONFIG = """
model_config_list {{ config {{
  name: "fashion_mnist" base_path: "{base}" model_platform: "tensorflow" model_version_policy {{ all {{}} }}
  version_labels {{ key: "canary" value: 1 }}
}} }}
"""


def main() -> int:
    """Measures; exit code 1 when 1 % of sampling costs more than 1 % of the requests and --check is given."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0], epilog="Example: recording.py --rounds 20")
    parser.add_argument("--model-base-path", type=Path, default=Path("models/fashion_mnist"))
    parser.add_argument("--runtime", default="litert", help="the quicker one, of which a record is the larger part")
    parser.add_argument("--rounds", type=int, default=15, help="rounds of each setting and API, with new servers")
    parser.add_argument("--seconds", type=int, default=2, help="length of a round")
    parser.add_argument("--json", type=Path, default=RESULTS, help="where the figures go as JSON")
    parser.add_argument("--check", action="store_true", help="exit with 1 when the bar is missed")
    options = parser.parse_args()
    if missing := missing_tools():
        print(f"this needs {' and '.join(missing)}", file=sys.stderr)
        return 2
    base = options.model_base_path.absolute()
    versions = version_directories(base) if base.is_dir() else {}
    if not versions:
        print(f"no version under {options.model_base_path}: `make train export`", file=sys.stderr)
        return 2
    rows = measure(versions[max(versions)], options.runtime, options.rounds, options.seconds)
    for row in rows:
        print(
            f"{row['api']}, {row['setting']}: {row['rate']:,.0f} requests/s, {row['rate_ratio']:.3f} of "
            f"the rate without; CPU {row['cpu']:.1f} us, {row['cpu_ratio']:.3f} times; {row['kept']:,} kept, "
            f"{row['dropped']:,} dropped"
        )
    result = {**measured_on(), "runtime": options.runtime, "rounds": options.rounds, "bar": BAR, "rows": rows}
    options.json.write_text(json.dumps(result, indent=1) + "\n")
    is_missed = any(row["rate_ratio"] < BAR for row in rows if row["setting"] == RECORDED)
    return 1 if options.check and is_missed else 0


def measure(version: Path, runtime: str, rounds: int, seconds: int) -> list[dict[str, Any]]:
    """The rows of the results, by API and setting, of a version that is its own canary.

    Each round has new servers: two processes of one program differ by some percent for as long as they live.
    """
    results: dict[tuple[Case, str], list[Pair]] = {}
    samples: dict[tuple[Case, str], Counter[str]] = {}
    with tempfile.TemporaryDirectory() as name:
        directory = Path(name)
        write_requests(directory)
        for number in ("1", "2"):
            shutil.copytree(version, directory / "models" / number)
        (directory / "models.config").write_text(_CONFIG.format(base=directory / "models"))
        for turn in range(rounds):
            with contextlib.ExitStack() as stack:
                servers = {
                    setting: stack.enter_context(running(_contender(setting, directory, runtime)))
                    for setting in SETTINGS
                }
                for case, setting in itertools.product(CASES, SETTINGS):
                    before = _samples(servers[setting])
                    run = partial(load_on, case, servers, directory)
                    two = pair(run, OFF, setting, seconds, is_first=turn % 2 == 1)
                    results.setdefault((case, setting), []).append(two)
                    samples.setdefault((case, setting), Counter()).update(_samples(servers[setting]) - before)
    rows = []
    for (case, setting), pairs in results.items():
        counts = samples[case, setting]
        kept = {"kept": counts.total() - counts["dropped"], "dropped": counts["dropped"]}
        rows.append({"api": case.api, "setting": setting, **compared(pairs), **kept})
    return rows


def _contender(setting: str, directory: Path, runtime: str) -> Contender:
    monitoring = HERE.parent / "serving" / "config" / "monitoring.config"
    flags = [
        f"--runtime={runtime}",
        f"--monitoring_config_file={monitoring}",
        f"--model_config_file={directory}/models.config",
        "--allow_version_labels_for_unavailable_models",
        *(flag.format(directory=directory) for flag in SETTINGS[setting]),
    ]
    return embedded(setting, directory / "models", HERE.parent, *flags)[0]


def _samples(server: Running) -> Counter[str]:
    """How many requests were recorded or compared, and how many were not though they were chosen."""
    url = f"http://127.0.0.1:{server.ports['REST']}/monitoring/prometheus/metrics"
    with urlopen(url, timeout=5) as answer:
        return Counter({outcome: int(float(count)) for outcome, count in _SAMPLES.findall(answer.read().decode())})


if __name__ == "__main__":
    sys.exit(main())

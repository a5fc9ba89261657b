"""The embedded server's memory: 200,000 requests and 100 reloads leave it within 10 percent of its size after warm-up.

`python -m benchmarks.server_memory`, some minutes for each runtime; tests/serving/embedded/test_memory.py is the short
form.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import shutil
import subprocess
import sys
import tempfile
import threading
import time
from pathlib import Path

import grpc
import httpx
import numpy as np

from serving.apis import services, tensors
from serving.apis.messages import PredictRequest, PredictResponse
from tests.support.limited_process import Memory
from tests.support.live import Server, running
from tests.support.measured import measured_on

RESULTS = Path(__file__).parent / "results" / "memory.json"
LIMIT = 1.10
TOYS = {"tensorflow": "tests.support.toy_models", "litert": "tests.support.lite_models"}


def main() -> int:
    """Measures both runtimes; exit code 1 above the limit."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--requests", type=int, default=200_000)
    parser.add_argument("--reloads", type=int, default=100)
    parser.add_argument("--json", type=Path, default=RESULTS, help="where the figures go as JSON")
    options = parser.parse_args()
    runtimes = {}
    for runtime, module in TOYS.items():
        with tempfile.TemporaryDirectory() as directory:
            subprocess.run([sys.executable, "-m", module, directory], check=True, capture_output=True)
            before, after = measure(Path(directory), runtime, options.requests, options.reloads)
        runtimes[runtime] = {"before_mib": round(before / 2**20, 1), "after_mib": round(after / 2**20, 1)}
        print(f"{runtime}: {before} bytes after warm-up, {after} in the end: {after / before:.3f} (bar {LIMIT})")
    result = {
        **measured_on(),
        "requests": options.requests,
        "reloads": options.reloads,
        "runtimes": runtimes,
    }
    options.json.write_text(json.dumps(result, indent=1) + "\n")
    return 0 if all(size["after_mib"] <= size["before_mib"] * LIMIT for size in runtimes.values()) else 1


def measure(toys: Path, runtime: str, requests: int, reloads: int, warm_up: float = 0.1) -> tuple[int, int]:
    """Resident bytes after `warm_up` of the requests and reloads, and after all of them."""
    base = toys / "served"
    base.mkdir()
    publisher = Publisher(toys, base)
    publisher.next()
    flags = ("--model_name=m", f"--model_base_path={base}", "--file_system_poll_wait_seconds=0.05")
    with running(*flags, f"--runtime={runtime}") as server:
        work(server, publisher, round(requests * warm_up), max(2, round(reloads * warm_up)))
        memory = Memory(server.process.pid)
        before = memory.resident()
        work(server, publisher, requests, reloads)
        return before, memory.resident()


class Publisher:
    """Puts one version after another into a base path, each whole at once."""

    def __init__(self, toys: Path, base: Path) -> None:
        self._toys = toys
        self._base = base
        self._number = 0

    def next(self) -> int:
        """Publishes the next version and gives its number."""
        self._number += 1
        aside = self._toys / f"tmp-{self._number}"
        shutil.copytree(self._toys / "half_plus_two" / str(1 + self._number % 2), aside)
        aside.rename(self._base / str(self._number))
        return self._number

    def remove(self, number: int) -> None:
        """Takes a version away."""
        shutil.rmtree(self._base / str(number))


def work(server: Server, publisher: Publisher, requests: int, reloads: int) -> None:
    """So many requests over both APIs, with the reloads spread over them."""
    threads = [threading.Thread(target=ask, args=(server, requests // 2)) for ask in (ask_grpc, ask_rest)]
    for thread in threads:
        thread.start()
    for _ in range(reloads):
        number = publisher.next()
        wait_until_available(server, number)
        publisher.remove(number - 1)
    for thread in threads:
        thread.join()


def wait_until_available(server: Server, number: int) -> None:
    """Waits until a version serves."""
    for _ in range(2000):
        with contextlib.suppress(httpx.HTTPError):
            answer = httpx.get(f"http://{server.rest}/v1/models/m/versions/{number}")
            if answer.status_code == 200 and answer.json()["model_version_status"][0]["state"] == "AVAILABLE":
                return
        time.sleep(0.02)
    raise SystemExit(f"version {number} never became AVAILABLE")


def ask_grpc(server: Server, count: int) -> None:
    """Requests of one to ten rows, one after another."""
    with grpc.insecure_channel(server.grpc) as channel:
        call = channel.unary_unary(services.PREDICT.path, PredictRequest.SerializeToString, PredictResponse.FromString)
        for number in range(count):
            request = PredictRequest()
            request.model_spec.name = "m"
            x = np.arange(1 + number % 10, dtype=np.float32)
            request.inputs["x"].CopyFrom(tensors.make_tensor_proto(x))
            assert len(call(request, timeout=30).outputs["y"].float_val) == len(x)


def ask_rest(server: Server, count: int) -> None:
    """The same over REST, and a wrong request now and then."""
    with httpx.Client(base_url=f"http://{server.rest}", timeout=30) as http:
        for number in range(count):
            rows = [float(row) for row in range(1 + number % 10)]
            body = {"instances": rows if number % 50 else ["wrong"]}
            assert http.post("/v1/models/m:predict", json=body).status_code == (200 if number % 50 else 400)


if __name__ == "__main__":
    sys.exit(main())

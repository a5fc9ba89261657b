"""Load on a server's ports: h2load (gRPC) and wrk (REST) send one request over and over, on some connections."""

from __future__ import annotations

import json
import os
import re
import shutil
import statistics
import struct
import subprocess
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from typing import NamedTuple

import grpc
import numpy as np

from benchmarks.contenders import Running
from serving.apis import services, tensors
from serving.apis.messages import PredictRequest, PredictResponse

TOOLS = {"h2load": "nghttp2-client", "wrk": "wrk"}
_TICKS = os.sysconf("SC_CLK_TCK")
_SECONDS = {"us": 1.0, "ms": 1e3, "s": 1e6}


class Case(NamedTuple):
    """What is sent: over `gRPC` or `REST`, images a request, and on how many connections."""

    api: str
    images: int
    connections: int

    def __str__(self) -> str:
        images = f"{self.images:,} images, " if self.images > 1 else ""
        return f"{self.api}, {images}{self.connections} connection{'s' if self.connections > 1 else ''}"


CASES = (
    *(Case(api, 1, connections) for api in ("gRPC", "REST") for connections in (1, 8, 32)),
    Case("gRPC", 128, 4),
    Case("gRPC", 1000, 4),
)


class Measured(NamedTuple):
    """One round: requests a second, latencies and CPU time in microseconds."""

    rate: float
    p50: float
    p99: float
    cpu: float


# Of one case: without a setting and with it.
Pair = tuple[Measured, Measured]


def missing_tools() -> list[str]:
    """The tools that are not installed, with their packages."""
    return [f"{tool} (apt-get install {package})" for tool, package in TOOLS.items() if not shutil.which(tool)]


def write_requests(directory: Path) -> None:
    """The requests of all cases: random images as gRPC frames, and one as a script for wrk."""
    for images in {case.images for case in CASES}:
        body = _predict_request(images).SerializeToString()
        (directory / f"{images}.grpc").write_bytes(b"\0" + struct.pack(">I", len(body)) + body)
    lua = json.dumps(json.dumps({"instances": _images(1).tolist()}))
    (directory / "1.lua").write_text(
        f'wrk.method = "POST"\nwrk.body = {lua}\nwrk.headers["Content-Type"] = "application/json"\n'
    )


def answer_bytes(port: int, images: int) -> int:
    """The size of a right answer over gRPC, which is checked."""
    with grpc.insecure_channel(f"127.0.0.1:{port}") as channel:
        call = channel.unary_unary(services.PREDICT.path, PredictRequest.SerializeToString, lambda answer: answer)
        answer: bytes = call(_predict_request(images), timeout=30)
    assert len(tensors.make_ndarray(PredictResponse.FromString(answer).outputs["probabilities"])) == images
    return len(answer)


def load(
    case: Case,
    port: int,
    pid: int,
    seconds: int,
    directory: Path,
    answer: int = 0,
    *,
    tls: bool = False,
    headers: Sequence[str] = (),
) -> Measured:
    """One round. answer: bytes that each answer over gRPC has at least. headers: more of them, `name: value`.

    Raises RuntimeError for other answers.
    """
    origin = f"{'https' if tls else 'http'}://127.0.0.1:{port}"
    more = [argument for header in headers for argument in ("-H", header)]
    before = cpu_seconds(pid)
    latencies = (
        _h2load(case, origin, more, seconds, directory, answer)
        if case.api == "gRPC"
        else _wrk(case, origin, more, seconds, directory)
    )
    count, p50, p99 = latencies
    return Measured(count / seconds, p50, p99, (cpu_seconds(pid) - before) / count * 1e6)


def load_on(case: Case, servers: Mapping[str, Running], directory: Path, setting: str, seconds: int) -> Measured:
    """A round on the server of a setting."""
    server = servers[setting]
    return load(case, server.ports[case.api], server.process.pid, seconds, directory)


def pair(run: Callable[[str, int], Measured], baseline: str, setting: str, seconds: int, *, is_first: bool) -> Pair:
    """A round without and one with a setting, after a second of each. run: one of so many seconds.

    is_first: the setting is: what comes first favours nobody.
    """
    order = (setting, baseline) if is_first else (baseline, setting)
    for each in order:
        run(each, 1)
    rounds = {each: run(each, seconds) for each in order}
    return rounds[baseline], rounds[setting]


@contextmanager
def one_core(number: int) -> Iterator[None]:
    """Keeps what is begun in the block, threads and processes, on one of the cores: the first, or -1 for the last."""
    cores = os.sched_getaffinity(0)
    os.sched_setaffinity(0, {sorted(cores)[number]})
    try:
        yield
    finally:
        os.sched_setaffinity(0, cores)


def simultaneous_pair(run: Callable[[str, int], Measured], baseline: str, setting: str, seconds: int) -> Pair:
    """A round without and one with a setting at the same time, after a second of both. run: one of so many seconds.

    Of servers that share a core, each gets half of its time: the ratio of their rates is that of what a request costs
    them, whatever else the machine does meanwhile.
    """
    with one_core(-1), ThreadPoolExecutor(2) as pool:
        for each in (1, seconds):
            rounds = list(pool.map(lambda name: run(name, each), (baseline, setting)))  # noqa: B023 - done in here
    return rounds[0], rounds[1]


def compared(pairs: Sequence[Pair]) -> dict[str, float]:
    """The medians with a setting, and of its ratios to without: `rate`, `rate_ratio`, `p99`, `cpu`, `cpu_ratio`."""
    rows = [row for _, row in pairs]
    return {
        "rate": statistics.median(row.rate for row in rows),
        "rate_ratio": statistics.median(row.rate / baseline.rate for baseline, row in pairs),
        "p99": statistics.median(row.p99 for row in rows),
        "cpu": statistics.median(row.cpu for row in rows),
        "cpu_ratio": statistics.median(row.cpu / baseline.cpu for baseline, row in pairs),
    }


def cpu_seconds(pid: int) -> float:
    """User and system time of a process (proc(5))."""
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / _TICKS


def _h2load(
    case: Case, origin: str, more: list[str], seconds: int, directory: Path, answer: int
) -> tuple[int, float, float]:
    log = directory / f"{origin.rpartition(':')[2]}.log"
    log.unlink(missing_ok=True)
    text = _run(
        ["h2load", "-c", str(case.connections), "-m", "1", "-t", "1", "-D", str(seconds),
         "-d", str(directory / f"{case.images}.grpc"), "-H", "content-type: application/grpc", "-H", "te: trailers",
         *more, f"--log-file={log}", f"{origin}{services.PREDICT.path}"]
    )  # fmt: skip
    times = sorted(int(line.split("\t")[2]) for line in log.read_text().splitlines())
    count = len(times)
    # A refused call has no message, and h2load does not look at grpc-status.
    received = re.search(r"\((\d+)\) data\n", text)
    if not received or int(received[1]) < 0.99 * count * answer:
        raise RuntimeError(f"{case} was answered by errors:\n{text}")
    return count, times[count // 2], times[int(count * 0.99)]


def _wrk(case: Case, origin: str, more: list[str], seconds: int, directory: Path) -> tuple[int, float, float]:
    url = f"{origin}/v1/models/fashion_mnist:predict"
    script = str(directory / f"{case.images}.lua")
    text = _run(["wrk", "-t1", f"-c{case.connections}", f"-d{seconds}", "--latency", "-s", script, *more, url])
    if "Non-2xx" in text:
        raise RuntimeError(f"{case} was answered by errors:\n{text}")
    found = re.search(r"\n\s+50%\s+([\d.]+)(\w+).*\n\s+99%\s+([\d.]+)(\w+).*\n\s+(\d+) requests in", text, re.DOTALL)
    assert found, text
    return int(found[5]), float(found[1]) * _SECONDS[found[2]], float(found[3]) * _SECONDS[found[4]]


def _images(count: int) -> np.ndarray[tuple[int, ...], np.dtype[np.uint8]]:
    return np.random.default_rng(0).integers(0, 256, (count, 28, 28), np.uint8)


def _predict_request(images: int) -> PredictRequest:
    request = PredictRequest()
    request.model_spec.name = "fashion_mnist"
    request.inputs["images"].CopyFrom(tensors.make_tensor_proto(_images(images)))
    return request


def _run(command: list[str]) -> str:
    return subprocess.run(command, check=True, capture_output=True, text=True).stdout

"""The embedded server against a bare grpc.aio echo server and a FastAPI program, in one run on the loopback.

`make bench-server`, or `python -m benchmarks.bench_server --rounds 5`. Load comes from h2load (gRPC) and wrk (REST),
one image a request. Short rounds alternate between the servers, so that a busy machine is busy for all of them; the
table has medians. CPU is the server's own time for a request: a loaded machine changes it least.

`--baseline CHECKOUT` measures a change instead: the server of another checkout, with a .venv of its own, and this one's
in turns. Its ratios are medians of the ratios of neighbouring rounds.
"""

from __future__ import annotations

import argparse
import contextlib
import itertools
import json
import os
import re
import shutil
import socket
import statistics
import struct
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from types import MappingProxyType
from typing import NamedTuple

import numpy as np

from fashion_common.layout import version_directories
from serving.apis import services, tensors
from serving.apis.messages import PredictRequest

HERE = Path(__file__).parent
RESULTS = HERE / "results"
BATCHING_FILE = HERE.parent / "serving" / "config" / "batching.config"
BATCHING = ("--enable_batching", f"--batching_parameters_file={BATCHING_FILE}")
SETTINGS: Mapping[str, Sequence[str]] = {"": (), ", batching": BATCHING}
TOOLS = {"h2load": "nghttp2-client", "wrk": "wrk"}
CONNECTIONS = (1, 8, 32)
START_SECONDS = 120
ECHO_BYTES = 134  # what our model's answer to one image has
TICKS = os.sysconf("SC_CLK_TCK")
WRITE_MODEL = """
import sys, numpy as np, tensorflow as tf
from fashion_common.served_model import CLASS_NAMES
module, random = tf.Module(), np.random.default_rng(0)
module.w = [tf.Variable(random.normal(0, 0.05, shape).astype("f")) for shape in ((784, 128), (128, 10))]
@tf.function(input_signature=[tf.TensorSpec([None, 28, 28], tf.uint8, name="images")])
def predict(images):
    hidden = tf.nn.relu(tf.reshape(tf.cast(images, tf.float32) / 255.0, [-1, 784]) @ module.w[0])
    probabilities = tf.nn.softmax(hidden @ module.w[1])
    class_ids = tf.argmax(probabilities, -1)
    return dict(probabilities=probabilities, class_ids=class_ids, class_names=tf.gather(CLASS_NAMES, class_ids))
tf.saved_model.save(module, sys.argv[1], signatures=predict)
"""


class Measured(NamedTuple):
    """One round: requests a second, latencies and CPU time in microseconds."""

    rate: float
    p50: float
    p99: float
    cpu: float


class Ratio(NamedTuple):
    """A ratio of medians, and the least that it is to be; 0 where there is none."""

    text: str
    value: float
    bar: float


class Contender(NamedTuple):
    """One server under load."""

    name: str
    process: subprocess.Popen[bytes]
    port: int
    load: Callable[[Contender, int, int, Path], Measured]


# By the server's name and the number of connections.
Rounds = dict[tuple[str, int], list[Measured]]
Medians = dict[tuple[str, int], Measured]


def main() -> int:
    """Runs the benchmark; exit code 1 when a ratio is below its bar and --check is given."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0], epilog="Example: bench_server.py --rounds 5")
    parser.add_argument("--model-base-path", type=Path, default=Path("models/fashion_mnist"))
    parser.add_argument("--rounds", type=int, default=5, help="rounds a server and number of connections")
    parser.add_argument("--seconds", type=int, default=2, help="length of a round")
    parser.add_argument("--json", type=Path, help="where medians and ratios go as JSON (default: benchmarks/results)")
    parser.add_argument("--check", action="store_true", help="exit with 1 when a ratio misses its bar")
    parser.add_argument("--baseline", type=Path, metavar="CHECKOUT", help="measure this checkout against another one")
    options = parser.parse_args()
    missing = [f"{tool} (apt-get install {package})" for tool, package in TOOLS.items() if not shutil.which(tool)]
    if missing:
        print(f"bench-server needs {' and '.join(missing)}", file=sys.stderr)
        return 2
    servers, ratios, name = (
        (both_checkouts, baseline_ratios, "baseline") if options.baseline else (all_servers, bars, "server")
    )
    with tempfile.TemporaryDirectory() as directory, servers(options, Path(directory)) as contenders:
        rounds = measure(contenders, options.rounds, options.seconds, Path(directory))
    medians = {key: Measured(*map(statistics.median, zip(*rows, strict=True))) for key, rows in rounds.items()}
    print_table(medians)
    results = ratios(rounds, medians)
    for ratio in results:
        verdict = (
            "" if not ratio.bar else f"(bar {ratio.bar:.2f}: {'reached' if ratio.value >= ratio.bar else 'MISSED'})"
        )
        print(f"{ratio.text}: {ratio.value:.3f} {verdict}")
    rows = [{"server": server, "connections": count, **row._asdict()} for (server, count), row in medians.items()]
    file = options.json or RESULTS / f"{name}.json"
    file.parent.mkdir(exist_ok=True)
    file.write_text(json.dumps({"medians": rows, "ratios": [ratio._asdict() for ratio in results]}, indent=1) + "\n")
    return 1 if options.check and any(ratio.value < ratio.bar for ratio in results) else 0


@contextlib.contextmanager
def all_servers(options: argparse.Namespace, directory: Path) -> Iterator[list[Contender]]:
    """This checkout's server, with and without batching, beside the two programs that it is measured against."""
    base = model_base_path(options, directory)
    versions = version_directories(base)
    ports = [free_port() for _ in range(6)]
    commands = {
        "echo": [sys.executable, str(HERE / "server_echo.py"), str(ports[0]), str(ECHO_BYTES)],
        "fastapi": [sys.executable, str(HERE / "server_fastapi.py"), str(ports[1]), str(versions[max(versions)])],
        "plain": embedded(Path(sys.executable), base, ports[2:4]),
        "batching": embedded(Path(sys.executable), base, ports[4:6], *BATCHING),
    }
    with running(commands, ports) as processes:
        yield [
            Contender("echo gRPC", processes["echo"], ports[0], load_grpc),
            Contender("embedded gRPC", processes["plain"], ports[2], load_grpc),
            Contender("embedded gRPC, batching", processes["batching"], ports[4], load_grpc),
            Contender("FastAPI REST", processes["fastapi"], ports[1], load_rest),
            Contender("embedded REST", processes["plain"], ports[3], load_rest),
            Contender("embedded REST, batching", processes["batching"], ports[5], load_rest),
        ]


@contextlib.contextmanager
def both_checkouts(options: argparse.Namespace, directory: Path) -> Iterator[list[Contender]]:
    """The servers of both checkouts, with and without batching, and the same model."""
    base = model_base_path(options, directory)
    checkouts = {"before": options.baseline.absolute(), "after": HERE.parent}
    servers = [(which, setting, (free_port(), free_port())) for setting in SETTINGS for which in checkouts]
    folders = {which + setting: checkouts[which] for which, setting, _ in servers}
    commands = {
        which + setting: embedded(checkouts[which] / ".venv" / "bin" / "python", base, ports, *SETTINGS[setting])
        for which, setting, ports in servers
    }
    with running(commands, [port for *_, ports in servers for port in ports], folders) as processes:
        yield [
            Contender(f"{which} {api}{setting}", processes[which + setting], ports[at], load)
            for at, (api, load) in enumerate((("gRPC", load_grpc), ("REST", load_rest)))
            for which, setting, ports in servers
        ]


def model_base_path(options: argparse.Namespace, directory: Path) -> Path:
    """The model that is asked for, or one in its place where there is none."""
    base: Path = options.model_base_path.absolute()
    if not base.is_dir():
        print(f"No model under {options.model_base_path}: one of the same shape with random weights is measured")
        base = directory / "fashion_mnist"
        subprocess.run([sys.executable, "-c", WRITE_MODEL, str(base / "1")], check=True, capture_output=True)
    return base


def embedded(python: Path, base: Path, ports: Sequence[int], *flags: str) -> list[str]:
    """The command of an embedded server on a gRPC and a REST port."""
    model = ("--model_name=fashion_mnist", f"--model_base_path={base}")
    return [str(python), "-m", "serving.embedded", *model, f"--port={ports[0]}", f"--rest_api_port={ports[1]}", *flags]


@contextlib.contextmanager
def running(
    commands: Mapping[str, list[str]], ports: Sequence[int], folders: Mapping[str, Path] = MappingProxyType({})
) -> Iterator[dict[str, subprocess.Popen[bytes]]]:
    """Starts the commands, some in a folder of their own, waits until all ports are open, and stops them."""
    processes = {
        name: subprocess.Popen(command, stderr=subprocess.DEVNULL, cwd=folders.get(name))
        for name, command in commands.items()
    }
    try:
        for port in ports:
            wait_until_open(port)
        yield processes
    finally:
        for process in processes.values():
            process.kill()
            process.wait()


def measure(contenders: list[Contender], rounds: int, seconds: int, directory: Path) -> Rounds:
    """All rounds but the first, which only warms up."""
    write_payloads(directory)
    results: Rounds = {}
    total = (rounds + 1) * len(CONNECTIONS) * len(contenders)
    done = 0
    for turn in range(rounds + 1):
        for connections in CONNECTIONS:
            # There and back: what drifts meanwhile favours nobody.
            for contender in contenders[:: 1 if turn % 2 else -1]:
                row = contender.load(contender, connections, seconds if turn else 1, directory)
                done += 1
                if sys.stderr.isatty():
                    print(f"\r{done}/{total} {contender.name} @{connections}          ", end="", file=sys.stderr)
                if turn:
                    results.setdefault((contender.name, connections), []).append(row)
    if sys.stderr.isatty():
        print(file=sys.stderr)
    return results


def load_grpc(contender: Contender, connections: int, seconds: int, directory: Path) -> Measured:
    """One round of h2load."""
    log = directory / "h2load.log"
    log.unlink(missing_ok=True)
    before = cpu_seconds(contender.process.pid)
    run(
        ["h2load", "-c", str(connections), "-m", "1", "-t", "1", "-D", str(seconds), "-d", str(directory / "grpc.bin"),
         "-H", "content-type: application/grpc", "-H", "te: trailers", f"--log-file={log}",
         f"http://127.0.0.1:{contender.port}{services.PREDICT.path}"]
    )  # fmt: skip
    cpu = cpu_seconds(contender.process.pid) - before
    latencies = sorted(int(line.split("\t")[2]) for line in log.read_text().splitlines())
    count = len(latencies)
    return Measured(count / seconds, latencies[count // 2], latencies[int(count * 0.99)], cpu / count * 1e6)


def load_rest(contender: Contender, connections: int, seconds: int, directory: Path) -> Measured:
    """One round of wrk."""
    before = cpu_seconds(contender.process.pid)
    url = f"http://127.0.0.1:{contender.port}/v1/models/fashion_mnist:predict"
    text = run(["wrk", "-t1", f"-c{connections}", f"-d{seconds}", "--latency", "-s", str(directory / "rest.lua"), url])
    cpu = cpu_seconds(contender.process.pid) - before
    if "Non-2xx" in text:
        raise SystemExit(f"{contender.name} answered errors:\n{text}")
    p50, p99, count = (
        re.search(pattern, text) for pattern in (r"\n\s+50%\s+(\S+)", r"\n\s+99%\s+(\S+)", r"(\d+) requests in")
    )
    assert p50
    assert p99
    assert count
    total = int(count[1])
    return Measured(total / seconds, microseconds(p50[1]), microseconds(p99[1]), cpu / total * 1e6)


def print_table(medians: Medians) -> None:
    """All medians."""
    print(f"{'server':26}{'connections':>12}{'requests/s':>12}{'p50 us':>9}{'p99 us':>9}{'CPU us':>8}")
    for (name, connections), row in medians.items():
        print(f"{name:26}{connections:12}{row.rate:12.0f}{row.p50:9.0f}{row.p99:9.0f}{row.cpu:8.0f}")


def bars(_: Rounds, medians: Medians) -> list[Ratio]:
    """The ratios that are to be reached, of the better of our two settings."""

    def best(api: str, connections: int, value: Callable[[Measured], float]) -> float:
        return max(value(medians[f"embedded {api}{kind}", connections]) for kind in ("", ", batching"))

    echo, fastapi = medians["echo gRPC", 32], medians["FastAPI REST", 32]
    slowest = medians["echo gRPC", 1].p50
    return [
        Ratio("gRPC at 32 connections, of echo's rate", best("gRPC", 32, lambda row: row.rate) / echo.rate, 0.7),
        Ratio("REST at 32 connections, of FastAPI's rate", best("REST", 32, lambda row: row.rate) / fastapi.rate, 3.0),
        Ratio("p50 at 1 connection, echo's to ours", best("gRPC", 1, lambda row: slowest / row.p50), 1 / 1.5),
        Ratio("CPU a request at 32, echo's to ours", best("gRPC", 32, lambda row: echo.cpu / row.cpu), 0.0),
    ]


def baseline_ratios(rounds: Rounds, _: Medians) -> list[Ratio]:
    """This checkout's rates to the other's, and the other's times to this one's: above 1 it has become better."""
    results = []
    for api, setting, connections in itertools.product(("gRPC", "REST"), SETTINGS, CONNECTIONS):
        name = f"{api}{setting}"
        pairs = list(zip(rounds[f"before {name}", connections], rounds[f"after {name}", connections], strict=True))
        what = f"{name}, at {connections}:"
        results += [
            Ratio(
                f"{what} rate after to before",
                statistics.median(after.rate / before.rate for before, after in pairs),
                0.97 if api == "gRPC" else 0.0,
            ),
            Ratio(f"{what} p99 before to after", statistics.median(b.p99 / max(1.0, a.p99) for b, a in pairs), 0.0),
            Ratio(f"{what} CPU a request before to after", statistics.median(b.cpu / a.cpu for b, a in pairs), 0.0),
        ]
    return results


def write_payloads(directory: Path) -> None:
    """One random image as a gRPC frame and as a script for wrk."""
    image = np.random.default_rng(0).integers(0, 256, (1, 28, 28), dtype=np.uint8)
    request = PredictRequest()
    request.model_spec.name = "fashion_mnist"
    request.inputs["images"].CopyFrom(tensors.make_tensor_proto(image))
    body = request.SerializeToString()
    (directory / "grpc.bin").write_bytes(b"\0" + struct.pack(">I", len(body)) + body)
    lua = json.dumps(json.dumps({"instances": image.tolist()}))
    (directory / "rest.lua").write_text(
        f'wrk.method = "POST"\nwrk.body = {lua}\nwrk.headers["Content-Type"] = "application/json"\n'
    )


def run(command: list[str]) -> str:
    """The output of a tool."""
    return subprocess.run(command, check=True, capture_output=True, text=True).stdout


def cpu_seconds(pid: int) -> float:
    """User and system time of a process (proc(5))."""
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / TICKS


def microseconds(text: str) -> float:
    """wrk's times: 405.00us, 1.23ms, 1.00s."""
    number = float(text.rstrip("mus"))
    return number * (1 if text.endswith("us") else 1e3 if text.endswith("ms") else 1e6)


def free_port() -> int:
    """A port that was free a moment ago."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        return int(listener.getsockname()[1])


def wait_until_open(port: int) -> None:
    """Waits until something listens."""
    end = time.monotonic() + START_SECONDS
    while time.monotonic() < end:
        with contextlib.suppress(OSError), socket.create_connection(("127.0.0.1", port), 0.2):
            return
        time.sleep(0.1)
    raise SystemExit(f"nothing listens on port {port} after {START_SECONDS} seconds")


if __name__ == "__main__":
    sys.exit(main())

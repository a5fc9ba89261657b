"""The server as a process: what it prints, and how it ends."""

from __future__ import annotations

import re
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from importlib import metadata
from pathlib import Path

import grpc
import httpx
import numpy as np
import pytest

from serving.apis import services
from tests.support.asking import call, outputs, predict_request
from tests.support.live import KITCHEN, running, signal_another_thread, wait_until

# When a line of the log was written.
TIME = r"\d{4}-\d\d-\d\d \d\d:\d\d:\d\d,\d{3}"


def run(*flags: str) -> subprocess.CompletedProcess[str]:
    """The server run to its end."""
    return subprocess.run(
        [sys.executable, "-m", "serving.embedded", *flags], capture_output=True, text=True, timeout=60, check=False
    )


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_signal_ends_it_cleanly(number: signal.Signals) -> None:
    """It says what it loads, where it listens and what it unloads, and nothing else, and exits with 0."""
    with running("--model_name=kitchen", f"--model_base_path={KITCHEN}") as server:
        answer = httpx.post(f"http://{server.rest}/v1/models/kitchen:predict", json={"instances": [1]})
        assert answer.json() == {"predictions": [3.5]}

        server.process.send_signal(number)

        assert server.process.wait(30) == 0
        version = r"\{name: kitchen version: 2\}"
        assert re.fullmatch(
            rf"{TIME} {KITCHEN}/2 is served by tensorflow: the version has no model\.tflite\n"
            rf"{TIME} Successfully loaded servable version {version}\n"
            rf"Running gRPC ModelServer at {server.grpc} \.\.\.\nExporting HTTP/REST API at:{server.rest} \.\.\.\n"
            rf"{TIME} Done unloading servable version {version}\n",
            server.log.read_text(),
        )


@pytest.mark.skipif(sys.platform != "linux", reason="only Linux sends a signal to one thread of another process")
def test_a_signal_that_another_thread_takes_ends_it_too(lite_flags: Sequence[str]) -> None:
    """Within a second or so: only the main thread runs its handler, and nothing wakes it up."""
    with running(*lite_flags) as server:
        signal_another_thread(server.process, signal.SIGTERM)
        assert server.process.wait(30) == 0


def test_a_wrong_base_path_is_told_at_once(tmp_path: Path) -> None:
    """With the fix; the ports open all the same, so that the status can be asked."""
    with running("--runtime=litert", "--model_name=m", f"--model_base_path={tmp_path}/none") as server:
        log = server.log.read_text()
    assert re.fullmatch(
        rf"{TIME} m cannot be served yet: Could not find base path {tmp_path}/none: create it, or correct the path",
        log.splitlines()[0],
    )


@pytest.mark.parametrize(
    ("flag", "message"),
    [
        ("model_config_file", "tensorflow.serving.ModelServerConfig"),
        ("tensorflow_session_config_file", "tensorflow.ConfigProto"),
    ],
)
def test_a_configuration_that_does_not_parse_ends_the_start(tmp_path: Path, flag: str, message: str) -> None:
    """In TF Serving's words, with exit code 2."""
    config = tmp_path / "bad.config"
    config.write_text("improperly formatted file\n")

    ended = run(f"--model_base_path={KITCHEN}", f"--{flag}={config}")

    assert ended.returncode == 2
    assert ended.stderr.startswith(f"Error: Error parsing text-format {message}: 1:")
    assert ended.stderr.endswith(f"\nInvalid protobuf file: '{config}'\n")
    assert "Traceback" not in ended.stderr


@pytest.mark.parametrize(
    ("flag", "message"),
    [
        ("--nope", "unknown argument: --nope"),
        ("--port=99999", "Couldn't interpret value 99999 for flag port: expected a whole number from -1 to 65535"),
        ("--use_alts_credentials", "--use_alts_credentials cannot be followed: ALTS exists on Google Cloud only: "),
    ],
)
def test_a_flag_that_cannot_be_followed_is_told_in_one_line(flag: str, message: str) -> None:
    """Exit code 2."""
    ended = run(flag)

    assert ended.returncode == 2
    (line,) = ended.stderr.splitlines()
    assert line.startswith(message)
    assert line.endswith("; --help lists the flags")


def test_a_second_server_cannot_take_a_ports_place_beside_the_first(lite_flags: Sequence[str]) -> None:
    """Each would get some of the connections: only workers of one server share a port."""
    with running(*lite_flags) as server:
        host, _, port = server.grpc.rpartition(":")
        ended = run(*lite_flags, f"--host={host}", f"--port={port}")
    assert ended.returncode == 2
    assert f"{server.grpc} cannot be listened on for gRPC: " in ended.stderr
    assert "Address already in use" in ended.stderr


def test_help_needs_no_tensorflow() -> None:
    """It prints the flags at once."""
    ended = run("--help")

    assert ended.returncode == 0
    assert "--model_base_path" in ended.stdout


def test_tensorflow_comes_without_keras() -> None:
    """A server needs none, and to import it takes as long as TensorFlow itself."""
    command = [sys.executable, "-X", "importtime", "-m", "serving.embedded", "--version", "--verbose"]
    ended = subprocess.run(command, capture_output=True, text=True, timeout=60, check=True)
    modules = {line.rpartition("|")[2].strip() for line in ended.stderr.splitlines()}

    assert f"TensorFlow Library: {metadata.version('tensorflow')}" in ended.stdout
    assert "tensorflow" in modules
    assert "keras" not in modules


def test_sigterm_drains(toys: Path, tmp_path: Path) -> None:
    """Requests in flight finish, new ones find the ports closed, exit code 0; more than the limit are refused."""
    opened = tmp_path / "opened"
    flags = (
        "--model_name=gate", f"--model_base_path={toys}/gate", "--max_concurrent_requests=2",
        "--shutdown_grace_seconds=60",
    )  # fmt: skip
    with (
        running(*flags) as server,
        grpc.insecure_channel(server.grpc) as channel,
        httpx.Client(base_url=f"http://{server.rest}/v1/models", timeout=60) as http,
        ThreadPoolExecutor(2) as pool,
        ExitStack() as failing,
    ):
        failing.callback(opened.touch)
        grpc_answer = pool.submit(let_in_over_grpc, channel, opened)
        rest_answer = pool.submit(let_in_over_rest, http, opened)
        refused = until_refused(http)

        server.process.send_signal(signal.SIGTERM)
        wait_until(lambda: not any(is_open(address) for address in (server.grpc, server.rest)))
        assert not grpc_answer.done()
        assert not rest_answer.done()
        opened.touch()

        assert grpc_answer.result(60) == [str(opened).encode()]
        assert rest_answer.result(60) == {"predictions": [str(opened)]}
        assert server.process.wait(30) == 0
    assert "--max_concurrent_requests" in refused


def let_in_over_grpc(channel: grpc.Channel, opened: Path) -> list[bytes]:
    """What the model `gate` answers; asked again while the request is refused."""
    request = predict_request("gate", {"path": np.array([str(opened)], object)})
    end = time.monotonic() + 60
    while True:
        try:
            paths: list[bytes] = outputs(call(channel, services.PREDICT, request, timeout=60))["path"].tolist()
        except grpc.RpcError as error:
            if error.code() != grpc.StatusCode.RESOURCE_EXHAUSTED or time.monotonic() > end:
                raise
        else:
            return paths


def let_in_over_rest(http: httpx.Client, opened: Path) -> object:
    """What the model `gate` answers; asked again while the request is refused."""
    end = time.monotonic() + 60
    while (answer := http.post("/gate:predict", json={"instances": [str(opened)]})).status_code == 429:
        assert time.monotonic() < end, answer.text
    return answer.json()


def until_refused(http: httpx.Client) -> str:
    """Asks for the status until all places are taken; the text of the refusal."""
    end = time.monotonic() + 60
    while (answer := http.get("/gate")).status_code != 429:
        assert time.monotonic() < end, "the limit was never met"
    return str(answer.json()["error"])


def is_open(address: str) -> bool:
    """Whether a port takes connections."""
    host, port = address.split(":")
    try:
        socket.create_connection((host, int(port)), timeout=10).close()
    except ConnectionError:  # refused, or reset when the port closed meanwhile
        return False
    return True

"""What needs a server process with flags of its own: TLS, access log, draining, workers, notices."""

from __future__ import annotations

import json
import os
import re
import shutil
import signal
import socket
import subprocess
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from pathlib import Path

import grpc
import httpx
import numpy as np
import pytest
import trustme
from google.protobuf import text_format

from serving.apis import services
from serving.apis.messages import GetModelStatusRequest, ModelSpec, ReloadConfigRequest
from tests.support.asking import call, outputs, predict, predict_request
from tests.support.live import KITCHEN, running, wait_until

X = np.array([1.0], np.float32)


def test_tls(tmp_path: Path) -> None:
    """--ssl_config_file turns the gRPC port to TLS; plain clients are turned away."""
    openssl = shutil.which("openssl")
    assert openssl, "this test makes its certificate with openssl: install it"
    key, certificate = tmp_path / "key.pem", tmp_path / "cert.pem"
    subprocess.run(
        [openssl, "req", "-x509", "-newkey", "rsa:2048", "-nodes", "-days", "1", "-subj", "/CN=localhost",
         "-addext", "subjectAltName=IP:127.0.0.1", "-keyout", str(key), "-out", str(certificate)],
        check=True, capture_output=True, timeout=60,
    )  # fmt: skip
    config = tmp_path / "ssl.config"
    pems = (json.dumps(path.read_text()) for path in (key, certificate))
    config.write_text("server_key: {} server_cert: {} client_verify: false".format(*pems))
    with running("--model_name=kitchen", f"--model_base_path={KITCHEN}", f"--ssl_config_file={config}") as server:
        credentials = grpc.ssl_channel_credentials(certificate.read_bytes())
        with grpc.secure_channel(server.grpc, credentials) as channel:
            assert predict(channel, "kitchen", {"x": X})["y"].tolist() == [3.5]
        with grpc.insecure_channel(server.grpc) as channel, pytest.raises(grpc.RpcError) as raised:
            predict(channel, "kitchen", {"x": X})
        assert raised.value.code() == grpc.StatusCode.UNAVAILABLE


def test_tls_with_client_certificates(tmp_path: Path) -> None:
    """client_verify and custom_ca: clients with a certificate of that CA are served, all others are turned away."""
    authority, stranger = trustme.CA(), trustme.CA()
    identity = authority.issue_cert("127.0.0.1")
    pems = {
        "server_key": identity.private_key_pem,
        "server_cert": identity.cert_chain_pems[0],
        "custom_ca": authority.cert_pem,
    }
    config = tmp_path / "ssl.config"
    fields = [f"{name}: {json.dumps(pem.bytes().decode())}" for name, pem in pems.items()]
    config.write_text("\n".join([*fields, "client_verify: true"]))

    def ask(*client: bytes) -> list[float]:
        credentials = grpc.ssl_channel_credentials(authority.cert_pem.bytes(), *client)
        with grpc.secure_channel(server.grpc, credentials) as channel:
            answer: list[float] = predict(channel, "kitchen", {"x": X})["y"].tolist()
            return answer

    with running("--model_name=kitchen", f"--model_base_path={KITCHEN}", f"--ssl_config_file={config}") as server:
        assert ask(*key_and_chain(authority)) == [3.5]
        for client in ((), key_and_chain(stranger)):
            with pytest.raises(grpc.RpcError) as raised:
                ask(*client)
            assert raised.value.code() == grpc.StatusCode.UNAVAILABLE


def key_and_chain(authority: trustme.CA) -> tuple[bytes, bytes]:
    """A client's key and certificate of this CA, in PEM."""
    made = authority.issue_cert("client@example.org")
    return made.private_key_pem.bytes(), made.cert_chain_pems[0].bytes()


def test_the_access_log(tmp_path: Path) -> None:
    """One line of JSON for each request, on stdout; tensor_content when asked for; what cannot work is told."""
    command = [
        sys.executable, "-m", "serving.embedded", "--port=0", "--rest_api_port=0", "--model_name=kitchen",
        f"--model_base_path={KITCHEN}", "--access_log", "--enable_serialization_as_tensor_content",
        "--prefer_tflite_model", "--mixed_precision=bfloat16", "--flush_filesystem_caches=false",
    ]  # fmt: skip
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        assert process.stderr is not None
        told = [process.stderr.readline() for _ in range(4)]
        assert told[:2] == [
            "--mixed_precision is ignored: the graph runs in the precision it was exported in\n",
            "--prefer_tflite_model is ignored: the TensorFlow model is served\n",
        ]
        grpc_at, rest_at = (re.search(r"[\d.]+:\d+", line) for line in told[2:])
        assert grpc_at
        assert rest_at
        with grpc.insecure_channel(grpc_at[0]) as channel:
            answer = call(
                channel, services.PREDICT, predict_request("kitchen", {"x": X}), metadata=(("x-request-id", "a"),)
            )
            assert answer.outputs["y"].tensor_content == np.array([3.5], "<f4").tobytes()
            assert outputs(answer)["y"].tolist() == [3.5]
        httpx.get(f"http://{rest_at[0]}/v1/models/nope", headers={"x-request-id": "b"})
        process.send_signal(signal.SIGTERM)
        lines = [json.loads(line) for line in process.stdout.read().splitlines()]
        assert process.wait(30) == 0
    first, second = lines
    assert first.keys() == {"time", "request_id", "protocol", "path", "model", "code", "duration_ms", "peer"}
    assert [first[key] for key in ("request_id", "protocol", "path", "model", "code")] == [
        "a", "GRPC", "/tensorflow.serving.PredictionService/Predict", "kitchen", "OK",
    ]  # fmt: skip
    assert [second[key] for key in ("request_id", "protocol", "path", "model", "code")] == [
        "b", "REST", "/v1/models/nope", "nope", "NOT_FOUND",
    ]  # fmt: skip


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


def free_port() -> int:
    """A port that was free a moment ago."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        return int(listener.getsockname()[1])


def test_workers(toys: Path, tmp_path: Path) -> None:
    """Two processes on the same ports: one answer for status, reload, metrics; one that dies comes back as it was."""
    monitoring = tmp_path / "monitoring.config"
    monitoring.write_text('prometheus_config { enable: true path: "/metrics" }')
    flags = (
        "--workers=2", f"--port={free_port()}", f"--rest_api_port={free_port()}", "--model_name=m",
        f"--model_base_path={toys}/half_plus_two", f"--monitoring_config_file={monitoring}",
    )  # fmt: skip
    with running(*flags) as server:
        url = f"http://{server.rest}"
        for _ in range(20):
            assert httpx.post(f"{url}/v1/models/m:predict", json={"inputs": [1.0]}).status_code == 200
        found = re.search(r'request_count\{model_name="m",status="OK"\} (\S+)', httpx.get(f"{url}/metrics").text)
        assert found
        assert float(found[1]) == 20

        config = f"model_config_list {{ config {{ name: 'n' base_path: '{toys}/tf1' model_platform: 'tensorflow' }} }}"
        request = text_format.Parse(f"config {{ {config} }}", ReloadConfigRequest())
        with grpc.insecure_channel(server.grpc) as channel:
            call(channel, services.HANDLE_RELOAD_CONFIG_REQUEST, request)
        for _ in range(10):  # each from a connection of its own, so that both workers are asked
            assert httpx.get(f"{url}/v1/models/n").status_code == 200
            options = [("grpc.use_local_subchannel_pool", 1)]
            with grpc.insecure_channel(server.grpc, options) as channel:
                status = call(channel, services.GET_MODEL_STATUS, GetModelStatusRequest(model_spec=ModelSpec(name="n")))
            assert [(one.version, one.state) for one in status.model_version_status] == [(123, 30)]

        pid = server.process.pid
        children = set(workers_of(pid))
        os.kill(min(children), signal.SIGKILL)
        wait_until(lambda: len(set(workers_of(pid)) - children) == 1)
        wait_until(lambda: all(is_served(f"{url}/v1/models/n") for _ in range(20)))

        server.process.send_signal(signal.SIGTERM)
        assert server.process.wait(30) == 0
        assert "it is started again" in server.log.read_text()
    with pytest.raises(httpx.ConnectError):
        httpx.get(f"{url}/healthz")


def workers_of(pid: int) -> list[int]:
    """The processes that a process has started (proc(5))."""
    return [int(child) for child in Path(f"/proc/{pid}/task/{pid}/children").read_text().split()]


def is_served(url: str) -> bool:
    """Whether a model's status is to be had, from a connection of its own."""
    try:
        return httpx.get(url).status_code == 200
    except httpx.HTTPError:
        return False


@pytest.mark.parametrize(
    ("flags", "message"),
    [
        (["--use_alts_credentials"], "--use_alts_credentials cannot be followed: ALTS exists on Google Cloud only"),
        (["--batching_parameters_file=x"], "--batching_parameters_file is given without --enable_batching"),
        (["--port=7", "--rest_api_port=7"], "--rest_api_port cannot be the same as --port: 7"),
        (["--workers=2", "--port=0"], "--workers needs ports of its own"),
    ],
)
def test_flags_that_cannot_be_followed(flags: list[str], message: str) -> None:
    """The start ends at once, with exit code 2."""
    command = [sys.executable, "-m", "serving.embedded", "--model_base_path=/m", *flags]
    ended = subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)

    assert ended.returncode == 2
    assert ended.stderr.startswith(message)


def test_the_images_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    """MODEL_NAME and MODEL_BASE_PATH are read as the official image's entry point reads them."""
    monkeypatch.setenv("MODEL_NAME", "kitchen")
    monkeypatch.setenv("MODEL_BASE_PATH", str(KITCHEN.parent))
    with running() as server:
        answer = httpx.post(f"http://{server.rest}/v1/models/kitchen:predict", json={"instances": [1.0]})
        assert answer.json() == {"predictions": [3.5]}

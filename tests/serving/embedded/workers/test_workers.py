"""Several worker processes on the same ports: --workers."""

from __future__ import annotations

import os
import re
import signal
from pathlib import Path

import grpc
import httpx
import psutil  # type: ignore[import-untyped]
import pytest
from google.protobuf import text_format

from serving.apis import services
from serving.apis.messages import GetModelStatusRequest, ModelSpec, ReloadConfigRequest
from tests.support.asking import call
from tests.support.live import free_port, running, wait_until


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
        count = re.search(r'request_count\{model_name="m",status="OK"\} (\S+)', httpx.get(f"{url}/metrics").text)
        assert count
        assert float(count[1]) == 20

        config = f"model_config_list {{ config {{ name: 'n' base_path: '{toys}/tf1' model_platform: 'tensorflow' }} }}"
        request = text_format.Parse(f"config {{ {config} }}", ReloadConfigRequest())
        with grpc.insecure_channel(server.grpc) as channel:
            call(channel, services.HANDLE_RELOAD_CONFIG_REQUEST, request)
        for _ in range(10):  # each from a connection of its own, so that both workers are asked
            assert httpx.get(f"{url}/v1/models/n").status_code == 200
            options = [("grpc.use_local_subchannel_pool", 1)]
            with grpc.insecure_channel(server.grpc, options) as channel:
                status = call(channel, services.GET_MODEL_STATUS, GetModelStatusRequest(model_spec=ModelSpec(name="n")))
            assert [(version.version, version.state) for version in status.model_version_status] == [(123, 30)]

        pid = server.process.pid
        children = set(workers_of(pid))
        os.kill(min(children), signal.SIGKILL)
        wait_until(lambda: any(is_listening(worker) for worker in set(workers_of(pid)) - children))
        assert all(is_served(f"{url}/v1/models/n") for _ in range(20))

        server.process.send_signal(signal.SIGTERM)
        assert server.process.wait(30) == 0
        assert "it is started again" in server.log.read_text()
    with pytest.raises(httpx.ConnectError):
        httpx.get(f"{url}/healthz")


def workers_of(pid: int) -> list[int]:
    """The processes that a process has started (proc(5))."""
    return [int(child) for child in Path(f"/proc/{pid}/task/{pid}/children").read_text().split()]


def is_listening(pid: int) -> bool:
    """Whether a process has its REST port open, which it opens last."""
    connections = psutil.Process(pid).net_connections("tcp")
    return bool(sum(connection.status == psutil.CONN_LISTEN for connection in connections) == 2)


def is_served(url: str) -> bool:
    """Whether a model's status is to be had, from a connection of its own."""
    try:
        return httpx.get(url).status_code == 200
    except httpx.HTTPError:
        return False

"""Several worker processes on the same ports: --workers."""

from __future__ import annotations

import os
import re
import signal
from collections.abc import Sequence
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
from tests.support.workers import is_listening, workers_of


def test_workers(lite_toys: Path, tmp_path: Path) -> None:
    """Two processes on the same ports: one answer for status, reload, metrics; one that dies or stops comes back.

    It then has the newest configuration: here of a file that was edited after a reload.
    """
    monitoring, models = tmp_path / "monitoring.config", tmp_path / "models.config"
    monitoring.write_text('prometheus_config { enable: true path: "/metrics" }')
    models.write_text(models_config("m", lite_toys / "half_plus_two"))
    flags = (
        "--workers=2", f"--port={free_port()}", f"--rest_api_port={free_port()}", f"--model_config_file={models}",
        "--model_config_file_poll_wait_seconds=0.2", f"--monitoring_config_file={monitoring}",
        "--worker_timeout_seconds=3", "--runtime=litert",
    )  # fmt: skip
    with running(*flags) as server:
        url = f"http://{server.rest}"
        for _ in range(20):
            assert httpx.post(f"{url}/v1/models/m:predict", json={"inputs": [1.0]}).status_code == 200
        assert count_of(f"{url}/metrics") == 20

        request = text_format.Parse(f"config {{ {models_config('n', lite_toys / 'tf1')} }}", ReloadConfigRequest())
        with grpc.insecure_channel(server.grpc) as channel:
            call(channel, services.HANDLE_RELOAD_CONFIG_REQUEST, request)
        for _ in range(10):  # each from a connection of its own, so that both workers are asked
            assert httpx.get(f"{url}/v1/models/n").status_code == 200
            options = [("grpc.use_local_subchannel_pool", 1)]
            with grpc.insecure_channel(server.grpc, options) as channel:
                status = call(channel, services.GET_MODEL_STATUS, GetModelStatusRequest(model_spec=ModelSpec(name="n")))
            assert [(version.version, version.state) for version in status.model_version_status] == [(1, 30)]
        models.write_text(models_config("edited", lite_toys / "half_plus_two"))
        wait_until(lambda: all(is_served(f"{url}/v1/models/edited") for _ in range(20)))

        pid = server.process.pid
        for number in (signal.SIGKILL, signal.SIGSTOP):
            children = set(workers_of(pid))
            os.kill(min(children), number)
            wait_until(lambda: any(is_listening(worker) for worker in set(workers_of(pid)) - children))  # noqa: B023
            assert all(is_served(f"{url}/v1/models/edited") for _ in range(20))
        # Of workers that have died, too.
        assert count_of(f"{url}/metrics") == 20

        server.process.send_signal(signal.SIGTERM)
        assert server.process.wait(30) == 0
        log = server.log.read_text()
        assert "ended with exit code -9: it is started again" in log
        assert "gave no sign of life for --worker_timeout_seconds=3: it is killed" in log
        assert "\0" not in log
    with pytest.raises(httpx.ConnectError):
        httpx.get(f"{url}/healthz")


def test_the_parent_is_killed(lite_flags: Sequence[str]) -> None:
    """Its workers end, and leave nothing behind."""
    flags = ("--workers=2", f"--port={free_port()}", f"--rest_api_port={free_port()}")
    with running(*lite_flags, *flags) as server:
        workers = [psutil.Process(pid) for pid in workers_of(server.process.pid)]
        (directory,) = {worker.cmdline()[-1].partition("=")[2] for worker in workers}
        server.process.kill()
        server.process.wait(30)
        assert psutil.wait_procs(workers, 60)[1] == []
        # Each removes the directory, at about the same time.
        assert "Traceback" not in server.log.read_text()
    assert not Path(directory).exists()


def models_config(name: str, base_path: Path) -> str:
    """A ModelServerConfig of one model, as text."""
    return f"model_config_list {{ config {{ name: '{name}' base_path: '{base_path}' model_platform: 'tensorflow' }} }}"


def count_of(url: str) -> float:
    """How many requests of the model m were answered, by the metrics."""
    count = re.search(r'request_count\{model_name="m",status="OK"\} (\S+)', httpx.get(url).text)
    assert count
    return float(count[1])


def is_served(url: str) -> bool:
    """Whether a model's status is to be had, from a connection of its own."""
    try:
        return httpx.get(url).status_code == 200
    except httpx.HTTPError:
        return False

"""A server in this process with every service and every route, whose models do nothing."""

from __future__ import annotations

import contextlib
import json
import os
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

import grpc
import httpx
import pytest
from grpc_health.v1 import health_pb2
from grpc_reflection.v1alpha import reflection_pb2

from serving.apis import messages, services
from serving.apis.services import PROFILER_SERVICE as PROFILER
from serving.embedded.flags import Flags
from serving.embedded.grpc.methods import Methods
from serving.embedded.inference.model import LoadedModel
from serving.embedded.observe.tracer import Trace, Tracer
from serving.embedded.rest.routes import Route
from serving.embedded.server import ModelServer
from tests.support.fakes import FakeServable
from tests.support.live import wait_until

UNKNOWN = "/no.Service/NoMethod"
# A request of each REST route, by the name of its operation.
REQUESTS = {
    "Predict": ("POST", "/v1/models/m:predict"),
    "Classify": ("POST", "/v1/models/m/versions/1:classify"),
    "Regress": ("POST", "/v1/models/m/labels/stable:regress"),
    "GetModelStatus": ("GET", "/v1/models/m"),
    "GetModelMetadata": ("GET", "/v1/models/m/metadata"),
    "NoModel": ("GET", "/v1/models"),
    "OpenApi": ("GET", "/openapi.json"),
    "Preflight": ("OPTIONS", "/v1/models/m:predict"),
    "Malformed": ("PUT", "/v1/models/m"),
    "Health": ("GET", "/healthz"),
    "Readiness": ("HEAD", "/readyz?verbose"),
    "Metrics": ("GET", "/metrics"),
    "NotFound": ("GET", "/favicon.ico"),
}


class Ports(NamedTuple):
    """A server in this process whose models do nothing, where it listens, and its access log."""

    server: ModelServer
    address: str
    grpc: grpc.Channel
    rest: httpx.Client
    log: Path
    metrics: str | None

    @property
    def methods(self) -> Methods:
        """What its gRPC connections answer with."""
        assert self.server._grpc is not None
        return self.server._grpc._methods

    @property
    def routes(self) -> list[Route]:
        """What its REST connections answer with."""
        assert self.server._rest is not None
        return list(self.server._rest._application._routes)

    def line(self) -> dict[str, Any]:
        """The one line of the log; it is taken out."""
        return taken_line(self.log)

    def ask(self, path: str, data: bytes | None = b"", timeout: float = 10) -> str:
        """The code that a method answers one message with, or none, whatever its type."""
        method: Any = self.grpc.stream_stream(path)
        answers = method(iter(() if data is None else (data,)), timeout=timeout)
        with contextlib.suppress(grpc.RpcError):
            for _ in answers:
                # A Watch goes on: its first answer is enough.
                if path.endswith("/Watch"):
                    answers.cancel()
        return str(answers.code().name)


@contextlib.contextmanager
def ports(path: Path, monkeypatch: pytest.MonkeyPatch, **flags: Any) -> Iterator[Ports]:
    """A server with every service and every route switched on."""
    (path / "m" / "1").mkdir(parents=True)
    # An empty directory would be waited for.
    (path / "m" / "1" / "saved_model.pb").touch()
    monitoring = path / "monitoring.config"
    monitoring.write_text("prometheus_config { enable: true path: '/metrics' }")
    log = path / "access.log"
    with log.open("a") as stdout, monkeypatch.context() as patch:
        patch.setattr(sys, "stdout", stdout)
        server = ModelServer(
            Flags(
                port=0,
                rest_api_port=0,
                model_name="m",
                model_base_path=str(path / "m"),
                monitoring_config_file=str(monitoring),
                enable_grpc_healthcheck_service=True,
                rest_api_enable_cors_support=True,
                access_log=True,
                shutdown_grace_seconds=1,
                **flags,
            ),
            lambda name, number, _: LoadedModel(name, number, FakeServable(number)),
            tracer=Tracer(lambda *_: Trace(b"", empty=True)),
        )
    addresses = server.start()
    assert addresses.grpc
    try:
        with (
            grpc.insecure_channel(addresses.grpc) as channel,
            httpx.Client(base_url=f"http://{addresses.rest}") as http,
        ):
            yield Ports(server, addresses.grpc, channel, http, log, addresses.metrics)
    finally:
        server.stop()


def described() -> set[str]:
    """The paths of all methods that the services' own descriptors have."""
    described = [messages.service(name) for name in (services.PREDICTION_SERVICE, services.MODEL_SERVICE)]
    described += [file.services_by_name[name] for file, name in (
        (health_pb2.DESCRIPTOR, "Health"), (reflection_pb2.DESCRIPTOR, "ServerReflection"),
    )]  # fmt: skip
    paths = {f"/{service.full_name}/{method.name}" for service in described for method in service.methods}
    # TensorFlow ships no descriptor of the one, and grpcio-reflection none of the other, whose messages are the same.
    paths |= {f"/{PROFILER}/{name}" for name in ("Profile", "Terminate", "Monitor")}
    return paths | {path.replace("v1alpha", "v1") for path in paths if "v1alpha" in path}


def taken_line(log: Path) -> dict[str, Any]:
    """The one line of an access log, once it is there; it is taken out."""
    wait_until(lambda: log.read_text().endswith("\n"))
    (line,) = log.read_text().splitlines()
    os.truncate(log, 0)
    fields: dict[str, Any] = json.loads(line)
    return fields

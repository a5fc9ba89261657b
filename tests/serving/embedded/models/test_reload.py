"""Reloads of live servers by callers: who may, how far, and what they are told."""

from __future__ import annotations

import socket
from collections.abc import Iterator, Sequence
from pathlib import Path

import grpc
import httpx
import psutil  # type: ignore[import-untyped]
import pytest
from google.protobuf import text_format
from grpc_health.v1 import health_pb2, health_pb2_grpc

from serving.apis import services
from serving.apis.messages import ReloadConfigRequest
from serving.embedded.grpc.services.peers import check_reload
from serving.errors import PermissionDenied
from tests.support.asking import call
from tests.support.live import Server, running

LOCAL = ("ipv4:127.0.0.1:50514", "ipv6:::1:50514", "ipv6:::ffff:127.0.0.1:50514", "unix:")
REMOTE = ("ipv4:10.0.0.7:50514", "ipv6:2001:db8::1:50514", "ipv6:::ffff:10.0.0.7:50514", "ipv4:0.0.0.0:0")


@pytest.mark.parametrize("peer", LOCAL + REMOTE)
def test_who_may_reload(peer: str) -> None:
    """By default, whoever is on the server's machine; the text names the flag."""
    check_reload(peer, "anyone")
    with pytest.raises(PermissionDenied, match="--reload_from=nobody"):
        check_reload(peer, "nobody")
    if peer in LOCAL:
        check_reload(peer, "loopback")
    else:
        with pytest.raises(PermissionDenied, match="--reload_from=loopback; "):
            check_reload(peer, "loopback")


def reload(address: str, models: str) -> tuple[str, str]:
    """The code and the text of a reload's answer."""
    request = text_format.Parse(f"config {{ model_config_list {{ {models} }} }}", ReloadConfigRequest())
    with grpc.insecure_channel(address) as channel:
        try:
            call(channel, services.HANDLE_RELOAD_CONFIG_REQUEST, request)
        except grpc.RpcError as error:
            return error.code().name, error.details() or ""
    return "OK", ""


@pytest.fixture(scope="module")
def server(lite_flags: Sequence[str]) -> Iterator[Server]:
    """A server that listens everywhere, on the default --reload_from."""
    with running(*lite_flags, "--host=0.0.0.0", "--enable_grpc_healthcheck_service") as live:
        yield live


def test_a_caller_from_elsewhere_may_not_unload(server: Server) -> None:
    """Through the machine's other addresses, PERMISSION_DENIED; the model goes on serving."""
    addresses = [
        address.address
        for interface in psutil.net_if_addrs().values()
        for address in interface
        if address.family == socket.AF_INET and not address.address.startswith("127.")
    ]
    if not addresses:
        pytest.skip("this machine has no address but the loopback's")

    code, text = reload(f"{addresses[0]}:{server.grpc.rpartition(':')[2]}", "")

    assert (code, "--reload_from=loopback" in text) == ("PERMISSION_DENIED", True)
    assert httpx.get(f"http://{server.rest}/readyz").status_code == 200


def test_the_file_system_is_not_told(server: Server, lite_toys: Path) -> None:
    """Of paths elsewhere, nothing; of those beside the configured one, whether there are versions."""
    own = f"config {{ name: 'm' base_path: '{lite_toys}/half_plus_two' model_platform: 'tensorflow' }}"
    answers = {
        path: reload(server.grpc, f"{own} config {{ name: 'n' base_path: '{path}' model_platform: 'tensorflow' }}")
        for path in ("/proc", "/no-such-thing", f"{lite_toys}/../..", f"{lite_toys}/none", f"{lite_toys}/two/1")
    }

    refused = "a reload may only name one that is below the parent of a base path in the server's own configuration"
    assert [code for code, _ in answers.values()] == ["PERMISSION_DENIED"] * 3 + ["NOT_FOUND", "FAILED_PRECONDITION"]
    assert {text.replace(path, "PATH") for path, (_, text) in answers.items()} == {
        f"Model n has base_path PATH: {refused}",
        "No versions of model n can be read under its base path: the server's log says why",
    }


def test_without_a_model_it_is_not_ready(server: Server, lite_toys: Path) -> None:
    """On both APIs, until there is one again."""
    model = f"config {{ name: 'm' base_path: '{lite_toys}/half_plus_two' model_platform: 'tensorflow' }}"

    def health() -> tuple[int, int]:
        with grpc.insecure_channel(server.grpc) as channel:
            status = health_pb2_grpc.HealthStub(channel).Check(health_pb2.HealthCheckRequest(), timeout=10).status
        return httpx.get(f"http://{server.rest}/readyz").status_code, status

    assert reload(server.grpc, "") == ("OK", "")
    assert health() == (503, health_pb2.HealthCheckResponse.NOT_SERVING)
    assert reload(server.grpc, model) == ("OK", "")
    assert health() == (200, health_pb2.HealthCheckResponse.SERVING)


def test_nobody(lite_flags: Sequence[str]) -> None:
    """--reload_from=nobody refuses callers on this machine too."""
    with running(*lite_flags, "--reload_from=nobody") as server:
        code, text = reload(server.grpc, "")

    assert (code, "--reload_from=nobody" in text) == ("PERMISSION_DENIED", True)

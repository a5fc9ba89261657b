"""Every status that a server can answer becomes one error of the client's family, over both APIs."""

from __future__ import annotations

import json
import re
import socket
from collections.abc import Callable, Mapping

import grpc
import pytest

from client.connection import connect
from client.errors import ClientUsageError, DeadlineExceededError, ServerError, ServerUnreachableError
from serving.apis.status import Code
from tests.support.status_servers import grpc_server, http_server


def _aborting(code: grpc.StatusCode) -> Callable[[grpc.ServicerContext], bytes]:
    def answer(context: grpc.ServicerContext) -> bytes:
        context.abort(code, "as the test\nwants it")

    return answer


@pytest.mark.parametrize("code", [code for code in grpc.StatusCode if code is not grpc.StatusCode.OK])
def test_every_grpc_status_is_an_error_with_its_code_and_text(code: grpc.StatusCode) -> None:
    """The text is one line, the cause is kept, the numbers are gRPC's."""
    with (
        grpc_server(_aborting(code)) as port,
        connect(f"grpc://127.0.0.1:{port}") as connection,
        pytest.raises(ServerError) as excinfo,
    ):
        connection.status()
    assert excinfo.value.code == code.name
    assert excinfo.value.details == "as the test wants it"
    assert isinstance(excinfo.value.__cause__, grpc.RpcError)
    assert Code(code.value[0]).name == code.name
    assert excinfo.value.exit_code == 1


@pytest.mark.parametrize("status", [400, 401, 403, 404, 409, 413, 429, 499, 500, 501, 502, 503, 504, 418])
def test_every_http_status_is_an_error_with_its_code_and_text(status: int) -> None:
    """A status that TF Serving never sends is UNKNOWN."""
    body = json.dumps({"error": "as the test wants it"}).encode()
    with (
        http_server(lambda _: (status, body)) as port,
        connect(f"http://127.0.0.1:{port}") as connection,
        pytest.raises(ServerError) as excinfo,
    ):
        connection.status()
    assert excinfo.value.code == Code.of_http_status(status).name
    assert (excinfo.value.code == "UNKNOWN") == (status == 418)
    assert excinfo.value.details == "as the test wants it"


@pytest.mark.parametrize("body", [b"<html>", b"[1]"], ids=["html", "list"])
def test_an_answer_that_is_not_tf_servings_is_said_to_be_so(body: bytes) -> None:
    """Another web server on that port is the likeliest mistake."""
    with (
        http_server(lambda _: (200, body)) as port,
        connect(f"http://127.0.0.1:{port}") as connection,
        pytest.raises(ServerError, match=r"is this TF Serving's REST port\?"),
    ):
        connection.status()


@pytest.mark.parametrize("scheme", ["grpc", "http"])
def test_a_port_where_nobody_listens_is_unreachable(scheme: str) -> None:
    """Port 1 of the loopback refuses; the hint says how to start a server."""
    with connect(f"{scheme}://127.0.0.1:1") as connection, pytest.raises(ServerUnreachableError, match="fashion serve"):
        connection.status()


def test_what_is_unreachable_is_named_with_the_reason() -> None:
    """The server as it was given, and the last thing that went wrong."""
    for scheme, reason in (("grpc", r"\w+: ipv4:127\.0\.0\.1:1: .*Connection refused.*"), ("http", r".*refused.*")):
        server = f"{scheme}://127.0.0.1:1"
        with connect(server, retry=False) as connection, pytest.raises(ServerUnreachableError) as raised:
            connection.status()
        assert re.fullmatch(rf"{server}: {reason}", raised.value.details, re.IGNORECASE)
        assert "last error" not in raised.value.details
        assert raised.value.code == "UNAVAILABLE"


def test_a_proxy_of_the_environment_is_passed_by(monkeypatch: pytest.MonkeyPatch) -> None:
    """A request for this very address is nobody else's."""
    for name in ("HTTP_PROXY", "http_proxy", "ALL_PROXY"):
        monkeypatch.setenv(name, "http://127.0.0.1:1")
    monkeypatch.delenv("NO_PROXY", raising=False)
    monkeypatch.delenv("no_proxy", raising=False)
    body = json.dumps({"model_version_status": []}).encode()
    with http_server(lambda _: (200, body)) as port, connect(f"http://127.0.0.1:{port}") as connection:
        assert connection.status() == []


@pytest.mark.parametrize("scheme", ["grpc", "http"])
def test_a_server_that_never_answers_exceeds_the_deadline(scheme: str) -> None:
    """A listening socket that nobody accepts from."""
    with socket.create_server(("127.0.0.1", 0)) as silent:
        server = f"{scheme}://127.0.0.1:{silent.getsockname()[1]}"
        with (
            connect(server, timeout=0.2) as connection,
            pytest.raises(DeadlineExceededError, match="--timeout") as raised,
        ):
            connection.status()
    if scheme == "http":
        assert re.fullmatch(rf"{server}: no answer within 0\.(2|19\d*) s", raised.value.details)


@pytest.mark.parametrize("host", ["☃.net", "a_b..c", "xn--"])
def test_a_host_name_that_cannot_be_one_was_asked_wrongly(host: str) -> None:
    """httpx finds that out when it is made or at the first request, in errors of several families."""
    with pytest.raises(ClientUsageError, match=f"^http://{host}:8501 names no host: "):
        connect(f"http://{host}:8501").status()


@pytest.mark.parametrize("scheme", ["grpc", "http"])
def test_a_hung_server_is_passed_over_for_one_that_answers(scheme: str) -> None:
    """Within the deadline, whichever is asked first."""
    body = json.dumps({"model_version_status": []}).encode()
    with (
        socket.create_server(("127.0.0.1", 0)) as silent,
        http_server(lambda _: (200, body)) as port,
        connect(f"{scheme}://127.0.0.1:{silent.getsockname()[1]}", f"http://127.0.0.1:{port}", timeout=2) as connection,
    ):
        assert [connection.status() for _ in range(3)] == [[]] * 3


def test_a_gateways_path_comes_before_the_apis() -> None:
    """`http://HOST/prefix`."""
    paths = []

    def answer(headers: Mapping[str, str]) -> tuple[int, bytes]:
        paths.append(headers[":path"])
        return 200, json.dumps({"model_version_status": []}).encode()

    with http_server(answer) as port, connect(f"http://127.0.0.1:{port}/some/prefix/") as connection:
        assert connection.status() == []
    assert paths == ["/some/prefix/v1/models/fashion_mnist"]

"""`fashion doctor` against a live server, where there is none, and over fake transports."""

from __future__ import annotations

import importlib.util
import json
import re
import socket
import ssl
from collections.abc import Iterator

import grpc
import pytest
import trustme
from click.testing import CliRunner

from client.cli import fashion
from client.commands import doctor
from client.commands.doctor import diagnose, own_runtimes
from client.connection import Connection
from client.transports.fake import FakeTransport
from client.types import ModelSpec, VersionStatus
from tests.support.client_commands import APIS, NOBODY, run
from tests.support.road import Road
from tests.support.status_servers import grpc_server, http_server


@APIS
def test_a_good_server_passes_every_check(road: Road, api: str) -> None:
    """Each check with what it saw, and what is installed here; over REST what was answered before, too."""
    lines = run(road, api, "doctor").output.splitlines()
    drift = [line for line in lines if line[9:14] == "drift"]
    assert len(drift) == (api == "rest")
    # Other tests may have asked for garments of one kind.
    lines = [line for line in lines if line not in drift and "fix: look at recent pictures" not in line]
    assert lines[:4] == [
        "ok       reachable   the server answers",
        "ok       model       fashion_mnist: version 1 is AVAILABLE on tensorflow",
        "ok       signatures  serving_default, encoded_images, float_images, classify",
        "ok       answer      ten probabilities that add up to 1",
    ]
    assert re.fullmatch(r"(ok     |warning)  latency     [\d.]+ ms a request \(median of 20\)", lines[4])
    assert lines[5].startswith("ok       runtimes    tensorflow 2.")
    assert lines[5].endswith("`fashion serve` takes tensorflow, which is installed")


@pytest.mark.parametrize(
    ("packages", "seen"),
    [
        ([], "^none here: `fashion serve` needs a container, tensorflow_model_server or pip install .*light"),
        (["ai_edge_litert"], r"^litert \d\S* here: .* takes litert, since TensorFlow is not installed$"),
        (["tensorflow"], r"^tensorflow 2\.\S* here: .* takes tensorflow, which is installed$"),
    ],
)
def test_the_runtimes_that_are_installed(monkeypatch: pytest.MonkeyPatch, packages: list[str], seen: str) -> None:
    """With their versions, and which one serves here, and why."""
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: object() if name in packages else None)
    assert re.search(seen, own_runtimes().seen)


def test_a_bad_one_gets_a_fix(road: Road) -> None:
    """No server, another model: the failed check, its fix, exit code 1."""
    result = CliRunner().invoke(fashion, ["doctor", "--server", NOBODY])
    assert result.exit_code == 1
    assert "FAILED   reachable" in result.output
    assert "fix: start it with `fashion serve`" in result.output
    result = run(road, "rest", "doctor", "--model-name", "other", "--json")
    assert result.exit_code == 1
    assert [finding["state"] for finding in json.loads(result.output)] == ["failed", "ok"]


def test_the_first_failure_ends_the_checks() -> None:
    """A model that cannot be loaded shows the server's reason; a plain export is a warning, and goes on."""
    loading = FakeTransport(versions=[VersionStatus(1, "END", "INTERNAL", "no such variables")])
    findings = list(diagnose(Connection([loading], ModelSpec())))
    assert [(finding.check, finding.state) for finding in findings] == [("reachable", "ok"), ("model", "failed")]
    assert findings[1].seen == "fashion_mnist: version 1 is END: no such variables"
    findings = list(diagnose(Connection([FakeTransport()], ModelSpec())))
    assert [finding.state for finding in findings] == ["ok", "ok", "warning", "ok", "ok"]
    assert findings[2].seen == "not an export of ours: without encoded_images, float_images, classify"


def test_our_own_servers_other_port_is_recognized(road: Road) -> None:
    """Its gRPC port answers HTTP/1.1 too, with an error."""
    grpc_target, rest_target = (road.servers[api].partition("://")[2] for api in ("grpc", "rest"))
    result = CliRunner().invoke(fashion, ["doctor", "--server", f"http://{grpc_target}"])
    assert f"that port speaks gRPC, not REST: --server grpc://{grpc_target}" in result.output
    result = CliRunner().invoke(fashion, ["doctor", "--server", f"grpc://{rest_target}"])
    assert f"that port speaks REST, not gRPC: --server http://{rest_target}" in result.output


def test_a_slow_answer_is_a_warning(monkeypatch: pytest.MonkeyPatch) -> None:
    """With what to look at."""
    monkeypatch.setattr(doctor, "_SLOW_SECONDS", 0.0)
    *_, latency = diagnose(Connection([FakeTransport()], ModelSpec()))
    assert (latency.check, latency.state, latency.fix) == ("latency", "warning", "is the server busy, or far away?")


@pytest.fixture(scope="module")
def ports(tmp_path_factory: pytest.TempPathFactory) -> Iterator[dict[str, int | str]]:
    """Live servers' ports by the scheme that they speak; `ca` is the file of who signed their certificates."""
    authority = trustme.CA()
    certificate = authority.issue_cert("model.example")
    ca = tmp_path_factory.mktemp("doctor") / "ca.pem"
    authority.cert_pem.write_to_path(str(ca))
    pair = (certificate.private_key_pem.bytes(), certificate.cert_chain_pems[0].bytes())
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    certificate.configure_cert(context)
    wants = grpc.ssl_server_credentials([pair], authority.cert_pem.bytes(), require_client_auth=True)
    with (
        grpc_server(_unknown_model) as grpc_port,
        grpc_server(_unknown_model, credentials=grpc.ssl_server_credentials([pair])) as grpcs_port,
        grpc_server(_unknown_model, credentials=wants) as wants_port,
        http_server(lambda _: (404, b'{"error": "no such model"}')) as http_port,
        http_server(lambda _: (404, b'{"error": "no such model"}'), context=context) as https_port,
        socket.create_server(("127.0.0.1", 0)) as hung,
    ):
        yield {
            "grpc": grpc_port,
            "grpcs": grpcs_port,
            "wants": wants_port,
            "http": http_port,
            "https": https_port,
            "hung": hung.getsockname()[1],
            "ca": str(ca),
        }


def _unknown_model(context: grpc.ServicerContext) -> bytes:
    context.abort(grpc.StatusCode.NOT_FOUND, "no such model")


_NO_TRUST = "the server's certificate is not trusted (unable to get local issuer certificate): --tls-ca FILE"


@pytest.mark.parametrize(
    ("url", "options", "fix"),
    [
        ("grpc://127.0.0.1:{http}", "", "that port speaks REST, not gRPC: --server http://127.0.0.1:{http}"),
        ("http://127.0.0.1:{grpc}", "", "that port speaks gRPC, not REST: --server grpc://127.0.0.1:{grpc}"),
        ("grpcs://127.0.0.1:{grpc}", "", "speaks gRPC, not gRPC with TLS: --server grpc://127.0.0.1:{grpc}"),
        ("grpc://127.0.0.1:{grpcs}", "", "speaks gRPC with TLS, not gRPC: --server grpcs://127.0.0.1:{grpcs}"),
        ("https://127.0.0.1:{http}", "", "speaks REST, not REST with TLS: --server http://127.0.0.1:{http}"),
        ("http://127.0.0.1:{https}", "", "speaks REST with TLS, not REST: --server https://127.0.0.1:{https}"),
        ("grpc://127.0.0.1:{https}", "", "speaks REST with TLS, not gRPC: --server https://127.0.0.1:{https}"),
        ("grpcs://127.0.0.1:{grpcs}", "", _NO_TRUST),
        ("https://127.0.0.1:{https}", "", _NO_TRUST),
        ("grpcs://127.0.0.1:{grpcs}", "--tls-ca {ca}", "say the name in it with --tls-server-name NAME"),
        ("https://127.0.0.1:{https}", "--tls-ca {ca}", "say the name in it with --tls-server-name NAME"),
        (
            "grpcs://127.0.0.1:{wants}",
            "--tls-ca {ca} --tls-server-name model.example",
            "the server wants a client certificate: --tls-certificate FILE --tls-key FILE",
        ),
        ("grpc://no-such-host.invalid:8500", "", "no host is named no-such-host.invalid: check the spelling of"),
        ("http://no-such-host.invalid:8501", "", "no host is named no-such-host.invalid: check the spelling of"),
        ("grpc://127.0.0.1:1", "", "start it with `fashion serve`, or name another server with --server"),
        ("http://127.0.0.1:1", "", "start it with `fashion serve`, or name another server with --server"),
        ("grpc://127.0.0.1:{hung}", "", "something listens there, but answers neither gRPC nor HTTP"),
        ("http://127.0.0.1:{hung}", "", "something listens there, but answers neither gRPC nor HTTP"),
        ("grpc://127.0.0.1:{grpc}", "", "is this name served? --model-name names another model"),
        ("http://127.0.0.1:{http}", "", "is this name served? --model-name names another model"),
    ],
)
def test_each_fault_has_its_diagnosis_and_other_commands_say_the_same(
    ports: dict[str, int | str], url: str, options: str, fix: str
) -> None:
    """The other API's port, TLS where there is none and the reverse, certificates, names of hosts and models."""
    arguments = ["--server", url.format(**ports), "--timeout", "1", *options.format(**ports).split()]
    result = CliRunner().invoke(fashion, ["doctor", *arguments])
    assert result.exit_code == 1
    assert fix.format(**ports) in result.output.splitlines()[1]
    result = CliRunner().invoke(fashion, ["status", *arguments])
    assert result.exit_code == 1
    assert fix.format(**ports) in result.stderr

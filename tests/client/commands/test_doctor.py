"""`fashion doctor` against a live server, where there is none, and over fake transports."""

from __future__ import annotations

import importlib.util
import json
import re
import socket
import ssl
from collections.abc import Iterator
from pathlib import Path

import grpc
import numpy as np
import pytest
import trustme
from click.testing import CliRunner

from client.cli import fashion
from client.commands import doctor
from client.commands.doctor import diagnose, own_runtimes
from client.connection import Connection
from client.errors import ClientUsageError, server_error
from client.transports.fake import FakeTransport
from client.types import Call, Metadata, ModelSpec, Output, Signature, TensorInfo, VersionStatus
from fashion_common.served_model import SIGNATURES
from tests.support.client_commands import APIS, NOBODY, answering, run
from tests.support.clocks import Clock
from tests.support.road import Road
from tests.support.status_servers import grpc_server, http_server


@APIS
def test_a_good_server_passes_every_check(road: Road, pictures: dict[Path, np.ndarray], api: str) -> None:
    """Each check with what it saw, and what is installed here; over REST what was answered before, too."""
    assert run(road, api, "predict", *pictures).exit_code == 0
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
        ("grpc://127.0.0.1:{hung}", "--timeout 0.3", "something listens there, but answers neither gRPC nor HTTP"),
        ("http://127.0.0.1:{hung}", "--timeout 0.3", "something listens there, but answers neither gRPC nor HTTP"),
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


class _Timed(FakeTransport):
    """Takes so many seconds for each request in turn."""

    def __init__(self, clock: Clock, *seconds: float) -> None:
        super().__init__()
        self.clock = clock
        self.seconds = seconds

    def outputs(self, call: Call) -> dict[str, Output]:
        """After a while."""
        self.clock.now += self.seconds[len(self.asked) % len(self.seconds)]
        return super().outputs(call)


def test_each_check_is_a_line_or_an_object(monkeypatch: pytest.MonkeyPatch) -> None:
    """Its mark, its name, what it saw, and below it the fix; the middle of twenty requests after the first one."""
    clock = Clock()
    monkeypatch.setattr(doctor, "time", clock)
    seconds = [
        9.0,
        *(number / 256 for number in (19, 3, 2, 1, 18, 4, 5, 6, 7, 8, 9, 10, 17, 11, 12, 13, 14, 15, 16, 20)),
    ]
    transport = _Timed(clock, *seconds)
    fashion_command = answering(monkeypatch, transport)
    result = fashion_command("doctor")
    runtimes = own_runtimes()
    assert (result.exit_code, result.stderr) == (0, "")
    assert result.stdout == (
        "ok       reachable   the server answers\n"
        "ok       model       fashion_mnist: version 1 is AVAILABLE\n"
        "warning  signatures  not an export of ours: without encoded_images, float_images, classify\n"
        "                     fix: `fashion export` writes all four\n"
        "ok       answer      ten probabilities that add up to 1\n"
        "ok       latency     43.0 ms a request (median of 20)\n"
        f"ok       runtimes    {runtimes.seen}\n"
    )
    assert len(transport.asked) == 21
    assert {call.inputs["images"].content for call in transport.asked} == {bytes(784)}
    objects = json.loads(fashion_command("doctor", "--json").stdout)
    assert objects[2:] == [
        {
            "check": "signatures",
            "state": "warning",
            "seen": "not an export of ours: without encoded_images, float_images, classify",
            "fix": "`fashion export` writes all four",
        },
        {"check": "answer", "state": "ok", "seen": "ten probabilities that add up to 1", "fix": ""},
        {"check": "latency", "state": "ok", "seen": "43.0 ms a request (median of 20)", "fix": ""},
        {"check": "runtimes", "state": "ok", "seen": runtimes.seen, "fix": ""},
    ]


@pytest.mark.parametrize(("seconds", "state"), [(0.125, "warning"), (0.09375, "ok")])
def test_an_answer_is_slow_from_a_tenth_of_a_second_on(
    monkeypatch: pytest.MonkeyPatch, seconds: float, state: str
) -> None:
    """Of the median."""
    clock = Clock()
    monkeypatch.setattr(doctor, "time", clock)
    *_, latency = diagnose(Connection([_Timed(clock, seconds)], ModelSpec()))
    assert (latency.state, latency.seen) == (state, f"{1000 * seconds:.1f} ms a request (median of 20)")


class _Sum(FakeTransport):
    """Answers ten numbers that add up to something."""

    total = 1.0

    def outputs(self, call: Call) -> dict[str, Output]:
        """A tenth of it for each class."""
        self.asked.append(call)
        return {"probabilities": Output((1, 10), [self.total / 10] * 10)}


@pytest.mark.parametrize(
    ("total", "seen"),
    [(1.0009, ""), (0.9991, ""), (1.0011, "1.0011"), (0.9989, "0.9989"), (0, "0"), (10, "10")],
)
def test_probabilities_add_up_to_one(monkeypatch: pytest.MonkeyPatch, total: float, seen: str) -> None:
    """To a thousandth; the failure is the exit code, and has a fix."""
    transport = _Sum()
    transport.total = total
    result = answering(monkeypatch, transport)("doctor")
    assert result.exit_code == bool(seen)
    failure = (
        f"FAILED   answer      ten numbers that add up to {seen}, not probabilities\n"
        "                     fix: end the model with a softmax and export it again\n"
    )
    assert (failure in result.stdout) == bool(seen)
    assert ("ten probabilities that add up to 1" in result.stdout) == (not seen)


_OTHER_SHAPE, _OTHER_DTYPE = TensorInfo("DT_FLOAT", (-1, 784)), TensorInfo("DT_FLOAT", (-1,))
_NO_FILE = VersionStatus(3, "END", "INTERNAL", "no file")


@pytest.mark.parametrize(
    ("changes", "state", "seen"),
    [
        ({}, "ok", "serving_default, encoded_images, float_images, classify"),
        ({"classify": None}, "warning", "not an export of ours: without classify"),
        (
            {"classify": None, "float_images": _OTHER_SHAPE, "encoded_images": _OTHER_DTYPE},
            "warning",
            "not an export of ours: without classify; encoded_images, float_images with other names, dtypes or shapes",
        ),
    ],
)  # fmt: skip
def test_an_export_of_ours_is_known_by_its_signatures(
    changes: dict[str, TensorInfo | None], state: str, seen: str
) -> None:
    """What is missing, and what is called so and takes something else."""
    signatures = {
        name: Signature({input_name: changes.get(name) or TensorInfo(dtype, shape)}, {}, "tensorflow/serving/predict")
        for name, (input_name, dtype, shape) in SIGNATURES.items()
        if changes.get(name, name) is not None
    }
    transport = FakeTransport(model_metadata=Metadata("fashion_mnist", 1, signatures))
    [finding] = [each for each in diagnose(Connection([transport], ModelSpec())) if each.check == "signatures"]
    assert (finding.state, finding.seen) == (state, seen)
    assert finding.fix == ("" if state == "ok" else "`fashion export` writes all four")


@pytest.mark.parametrize(
    ("versions", "state", "seen"),
    [
        ([], "failed", "m: no versions"),
        ([VersionStatus(1, "LOADING")], "failed", "m: version 1 is LOADING"),
        (
            [_NO_FILE, VersionStatus(2, "LOADING"), VersionStatus(1, "END", "INTERNAL", "full")],
            "failed",
            "m: version 3 is END, version 2 is LOADING, version 1 is END: no file; full",
        ),
        (
            [_NO_FILE, VersionStatus(1, "AVAILABLE", runtime="litert")],
            "ok",
            "m: version 3 is END, version 1 is AVAILABLE on litert",
        ),
    ],
)  # fmt: skip
def test_a_model_is_there_when_a_version_is_available(versions: list[VersionStatus], state: str, seen: str) -> None:
    """Each version's state; why they are not there, where the server says so."""
    findings = list(diagnose(Connection([FakeTransport(versions=versions)], ModelSpec("m"))))
    assert (findings[1].check, findings[1].state, findings[1].seen) == ("model", state, seen)
    assert findings[1].fix.startswith("start it with `fashion serve`") == (state == "failed")
    assert len(findings) == (2 if state == "failed" else 5)


def test_an_error_belongs_to_the_check_that_it_ends(monkeypatch: pytest.MonkeyPatch) -> None:
    """With the server's hint, or the check's own; a server that does not know the model was reached."""
    transport = FakeTransport()
    fashion_command = answering(monkeypatch, transport)
    for error, check, text, fix in (
        (server_error("NOT_FOUND", "no m"), "model", "NOT_FOUND: no m", "is this name served? --model-name names"),
        (server_error("RESOURCE_EXHAUSTED", "full"), "reachable", "RESOURCE_EXHAUSTED: full", "start it with `fashion"),
        (ClientUsageError("a bad day"), "reachable", "a bad day", "start it with `fashion serve`, or name the server"),
    ):
        transport.errors = [error]  # type: ignore[list-item]  # any error is raised
        result = fashion_command("doctor")
        assert result.exit_code == 1
        first, second, third = result.stdout.splitlines()
        assert first == f"FAILED   {check:<10}  {text}"
        assert second.startswith(f"                     fix: {fix}")
        assert third.startswith("ok       runtimes")

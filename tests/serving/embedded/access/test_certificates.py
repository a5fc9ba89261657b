"""TLS on both ports from one file: certificates of clients, probes without one, and files that change."""

from __future__ import annotations

import json
import socket
import ssl
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, NamedTuple

import grpc
import httpx
import pytest
import trustme

from fashion_common.exposure import exposure
from fashion_common.tokens import OWN_LINE_VARIABLE, entry
from serving.apis import messages, services
from serving.embedded import options
from serving.embedded.flags import Flags
from serving.errors import ServerConfigError
from tests.serving.embedded.test_tls import write_config
from tests.support.asking import call
from tests.support.live import wait_until
from tests.support.ports import REQUESTS, Ports, ports

STATUS = messages.GetModelStatusRequest(model_spec=messages.ModelSpec(name="m"))
_AVAILABLE = 30
OPEN = {"NoModel", "Preflight", "Malformed", "Health", "Readiness", "NotFound"}


class Secure(NamedTuple):
    """A server with TLS, and the authority of everybody's certificate."""

    live: Ports
    authority: trustme.CA
    config: Path

    def rest(self, *, certified: bool = False, **settings: Any) -> httpx.Client:
        """A client over REST, with a certificate or without."""
        context = ssl.create_default_context()
        self.authority.configure_trust(context)
        if certified:
            self.authority.issue_cert("client@example.org").configure_cert(context)
        url = str(self.live.rest.base_url).replace("http://", "https://")
        return httpx.Client(base_url=url, verify=context, **settings)

    def status(self, *client: bytes) -> str:
        """The model's state over gRPC, or the code of the failure."""
        credentials = grpc.ssl_channel_credentials(self.authority.cert_pem.bytes(), *client)
        with grpc.secure_channel(self.live.address, credentials) as channel:
            try:
                answer = call(channel, services.GET_MODEL_STATUS, STATUS, timeout=5)
            except grpc.RpcError as error:
                return str(error.code().name)
        return "AVAILABLE" if answer.model_version_status[0].state == _AVAILABLE else "not AVAILABLE"


@contextmanager
def secure(path: Path, *, client_verify: bool = False, **flags: Any) -> Iterator[Secure]:
    """Such a server, in this process."""
    authority = trustme.CA()
    pem = json.dumps(authority.cert_pem.bytes().decode())
    fields = (f"custom_ca: {pem}", "client_verify: true") if client_verify else ()
    config = write_config(path, authority, *fields)
    with pytest.MonkeyPatch.context() as patch, ports(path, patch, ssl_config_file=str(config), **flags) as live:
        yield Secure(live, authority, config)


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Secure]:
    """One that knows no clients."""
    with secure(tmp_path_factory.mktemp("tls"), metrics_port=0) as server:
        yield server


@pytest.fixture(scope="module")
def mutual(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Secure]:
    """One that wants certificates of its clients."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv(OWN_LINE_VARIABLE, entry("fashion-serve", "own", ["read"]).line)
        with secure(tmp_path_factory.mktemp("mutual"), client_verify=True) as server:
            yield server


def test_all_ports_speak_tls(server: Secure) -> None:
    """gRPC, REST and the port for metrics; what is not encrypted is not answered."""
    assert server.status() == "AVAILABLE"
    with server.rest() as http:
        for _ in range(3):
            assert http.get("/v1/models/m").status_code == 200
        assert http.get(f"https://{server.live.metrics}/metrics").status_code == 200
    with pytest.raises(httpx.HTTPError):
        server.live.rest.get("/healthz")


@pytest.mark.filterwarnings("ignore:ssl.TLSVersion.TLSv1_1 is deprecated")
@pytest.mark.parametrize("version", [ssl.TLSVersion.TLSv1_2, ssl.TLSVersion.TLSv1_3])
def test_tls_1_2_at_least(server: Secure, version: ssl.TLSVersion) -> None:
    """And each port says what it speaks (RFC 7301)."""
    for address, protocol in ((server.live.address, "h2"), (server.live.rest.base_url.netloc.decode(), "http/1.1")):
        host, _, port = address.rpartition(":")
        for wanted in (version, ssl.TLSVersion.TLSv1_1):
            context = ssl.create_default_context()
            context.check_hostname = False
            context.verify_mode = ssl.CERT_NONE
            context.minimum_version = ssl.TLSVersion.MINIMUM_SUPPORTED
            context.maximum_version = wanted
            context.set_ciphers("DEFAULT@SECLEVEL=0")
            context.set_alpn_protocols(["h2", "http/1.1"])
            with socket.create_connection((host, int(port)), 5) as plain:
                if wanted == version:
                    with context.wrap_socket(plain) as encrypted:
                        assert encrypted.selected_alpn_protocol() == protocol
                else:
                    with pytest.raises((ssl.SSLError, ConnectionError)):
                        context.wrap_socket(plain)


def test_probes_need_no_client_certificate(mutual: Secure) -> None:
    """All else does, over REST: a kubelet has none. Over gRPC the handshake fails."""
    with mutual.rest() as stranger, mutual.rest(certified=True) as client:
        for name, (method, path) in REQUESTS.items():
            assert client.request(method, path).status_code != 401, path
            answer = stranger.request(method, path)
            assert (answer.status_code == 401) == (name not in OPEN), path
            if name not in OPEN:
                error = "A client certificate is wanted for this, and the connection has none"
                assert answer.json() == {"error": error}
                assert "www-authenticate" not in answer.headers
        assert stranger.get("/v1/models/m", headers={"authorization": "Bearer x"}).status_code == 401
    identity = mutual.authority.issue_cert("client@example.org")
    assert mutual.status() == "UNAVAILABLE"
    assert mutual.status(identity.private_key_pem.bytes(), identity.cert_chain_pems[0].bytes()) == "AVAILABLE"


def test_who_has_started_the_server_reads_its_state(mutual: Secure) -> None:
    """By its own token, and does nothing else."""
    with mutual.rest(headers={"authorization": "Bearer own"}) as own:
        assert own.get("/v1/models/m").status_code == own.get("/metrics").status_code == 200
        assert own.post("/v1/models/m:predict", content=b"{}").status_code == 401


def test_a_strangers_certificate_is_no_certificate(mutual: Secure) -> None:
    """The handshake fails over both APIs."""
    identity = trustme.CA().issue_cert("client@example.org")
    context = ssl.create_default_context()
    mutual.authority.configure_trust(context)
    identity.configure_cert(context)
    with (
        httpx.Client(base_url=str(mutual.live.rest.base_url).replace("http:", "https:"), verify=context) as http,
        pytest.raises(httpx.HTTPError),
    ):
        http.get("/healthz")


def test_certificates_are_read_again(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    """New connections get the new one, and open ones go on; a pair that does not fit changes nothing."""
    caplog.set_level("INFO")
    with secure(tmp_path) as server, server.rest() as kept:
        assert kept.get("/healthz").status_code == 200
        right = server.config.read_text()
        other = trustme.CA().issue_cert("127.0.0.1").private_key_pem.bytes().decode()
        server.config.write_text(f"{right}\nserver_key: {json.dumps(other)}")
        wait_until(lambda: "was not taken over" in caplog.text)
        assert server.status() == "AVAILABLE"
        authority = trustme.CA()
        write_config(tmp_path, authority)
        wait_until(lambda: "its certificate is served now" in caplog.text)
        assert server.status() == "UNAVAILABLE"
        renewed = server._replace(authority=authority)
        assert renewed.status() == "AVAILABLE"
        with renewed.rest() as http:
            assert http.get("/v1/models/m").status_code == 200
        assert kept.get("/healthz").status_code == 200
        lines = [record.getMessage() for record in caplog.records if str(server.config) in record.getMessage()]
        assert len(lines) == 2


def test_a_server_knows_what_it_leaves_open(server: Secure, mutual: Secure, tmp_path: Path) -> None:
    """Beyond the loopback; client certificates are a way to ask who calls."""
    assert server.live.server.exposure == mutual.live.server.exposure == ""
    with pytest.MonkeyPatch.context() as patch, ports(tmp_path, patch, host="0.0.0.0") as live:
        assert live.server.exposure.startswith("Listening on 0.0.0.0 without TLS and tokens: ")


def test_what_is_no_certificate(tmp_path: Path) -> None:
    """It is named, at the start."""
    file = tmp_path / "ssl.config"
    file.write_text('server_key: "x" server_cert: "y"')
    with pytest.raises(ServerConfigError, match=r"ssl\.config: .*PEM texts are expected"):
        options.access(Flags(ssl_config_file=str(file)))


@pytest.mark.parametrize(
    ("host", "encrypted", "asks", "line"),
    [
        ("127.0.0.1", False, False, ""),
        ("localhost", False, False, ""),
        ("0.0.0.0", True, True, ""),
        (
            "0.0.0.0",
            False,
            False,
            "Listening on 0.0.0.0 without TLS and tokens: whoever reaches it may ask, and all can be read on the way",
        ),
        ("::", True, False, "Listening on :: without tokens or client certificates: whoever reaches it may ask"),
        ("0.0.0.0", False, True, "Listening on 0.0.0.0 without TLS: tokens and all else can be read on the way"),
    ],
)  # fmt: skip
def test_what_is_said_of_an_open_port(host: str, *, encrypted: bool, asks: bool, line: str) -> None:
    """One line, and none on the loopback."""
    assert exposure(host, encrypted=encrypted, asks=asks) == line

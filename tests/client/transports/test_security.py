"""TLS, client certificates, headers and UNIX sockets against real gRPC and HTTP servers."""

from __future__ import annotations

import json
import ssl
import threading
from collections.abc import Iterator
from concurrent import futures
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import NamedTuple

import grpc
import pytest
import trustme

from client import aio
from client.connection import connect
from client.errors import ClientUsageError, ServerUnreachableError
from client.transports.security import Security, parse_headers
from serving.apis import messages, services

_AVAILABLE = messages.GetModelStatusResponse(model_version_status=[messages.ModelVersionStatus(version=3, state=30)])


class Certificates(NamedTuple):
    """PEM files: the authority's, the server's and the client's; and the server's in memory."""

    ca: Path
    certificate: Path
    key: Path
    server: trustme.LeafCert
    authority: trustme.CA


@pytest.fixture(scope="module")
def certificates(tmp_path_factory: pytest.TempPathFactory) -> Certificates:
    """An authority that signed `model.example` and a client."""
    directory = tmp_path_factory.mktemp("tls")
    authority = trustme.CA()
    client = authority.issue_cert("client.example")
    paths = [directory / name for name in ("ca.pem", "client.pem", "client.key")]
    authority.cert_pem.write_to_path(str(paths[0]))
    client.cert_chain_pems[0].write_to_path(str(paths[1]))
    client.private_key_pem.write_to_path(str(paths[2]))
    return Certificates(*paths, authority.issue_cert("model.example"), authority)


@contextmanager
def _grpc_server(address: str, credentials: grpc.ServerCredentials | None = None) -> Iterator[tuple[int, list[object]]]:
    seen: list[object] = []

    def answer(_request: bytes, context: grpc.ServicerContext) -> bytes:
        seen.append(dict(context.invocation_metadata()))
        return _AVAILABLE.SerializeToString()

    handler = grpc.method_handlers_generic_handler(
        services.MODEL_SERVICE, {"GetModelStatus": grpc.unary_unary_rpc_method_handler(answer)}
    )
    server = grpc.server(futures.ThreadPoolExecutor(1), handlers=[handler])
    port = server.add_secure_port(address, credentials) if credentials else server.add_insecure_port(address)
    server.start()
    yield port, seen
    server.stop(None).wait()


@contextmanager
def _https_server(certificates: Certificates) -> Iterator[tuple[int, list[object]]]:
    seen: list[object] = []

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            seen.append({key.lower(): value for key, value in self.headers.items()})
            status = {"version": "3", "state": "AVAILABLE", "status": {"error_code": "OK", "error_message": ""}}
            body = json.dumps({"model_version_status": [status]}).encode()
            self.send_response(200)
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, *_args: object) -> None:
            pass

    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    certificates.server.configure_cert(context)
    certificates.authority.configure_trust(context)
    context.verify_mode = ssl.CERT_REQUIRED
    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    server.socket = context.wrap_socket(server.socket, server_side=True)
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    yield server.server_address[1], seen
    server.shutdown()
    thread.join()
    server.server_close()


def _security(certificates: Certificates) -> Security:
    headers = parse_headers(["Authorization=Bearer secret"])
    return Security(certificates.ca, certificates.certificate, certificates.key, "model.example", headers)


def test_grpcs_trusts_the_ca_and_shows_its_certificate(certificates: Certificates) -> None:
    """Mutual TLS, another name than the address, and a header for a gateway."""
    credentials = grpc.ssl_server_credentials(
        [(certificates.server.private_key_pem.bytes(), certificates.server.cert_chain_pems[0].bytes())],
        certificates.authority.cert_pem.bytes(),
        require_client_auth=True,
    )
    with _grpc_server("127.0.0.1:0", credentials) as (port, seen):
        address = f"grpcs://127.0.0.1:{port}"
        with connect(address, security=_security(certificates)) as connection:
            assert connection.status()[0].version == 3
        assert seen[0]["authorization"] == "Bearer secret"  # type: ignore[index]
        stranger = Security(certificates.ca, server_name="model.example")
        with connect(address, security=stranger, timeout=2) as connection, pytest.raises(ServerUnreachableError):
            connection.status()


def test_https_trusts_the_ca_and_shows_its_certificate(certificates: Certificates) -> None:
    """The same over REST; an authority that is not trusted is no connection."""
    with _https_server(certificates) as (port, seen):
        address = f"https://127.0.0.1:{port}"
        with connect(address, security=_security(certificates)) as connection:
            assert connection.status()[0].version == 3
        assert seen[0]["authorization"] == "Bearer secret"  # type: ignore[index]
        with connect(address, timeout=2) as connection, pytest.raises(ServerUnreachableError, match="certificate"):
            connection.status()


@pytest.mark.parametrize("scheme", ["grpcs", "https"])
def test_asyncio_connects_with_tls_too(certificates: Certificates, scheme: str) -> None:
    """The same options, awaited."""
    import asyncio

    async def ask(address: str) -> int:
        async with aio.connect(address, security=_security(certificates)) as connection:
            return (await connection.status())[0].version

    credentials = grpc.ssl_server_credentials(
        [(certificates.server.private_key_pem.bytes(), certificates.server.cert_chain_pems[0].bytes())]
    )
    server = _https_server(certificates) if scheme == "https" else _grpc_server("127.0.0.1:0", credentials)
    with server as (port, _):
        assert asyncio.run(ask(f"{scheme}://127.0.0.1:{port}")) == 3


def test_a_unix_socket_speaks_grpc(tmp_path: Path) -> None:
    """As TF Serving's `grpc_socket_path` does."""
    socket = tmp_path / "model.sock"
    with _grpc_server(f"unix:{socket}"), connect(f"unix://{socket}") as connection:
        assert connection.status()[0].state == "AVAILABLE"


def test_files_that_do_not_fit_are_refused_by_name(tmp_path: Path) -> None:
    """Missing files, a certificate without its key, a file that is no certificate."""
    with pytest.raises(ClientUsageError, match=r"ca\.pem: no such certificate or key file"):
        Security(ca_file=tmp_path / "ca.pem")
    text = tmp_path / "text.pem"
    text.write_text("no certificate")
    with pytest.raises(ClientUsageError, match="give both --tls-certificate and --tls-key"):
        Security(certificate_file=text)
    with pytest.raises(ClientUsageError, match="the TLS files cannot be used"):
        connect("https://127.0.0.1:1", security=Security(ca_file=text))


def test_headers_are_never_shown() -> None:
    """Neither by repr nor by the message for a header that is malformed."""
    assert "secret" not in repr(Security(headers=parse_headers(["authorization=secret"])))
    with pytest.raises(ClientUsageError) as caught:
        parse_headers(["secret-without-equals"])
    assert "secret" not in str(caught.value)

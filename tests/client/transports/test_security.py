"""TLS, client certificates, headers and UNIX sockets against real gRPC and HTTP servers."""

from __future__ import annotations

import asyncio
import json
import ssl
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import NamedTuple

import grpc
import pytest
import trustme

from client import aio
from client.connection import connect
from client.errors import ClientUsageError, ServerUnreachableError
from client.transports.security import Security, parse_headers
from serving.apis import messages
from tests.support.status_servers import grpc_server, http_server

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
    ca, certificate, key = (directory / name for name in ("ca.pem", "client.pem", "client.key"))
    authority = trustme.CA()
    client = authority.issue_cert("client.example")
    authority.cert_pem.write_to_path(str(ca))
    client.cert_chain_pems[0].write_to_path(str(certificate))
    client.private_key_pem.write_to_path(str(key))
    return Certificates(ca, certificate, key, authority.issue_cert("model.example"), authority)


@contextmanager
def _grpc_server(credentials: grpc.ServerCredentials | None) -> Iterator[tuple[int, list[dict[str, str | bytes]]]]:
    """A server's port, and the headers of each call that it got."""
    headers: list[dict[str, str | bytes]] = []

    def answer(context: grpc.ServicerContext) -> bytes:
        headers.append(dict(context.invocation_metadata()))
        return _AVAILABLE.SerializeToString()

    with grpc_server(answer, credentials=credentials) as port:
        yield port, headers


@contextmanager
def _https_server(certificates: Certificates) -> Iterator[tuple[int, list[Mapping[str, str]]]]:
    """A server's port, and the headers of each request that it got; asks for a client's certificate."""
    headers: list[Mapping[str, str]] = []

    def answer(request_headers: Mapping[str, str]) -> tuple[int, bytes]:
        headers.append(request_headers)
        status = {"version": "3", "state": "AVAILABLE", "status": {"error_code": "OK", "error_message": ""}}
        return 200, json.dumps({"model_version_status": [status]}).encode()

    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    certificates.server.configure_cert(context)
    certificates.authority.configure_trust(context)
    context.verify_mode = ssl.CERT_REQUIRED
    with http_server(answer, context=context) as port:
        yield port, headers


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
    with _grpc_server(credentials) as (port, headers):
        address = f"grpcs://127.0.0.1:{port}"
        with connect(address, security=_security(certificates)) as connection:
            assert connection.status()[0].version == 3
        assert headers[0]["authorization"] == "Bearer secret"
        stranger = Security(certificates.ca, server_name="model.example")
        with connect(address, security=stranger, timeout=2) as connection, pytest.raises(ServerUnreachableError):
            connection.status()


def test_https_trusts_the_ca_and_shows_its_certificate(certificates: Certificates) -> None:
    """The same over REST; an authority that is not trusted is no connection."""
    with _https_server(certificates) as (port, headers):
        address = f"https://127.0.0.1:{port}"
        with connect(address, security=_security(certificates)) as connection:
            assert connection.status()[0].version == 3
        assert headers[0]["authorization"] == "Bearer secret"
        with connect(address, timeout=2) as connection, pytest.raises(ServerUnreachableError, match="certificate"):
            connection.status()


@pytest.mark.parametrize("scheme", ["grpcs", "https"])
def test_asyncio_connects_with_tls_too(certificates: Certificates, scheme: str) -> None:
    """The same options, awaited."""

    async def ask(address: str) -> int:
        async with aio.connect(address, security=_security(certificates)) as connection:
            return (await connection.status())[0].version

    credentials = grpc.ssl_server_credentials(
        [(certificates.server.private_key_pem.bytes(), certificates.server.cert_chain_pems[0].bytes())]
    )
    server = _https_server(certificates) if scheme == "https" else _grpc_server(credentials)
    with server as (port, _):
        assert asyncio.run(ask(f"{scheme}://127.0.0.1:{port}")) == 3


def test_a_unix_socket_speaks_grpc(tmp_path: Path) -> None:
    """As TF Serving's `grpc_socket_path` does."""
    socket = tmp_path / "model.sock"
    server = grpc_server(lambda _: _AVAILABLE.SerializeToString(), address=f"unix:{socket}")
    with server, connect(f"unix://{socket}") as connection:
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


@pytest.mark.parametrize(
    "header",
    [
        "secret-without-equals",
        "=secret",
        "two words=secret",
        "token-bin=secret",
        "token=s\u00e9cret",
        "token=secret\r\nhost: other",
        "token=secret\0",
    ],
)
def test_a_header_that_cannot_be_sent_is_refused_and_not_shown(header: str) -> None:
    """gRPC and httpx find these out at the first request; httpx's error would show the token."""
    with pytest.raises(ClientUsageError) as excinfo:
        Security(headers=parse_headers([header]))
    assert "secret" not in str(excinfo.value)


def test_headers_are_never_shown() -> None:
    """Neither by repr nor by str."""
    security = Security(headers=parse_headers(["authorization=secret"]))
    assert "secret" not in f"{security!r} {security}"


def test_each_file_must_be_there_and_a_certificate_has_a_key(tmp_path: Path) -> None:
    """A directory is no file."""
    there, missing = tmp_path / "there.pem", tmp_path / "missing.pem"
    there.touch()
    for files in ((missing, None, None), (tmp_path, None, None), (None, missing, there), (there, there, missing)):
        path = next(path for path in files if path in (missing, tmp_path))
        with pytest.raises(ClientUsageError) as raised:
            Security(*files)
        assert str(raised.value) == f"{path}: no such certificate or key file"
    for certificate, key in ((there, None), (None, there)):
        with pytest.raises(ClientUsageError) as raised:
            Security(there, certificate, key)
        assert str(raised.value) == "a client certificate needs its key: give both --tls-certificate and --tls-key"
    assert [
        Security(*files).is_tls
        for files in ((None, None, None), (there, None, None), (None, there, there), (None, None, None, "name"))
    ] == [False, True, True, True]


def test_headers_are_lower_case_and_the_token_is_one_of_them() -> None:
    """A value may have `=` and blanks in it, none at its ends; it may be empty."""
    headers = parse_headers(["X-Team = a=b c ", "empty="])
    assert headers == (("x-team", "a=b c"), ("empty", ""))
    assert Security(headers=headers).sent_headers == headers
    token = "a" * 40
    assert Security(headers=headers, token=token).sent_headers == (*headers, ("authorization", f"Bearer {token}"))
    with pytest.raises(ClientUsageError) as raised:
        parse_headers(["secret"])
    assert str(raised.value) == "--header takes key=value, such as --header authorization='Bearer TOKEN'"
    assert Security(headers=(("authorization", "x"),)).sent_headers == (("authorization", "x"),)
    assert parse_headers([]) == ()

"""The `Try` line of a server with TLS: what the client needs is found out on the server."""

from __future__ import annotations

import socket
import ssl
import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path

import pytest
import trustme

from serving.launch.backends import ServeOptions
from serving.launch.tls import client_arguments, tls_arguments, wants_client_certificate


@contextmanager
def listening(certificate: trustme.LeafCert) -> Iterator[int]:
    """A port that does the handshake with this certificate, as often as it is asked."""
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    context.set_alpn_protocols(["h2"])
    certificate.configure_cert(context)
    listener = socket.create_server(("127.0.0.1", 0))

    def answer() -> None:
        while True:
            try:
                connection, _ = listener.accept()
            except OSError:
                return
            try:
                context.wrap_socket(connection, server_side=True).close()
            except OSError:
                connection.close()

    threading.Thread(target=answer, daemon=True).start()
    try:
        yield listener.getsockname()[1]
    finally:
        listener.shutdown(socket.SHUT_RDWR)
        listener.close()


def arguments(names: Sequence[str], directory: Path, *, authority_there: bool = True, config: str = "") -> str:
    """What the client is told of a server whose certificate has these names; without its port."""
    authority = trustme.CA()
    certificate = authority.issue_cert(*names)
    # Neither a key nor the server's own certificate makes the client trust it.
    certificate.private_key_pem.write_to_path(directory / "a-key.pem")
    certificate.cert_chain_pems[0].write_to_path(directory / "certificate.pem")
    if authority_there:
        authority.cert_pem.write_to_path(directory / "root.pem")
    (directory / "tls.config").write_text(config)
    with listening(certificate) as port:
        options = ServeOptions(port=port, server_flags=(f"--ssl_config_file={directory}/tls.config",))
        return client_arguments(options).replace(f":{port}", "")


@pytest.mark.parametrize(
    ("names", "expected"),
    [
        (["127.0.0.1", "localhost"], "grpcs://127.0.0.1 --tls-ca {0}/root.pem"),
        (
            ["*.example.org", "fashion.example.org"],
            "grpcs://127.0.0.1 --tls-ca {0}/root.pem --tls-server-name fashion.example.org",
        ),
    ],
    ids=["this address", "another name"],
)
def test_the_authority_beside_the_configuration_is_found(names: list[str], expected: str, tmp_path: Path) -> None:
    """With the name that the certificate has, where that is not the address."""
    assert arguments(names, tmp_path) == expected.format(tmp_path)


def test_an_authority_that_is_elsewhere_is_left_to_the_user(tmp_path: Path) -> None:
    """As IMAGE.png is."""
    assert arguments(["localhost"], tmp_path, authority_there=False) == "grpcs://127.0.0.1 --tls-ca CA.pem"


def test_a_client_certificate_is_asked_for_where_the_server_wants_one(tmp_path: Path) -> None:
    """client_verify in the server's configuration."""
    assert arguments(["127.0.0.1"], tmp_path, config="client_verify: true") == (
        f"grpcs://127.0.0.1 --tls-ca {tmp_path}/root.pem --tls-certificate CERTIFICATE.pem --tls-key KEY.pem"
    )


def test_a_configuration_inside_a_container_says_nothing() -> None:
    """Its path is not one of this machine, where nobody listens either."""
    options = ServeOptions(port=1, server_flags=("--ssl_config_file", "/config/tls.config"))
    assert client_arguments(options) == "grpcs://127.0.0.1:1 --tls-ca CA.pem"


@pytest.mark.parametrize("flags", [(), ("--ssl_config_file=",), ("--ssl_config_file=a", "--ssl_config_file=")])
def test_without_tls_the_address_is_enough(flags: tuple[str, ...]) -> None:
    """The last of several flags counts."""
    assert client_arguments(ServeOptions(server_flags=flags)) == "grpc://127.0.0.1:8500"


def test_a_server_with_tokens_asks_for_one(tmp_path: Path) -> None:
    """Its file stands for the user's own; what TLS needs goes before it."""
    options = ServeOptions(token_file=tmp_path / "tokens", port=9)
    assert client_arguments(options) == "grpc://127.0.0.1:9 --token-file TOKEN_FILE"
    assert tls_arguments(options) == []


def test_whether_a_client_certificate_is_wanted(tmp_path: Path) -> None:
    """As the options say, else as the server's own file does; one that says nothing wants none."""
    cert, authorities = tmp_path / "cert.pem", tmp_path / "ca.pem"
    assert not wants_client_certificate(ServeOptions(tls_cert=cert))
    assert wants_client_certificate(ServeOptions(tls_cert=cert, tls_client_ca=authorities))
    for text, wanted in (("client_verify: true", True), ("client_verify: false", False), ("no config", False)):
        (tmp_path / "tls.config").write_text(text)
        options = ServeOptions(server_flags=(f"--ssl_config_file={tmp_path}/tls.config",))
        assert wants_client_certificate(options) is wanted
    assert not wants_client_certificate(ServeOptions(server_flags=("--ssl_config_file=/none",)))


def test_the_authority_beside_the_certificate_is_found(tmp_path: Path) -> None:
    """Where the certificate was given as a PEM file; of several authorities the one that vouches for it."""
    authority = trustme.CA()
    certificate = authority.issue_cert("127.0.0.1")
    trustme.CA().cert_pem.write_to_path(tmp_path / "a.crt")
    authority.cert_pem.write_to_path(tmp_path / "b.crt")
    authority.cert_pem.write_to_path(tmp_path / "a.text")
    with listening(certificate) as port:
        options = ServeOptions(port=port, backend="embedded", tls_cert=tmp_path / "server", tls_key=tmp_path / "key")
        assert tls_arguments(options) == ["--tls-ca", f"{tmp_path}/b.crt"]
        verified = replace(options, tls_client_ca=tmp_path / "b.crt")
        assert tls_arguments(verified)[2:] == ["--tls-certificate", "CERTIFICATE.pem", "--tls-key", "KEY.pem"]

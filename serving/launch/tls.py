"""How a client reaches a gRPC port that speaks TLS: tried out on the server, once it runs."""

from __future__ import annotations

import shlex
import socket
import ssl
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from google.protobuf import text_format

from serving.apis.messages import SSLConfig
from serving.launch.backends import ServeOptions

_SECONDS = 2.0
# What stands for a file that only the user knows, as IMAGE.png does.
_UNKNOWN_CA = "CA.pem"
_UNKNOWN_TOKEN = "TOKEN_FILE"  # noqa: S105 - a name
_CLIENT_CERTIFICATE = ("--tls-certificate", "CERTIFICATE.pem", "--tls-key", "KEY.pem")


def client_arguments(options: ServeOptions) -> str:
    """What `fashion predict --server` takes to reach the server: its address, and with TLS what else it needs.

    The certificate authorities are looked for on this machine, then in the directory of --ssl_config_file; the name to
    expect comes from the certificate.
    """
    token = ["--token-file", _UNKNOWN_TOKEN] if options.token_file else []
    return shlex.join([options.grpc_url, *tls_arguments(options), *token])


def tls_arguments(options: ServeOptions) -> list[str]:
    """What of it TLS needs, over either API; none without TLS."""
    if not options.ssl_config_file:
        return []
    file = options.tls_cert or Path(options.ssl_config_file)
    arguments = ["--tls-ca", _UNKNOWN_CA]
    for ca_file in (None, *sorted(path for path in file.parent.glob("*") if path.suffix in (".pem", ".crt"))):
        names = _certificate_names(options, ca_file)
        if names is not None:
            arguments = ["--tls-ca", str(ca_file)] if ca_file else []
            domains = [name for kind, name in names if kind == "DNS" and "*" not in name]
            if domains and options.reachable_host not in (name for _, name in names):
                arguments += ["--tls-server-name", domains[0]]
            break
    if wants_client_certificate(options):
        arguments += _CLIENT_CERTIFICATE
    return arguments


def _certificate_names(options: ServeOptions, ca_file: Path | None) -> list[tuple[str, str]] | None:
    """The server's names by kind (`DNS`), from its certificate; None when these authorities do not vouch for it."""
    try:
        context = ssl.create_default_context(cafile=ca_file)
        context.check_hostname = False
        # As gRPC does: an authority must be one itself, which Python 3.13 and later do not ask for.
        context.verify_flags = ssl.VerifyFlags.VERIFY_DEFAULT
        context.set_alpn_protocols(["h2"])
        address = (options.reachable_host.strip("[]"), options.port)
        with (
            socket.create_connection(address, timeout=_SECONDS) as connection,
            context.wrap_socket(connection) as encrypted,
        ):
            certificate: Mapping[str, Any] = encrypted.getpeercert() or {}
            return list(certificate.get("subjectAltName", ()))
    except OSError:
        return None


def wants_client_certificate(options: ServeOptions) -> bool:
    """Whether the server does. A file that is not on this machine, but in a container, says nothing."""
    if options.tls_cert is not None:
        return options.tls_client_ca is not None
    file = Path(options.ssl_config_file)
    try:
        return text_format.Parse(file.read_text(encoding="utf-8"), SSLConfig()).client_verify
    except (OSError, ValueError, text_format.ParseError):
        return False

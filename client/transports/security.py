"""What a connection needs beyond the address: certificates, a token, and headers for gateways."""

from __future__ import annotations

import re
import ssl
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

from client.errors import ClientUsageError

# What both gRPC metadata and HTTP/1.1 carry as text (https://grpc.io/docs/guides/metadata/): gRPC's -bin is for bytes.
_NAME = re.compile(r"[0-9a-z_.-]+(?<!-bin)")
_VALUE = re.compile(r"([!-~]([ -~]*[!-~])?)?")
# RFC 6750, section 2.1.
_TOKEN = re.compile(r"[A-Za-z0-9._~+/-]+=*")
_AUTHORIZATION = "authorization"


@dataclass(frozen=True)
class Security:
    """TLS files (PEM), the name to expect in the server's certificate, extra headers and a token, never printed.

    Without `ca_file` the machine's own certificate authorities are trusted. The token goes over TLS, or to this
    machine, as `authorization: Bearer TOKEN` (RFC 6750).
    Raises ClientUsageError for a file that is missing, a certificate without its key, a header that HTTP cannot
    carry, and what is no token; the message does not repeat a header, which may be a token.
    """

    ca_file: Path | None = None
    certificate_file: Path | None = None
    key_file: Path | None = None
    server_name: str | None = None
    headers: tuple[tuple[str, str], ...] = field(default=(), repr=False)
    token: str = field(default="", repr=False)

    def __post_init__(self) -> None:
        if (self.certificate_file is None) != (self.key_file is None):
            raise ClientUsageError("a client certificate needs its key: give both --tls-certificate and --tls-key")
        for path in (self.ca_file, self.certificate_file, self.key_file):
            if path is not None and not path.is_file():
                raise ClientUsageError(f"{path}: no such certificate or key file")
        for name, value in self.headers:
            if not _NAME.fullmatch(name) or not _VALUE.fullmatch(value):
                raise ClientUsageError(
                    "a header is a lower-case name of letters, digits, - _ and . (not ending in -bin) and a value of "
                    "printable ASCII: --header authorization='Bearer TOKEN'"
                )

        if self.token and not _TOKEN.fullmatch(self.token):
            raise ClientUsageError(
                "what --token-file or FASHION_TOKEN holds is no token: one line of letters, digits and - . _ ~ + / ="
            )
        if self.token and any(name == _AUTHORIZATION for name, _ in self.headers):
            raise ClientUsageError("a token and the header authorization exclude each other: give one of them")

    @property
    def sent_headers(self) -> tuple[tuple[str, str], ...]:
        """What goes with each request: the headers, and the token as one."""
        return (*self.headers, (_AUTHORIZATION, f"Bearer {self.token}")) if self.token else self.headers

    @property
    def is_tls(self) -> bool:
        """Whether any of it is of use for TLS only."""
        return any((self.ca_file, self.certificate_file, self.server_name))

    def tls_context(self) -> ssl.SSLContext:
        """For Python's own TLS; gRPC has another. Raises ClientUsageError for files that hold no certificate or key."""
        try:
            context = ssl.create_default_context(cafile=self.ca_file)
            if self.certificate_file:
                context.load_cert_chain(self.certificate_file, self.key_file)
        except OSError as error:
            raise ClientUsageError(f"the TLS files cannot be used: {error}") from error
        return context


def parse_headers(lines: Sequence[str]) -> tuple[tuple[str, str], ...]:
    """Reads `key=value` lines; keys are made lower case, as HTTP/2 has them.

    Raises ClientUsageError for a line without `=`; the message does not repeat the line, which may be a token.
    """
    headers = []
    for line in lines:
        key, separator, value = line.partition("=")
        if not separator:
            raise ClientUsageError("--header takes key=value, such as --header authorization='Bearer TOKEN'")
        headers.append((key.strip().lower(), value.strip()))
    return tuple(headers)

"""TLS of both ports from one SSLConfig, with the certificate that its file has now."""

from __future__ import annotations

import ssl
import tempfile
from collections.abc import Callable
from typing import NamedTuple

from serving.apis.messages import SSLConfig
from serving.embedded.event_log import CERTIFICATE_CHANGED, log_event
from serving.errors import ServerConfigError


class _Contexts(NamedTuple):
    grpc: ssl.SSLContext
    rest: ssl.SSLContext
    client_verify: bool


class Certificates:
    """The contexts of new connections; those that are open keep theirs.

    read: gives the SSLConfig of --ssl_config_file. Raises ServerConfigError for what is no certificate with its key.
    """

    def __init__(self, file: str, read: Callable[[], SSLConfig]) -> None:
        self._file = file
        self._read = read
        self._contexts = self._made()

    def reload(self) -> None:
        """Takes over what the file says now. Raises ServerConfigError, and nothing has changed then."""
        self._contexts = self._made()
        log_event(CERTIFICATE_CHANGED, file=self._file)

    def grpc(self) -> ssl.SSLContext:
        """For a new gRPC connection, whose handshake fails without a client's certificate where one is wanted."""
        return self._contexts.grpc

    def rest(self) -> ssl.SSLContext:
        """For a new REST connection: a certificate is asked for, and missed when it wants more than a probe.

        A kubelet has none to show: https://kubernetes.io/docs/concepts/workloads/pods/probes/
        """
        return self._contexts.rest

    @property
    def client_verify(self) -> bool:
        """Whether clients have to show a certificate."""
        return self._contexts.client_verify

    def _made(self) -> _Contexts:
        config = self._read()
        required, asked = (ssl.CERT_REQUIRED, ssl.CERT_OPTIONAL) if config.client_verify else (ssl.CERT_NONE,) * 2
        return _Contexts(
            self._context(config, "h2", required), self._context(config, "http/1.1", asked), config.client_verify
        )

    def _context(self, config: SSLConfig, protocol: str, verify_mode: ssl.VerifyMode) -> ssl.SSLContext:
        context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
        context.minimum_version = ssl.TLSVersion.TLSv1_2
        context.set_alpn_protocols([protocol])
        try:
            # OpenSSL reads the pair from a file only.
            with tempfile.NamedTemporaryFile("w", suffix=".pem") as pair:
                pair.write(f"{config.server_key}\n{config.server_cert}")
                pair.flush()
                context.load_cert_chain(pair.name)
            if config.custom_ca:
                context.load_verify_locations(cadata=config.custom_ca)
        except (OSError, ValueError) as error:
            raise ServerConfigError(f"{self._file}: {error}: PEM texts are expected") from error
        context.verify_mode = verify_mode
        return context

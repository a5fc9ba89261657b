"""Where servers are, by URL: `grpc://host:8500`, `http://host:8501`, `grpcs://`, `https://`, `unix:///path`."""

from __future__ import annotations

import ipaddress
from dataclasses import dataclass
from urllib.parse import urlsplit

from client.errors import ClientUsageError

DEFAULT_SERVER = "grpc://127.0.0.1:8500"
_DEFAULT_PORTS = {"grpc": 8500, "grpcs": 8500, "http": 8501, "https": 8501}
_RULE = "expected grpc://HOST:PORT, grpcs://HOST:PORT, http://HOST:PORT, https://HOST:PORT or unix:///PATH"


@dataclass(frozen=True)
class ServerAddress:
    """One server: `scheme`, and `target` as gRPC wants it (`host:port`, or `unix:///path` for a socket).

    `prefix` is the path that a gateway has before TF Serving's own; only REST has paths.
    """

    scheme: str
    target: str
    prefix: str = ""

    @classmethod
    def parse(cls, url: str) -> ServerAddress:
        """Reads a URL; the port defaults to TF Serving's, 8500 for gRPC and 8501 for REST.

        Raises ClientUsageError for anything else than a scheme with host and port, or unix with an absolute path.
        """
        rule = f"{url!r} is not a server address: {_RULE}"
        try:
            parts = urlsplit(url)
            port = parts.port
        except ValueError as error:
            raise ClientUsageError(f"{rule} ({error})") from error
        if parts.username or parts.query or parts.fragment:
            raise ClientUsageError(rule if not parts.username else f"{rule}; credentials belong in --header")
        if parts.scheme == "unix" and not parts.netloc and parts.path.startswith("/"):
            return cls("unix", f"unix://{parts.path}")
        if parts.scheme not in _DEFAULT_PORTS or not parts.hostname:
            raise ClientUsageError(rule)
        prefix = parts.path.rstrip("/")
        if prefix and (not parts.scheme.startswith("http") or "/v1/" in f"{prefix}/"):
            raise ClientUsageError(f"{rule}, without the path {parts.path}: the client adds what the API has")
        host = f"[{parts.hostname}]" if ":" in parts.hostname else parts.hostname
        return cls(parts.scheme, f"{host}:{_DEFAULT_PORTS[parts.scheme] if port is None else port}", prefix)

    @property
    def endpoint(self) -> tuple[str, int]:
        """Host and port."""
        host, _, port = self.target.rpartition(":")
        return host.strip("[]"), int(port)

    @property
    def is_rest(self) -> bool:
        """Whether REST is spoken there; a UNIX socket speaks gRPC, as TF Serving's `grpc_socket_path` does."""
        return self.scheme in ("http", "https")

    @property
    def is_secure(self) -> bool:
        """Whether the connection is TLS."""
        return self.scheme in ("grpcs", "https")

    @property
    def is_local(self) -> bool:
        """Whether what is sent there stays on this machine, as far as the address says."""
        if self.scheme == "unix":
            return True
        host = self.endpoint[0]
        try:
            return ipaddress.ip_address(host).is_loopback
        except ValueError:
            # RFC 6761, section 6.3.
            return host == "localhost"

    def __str__(self) -> str:
        return self.target if self.scheme == "unix" else f"{self.scheme}://{self.target}{self.prefix}"

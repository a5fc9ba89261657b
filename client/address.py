"""Where a server is, by URL: `grpc://host:8500` or `http://host:8501`."""

from __future__ import annotations

from dataclasses import dataclass
from urllib.parse import urlsplit

from client.errors import ClientUsageError

DEFAULT_SERVER = "grpc://127.0.0.1:8500"
_DEFAULT_PORTS = {"grpc": 8500, "http": 8501}


@dataclass(frozen=True)
class ServerAddress:
    """One server: `scheme` (grpc or http), `host` and `port`."""

    scheme: str
    host: str
    port: int

    @classmethod
    def parse(cls, url: str) -> ServerAddress:
        """Reads a URL; the port defaults to TF Serving's, 8500 for gRPC and 8501 for REST.

        Raises ClientUsageError for anything else than scheme, host and port.
        """
        rule = f"{url!r} is not a server address: expected grpc://HOST:PORT or http://HOST:PORT"
        try:
            parts = urlsplit(url)
            port = parts.port
        except ValueError as error:
            raise ClientUsageError(f"{rule} ({error})") from error
        if parts.scheme not in _DEFAULT_PORTS or not parts.hostname or parts.username or parts.query or parts.fragment:
            raise ClientUsageError(rule)
        if parts.path not in ("", "/"):
            raise ClientUsageError(f"{rule}, without the path {parts.path}")
        return cls(parts.scheme, parts.hostname, _DEFAULT_PORTS[parts.scheme] if port is None else port)

    @property
    def target(self) -> str:
        """`host:port`, with brackets round an IPv6 address."""
        return f"[{self.host}]:{self.port}" if ":" in self.host else f"{self.host}:{self.port}"

    def __str__(self) -> str:
        return f"{self.scheme}://{self.target}"

"""The gRPC port and its UNIX sockets."""

from __future__ import annotations

import asyncio
import ssl
from collections.abc import Callable, Mapping
from pathlib import Path

from serving.embedded.admission import Admission
from serving.embedded.grpc.methods import Methods
from serving.embedded.grpc.options import ConnectionOptions
from serving.embedded.grpc.protocol import GrpcProtocol
from serving.embedded.workers.acceptor import Acceptor, drain
from serving.embedded.workers.handshakes import Handshakes
from serving.embedded.workers.sockets import Port
from serving.errors import ServerConfigError


class GrpcListener:
    """Listens on the gRPC port with these methods, and on UNIX sockets, by path, with the methods of each."""

    def __init__(
        self,
        port: Port,
        methods: Methods,
        sockets: Mapping[str, Methods],
        options: ConnectionOptions,
        tls: Callable[[], ssl.SSLContext] | None,
        admission: Admission,
    ) -> None:
        self._port = port
        self._methods = methods
        self._sockets = sockets
        self._options = options
        self._tls = tls
        self._admission = admission
        self._connections: set[GrpcProtocol] = set()
        self._acceptor: Acceptor | None = None
        self._servers: list[asyncio.Server] = []

    async def start(self) -> str:
        """Opens the port; gives its address. Raises ServerConfigError when it cannot be."""
        listener = self._port.listen("gRPC")
        loop = asyncio.get_running_loop()
        protocol, handshakes = self._protocol_of(self._methods), None
        if self._tls is not None:
            seconds = self._options.limits.header_timeout_seconds
            handshakes = Handshakes(self._tls, seconds, self._admission.connections, protocol)
        self._acceptor = Acceptor(listener, protocol, handshakes)
        for path, methods in self._sockets.items():
            try:
                self._servers.append(await loop.create_unix_server(self._protocol_of(methods), path))
            except OSError as error:
                raise ServerConfigError(f"{path} cannot be listened on for gRPC: {error}") from error
        return f"{self._port.host}:{listener.getsockname()[1]}"

    async def stop(self, grace_seconds: float) -> None:
        """Closes the port; requests in flight have the grace to finish."""
        for server in self._servers:
            server.close()
        if self._acceptor is not None:
            await self._acceptor.close()
        await drain(self._connections, grace_seconds)
        for path in self._sockets:
            Path(path).unlink(missing_ok=True)

    def _protocol_of(self, methods: Methods) -> Callable[..., GrpcProtocol]:
        return lambda seat=None: GrpcProtocol(
            methods.by_path, self._options, self._connections, methods.refused, admission=self._admission, seat=seat
        )

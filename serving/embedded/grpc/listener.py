"""The gRPC port and socket."""

from __future__ import annotations

import asyncio
import contextlib
import ssl
from collections.abc import Callable, Mapping
from pathlib import Path

from serving.apis import services
from serving.embedded.api import Api, ModelAdmin
from serving.embedded.flags import Flags
from serving.embedded.grpc.connection import ConnectionOptions, GrpcProtocol
from serving.embedded.grpc.health import Health, reflection_methods
from serving.embedded.grpc.profiler import Profiler, Tracer
from serving.embedded.grpc.services import GrpcFrontEnd
from serving.embedded.grpc.stream import Method
from serving.embedded.workers.siblings import Siblings
from serving.embedded.workers.sockets import listening
from serving.errors import ServerConfigError

_SERVICES = (services.PREDICTION_SERVICE, services.MODEL_SERVICE)
_CLOSED_SECONDS = 0.02


class GrpcListener:
    """Listens on the gRPC port, and on a UNIX socket where one is named. tracer: None for no profiler service."""

    def __init__(
        self,
        api: Api,
        flags: Flags,
        options: ConnectionOptions,
        tls: ssl.SSLContext | None,
        siblings: Siblings | None,
        tracer: Tracer | None,
    ) -> None:
        self._api = api
        self._flags = flags
        self._siblings = siblings
        self._tracer = tracer
        self._tls = tls
        self._options = options
        self._connections: set[GrpcProtocol] = set()
        self._servers: list[asyncio.Server] = []
        self._health: Health | None = None

    async def start(self) -> str:
        """Opens the port; gives its address. Raises ServerConfigError when it cannot be."""
        flags = self._flags
        methods = GrpcFrontEnd(self._api, tensor_content=flags.enable_serialization_as_tensor_content).methods()
        methods |= reflection_methods(_SERVICES)
        if flags.enable_grpc_healthcheck_service:
            self._health = Health(self._api.core)
            methods |= self._health.methods()
        if flags.enable_profiler and self._tracer is not None:
            methods |= Profiler(self._tracer).methods()
        listener = listening(flags.host, flags.port, "gRPC", shared=flags.workers > 1)
        loop = asyncio.get_running_loop()
        made = self._protocol_of(methods)
        self._servers.append(await loop.create_server(made, sock=listener, ssl=self._tls))
        if flags.grpc_socket_path:
            await self._open_socket(flags.grpc_socket_path, methods)
        if self._siblings is not None:
            own = GrpcFrontEnd(self._api._replace(admin=ModelAdmin(self._api.core))).methods()
            await self._open_socket(self._siblings.own_path, own)
        return f"{flags.host}:{listener.getsockname()[1]}"

    async def stop(self, grace_seconds: float) -> None:
        """Closes the port; requests in flight have the grace to finish."""
        for server in self._servers:
            server.close()
        if self._health is not None:
            self._health.stop()
        for connection in list(self._connections):
            connection.drain()
        with contextlib.suppress(asyncio.TimeoutError):
            await asyncio.wait_for(self._until_closed(), grace_seconds)
        for connection in list(self._connections):
            connection.abort()
        if self._flags.grpc_socket_path:
            Path(self._flags.grpc_socket_path).unlink(missing_ok=True)

    async def _open_socket(self, path: str, methods: Mapping[str, Method]) -> None:
        loop = asyncio.get_running_loop()
        try:
            self._servers.append(await loop.create_unix_server(self._protocol_of(methods), path))
        except OSError as error:
            raise ServerConfigError(f"{path} cannot be listened on for gRPC: {error}") from error

    def _protocol_of(self, methods: Mapping[str, Method]) -> Callable[[], GrpcProtocol]:
        return lambda: GrpcProtocol(methods, self._options, self._connections)

    async def _until_closed(self) -> None:
        while self._connections:
            await asyncio.sleep(_CLOSED_SECONDS)

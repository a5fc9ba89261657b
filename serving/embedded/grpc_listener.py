"""The gRPC port and socket, with the health service."""

from __future__ import annotations

import asyncio

import grpc.aio
from grpc_health.v1 import health, health_pb2, health_pb2_grpc

from serving.apis import services
from serving.embedded import config
from serving.embedded.api import Api, ModelAdmin
from serving.embedded.core import ServerCore
from serving.embedded.flags import Flags
from serving.embedded.grpc_server import GrpcFrontEnd, GrpcOptions
from serving.embedded.workers import Siblings
from serving.errors import ServerConfigError

_HEALTH_SECONDS = 0.5
# "" is the server as a whole.
_HEALTH_NAMES = ("", services.PREDICTION_SERVICE, services.MODEL_SERVICE)


class GrpcListener:
    """Listens on the gRPC port, and on a UNIX socket where one is named."""

    def __init__(self, api: Api, flags: Flags, siblings: Siblings | None) -> None:
        self._api = api
        self._flags = flags
        self._siblings = siblings
        self._credentials = config.server_credentials(flags)
        self._front_end = GrpcFrontEnd(
            api,
            GrpcOptions(
                tensor_content=flags.enable_serialization_as_tensor_content,
                channel_arguments=config.channel_arguments(flags),
                reuse_port=flags.workers > 1,
            ),
        )
        self._server: grpc.aio.Server | None = None
        self._private: grpc.aio.Server | None = None
        self._health: Health | None = None

    async def start(self) -> str:
        """Opens the port; gives its address. Raises ServerConfigError when it cannot be."""
        server = self._server = self._front_end.server()
        if self._flags.enable_grpc_healthcheck_service:
            self._health = Health(self._api.core, server)
        wanted = f"{self._flags.host}:{self._flags.port}"
        try:
            if self._credentials is None:
                port = server.add_insecure_port(wanted)
            else:
                port = server.add_secure_port(wanted, self._credentials)
            if self._flags.grpc_socket_path:
                server.add_insecure_port(f"unix:{self._flags.grpc_socket_path}")
        except RuntimeError as error:
            raise ServerConfigError(f"{wanted} cannot be listened on for gRPC: {error}") from error
        if self._siblings is not None:
            self._private = GrpcFrontEnd(self._api._replace(admin=ModelAdmin(self._api.core)), GrpcOptions()).server()
            self._private.add_insecure_port(self._siblings.own_address)
            await self._private.start()
        await server.start()
        return f"{self._flags.host}:{port}"

    async def stop(self, grace_seconds: float) -> None:
        """Closes the port; requests in flight have the grace to finish."""
        if self._health is not None:
            await self._health.stop()
        if self._server is not None:
            await self._server.stop(grace_seconds)
        if self._private is not None:
            await self._private.stop(None)


class Health:
    """The standard health service: SERVING while every configured model has a version that serves."""

    def __init__(self, core: ServerCore, server: grpc.aio.Server) -> None:
        self._core = core
        self._servicer = health.aio.HealthServicer()
        health_pb2_grpc.add_HealthServicer_to_server(self._servicer, server)
        self._task = asyncio.get_running_loop().create_task(self._watch())

    async def stop(self) -> None:
        """Tells everyone who watches that the server is going."""
        self._task.cancel()
        await self._servicer.enter_graceful_shutdown()

    async def _watch(self) -> None:
        while True:
            serving = not self._core.errors()
            response = health_pb2.HealthCheckResponse
            for name in _HEALTH_NAMES:
                await self._servicer.set(name, response.SERVING if serving else response.NOT_SERVING)
            await asyncio.sleep(_HEALTH_SECONDS)

"""The REST port: uvicorn with the REST front end in it."""

from __future__ import annotations

import asyncio
import socket

import uvicorn

from serving.embedded.api import Api
from serving.embedded.flags import Flags
from serving.embedded.rest_server import RestFrontEnd, RestOptions
from serving.errors import ServerConfigError

# Clients keep connections; TF Serving does not close idle ones.
_KEEP_ALIVE_SECONDS = 75


class RestListener:
    """Listens on the REST port."""

    def __init__(self, api: Api, flags: Flags, metrics_path: str) -> None:
        self._flags = flags
        options = RestOptions(
            timeout_seconds=flags.rest_api_timeout_in_ms / 1000,
            cors=flags.rest_api_enable_cors_support,
            max_request_bytes=flags.max_request_bytes,
            metrics_path=metrics_path,
        )
        self._server = uvicorn.Server(
            uvicorn.Config(
                RestFrontEnd(api, options),
                http="httptools",
                ws="none",
                lifespan="off",
                log_config=None,
                access_log=False,
                server_header=False,
                timeout_keep_alive=_KEEP_ALIVE_SECONDS,
            )
        )
        self._task: asyncio.Task[None] | None = None

    async def start(self) -> str:
        """Opens the port; gives its address. Raises ServerConfigError when it cannot be."""
        listener = self._bound()
        self._task = asyncio.get_running_loop().create_task(self._server.serve([listener]))
        while not self._server.started and not self._task.done():
            await asyncio.sleep(0.005)
        return f"{self._flags.host}:{listener.getsockname()[1]}"

    async def stop(self, grace_seconds: float) -> None:
        """Closes the port; requests in flight have the grace to finish."""
        if self._task is None:
            return
        self._server.config.timeout_graceful_shutdown = max(1, round(grace_seconds))
        self._server.should_exit = True
        await self._task

    def _bound(self) -> socket.socket:
        host, port = self._flags.host, self._flags.rest_api_port or 0
        try:
            family = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)[0][0]
            # asyncio sets TCP_NODELAY only where the protocol is named; without it an answer waits 40 ms for an ACK.
            listener = socket.socket(family, socket.SOCK_STREAM, socket.IPPROTO_TCP)
            listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            if self._flags.workers > 1:
                listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
            listener.bind((host, port))
            listener.listen(2048)
        except OSError as error:
            raise ServerConfigError(f"{host}:{port} cannot be listened on for REST: {error}") from error
        return listener

"""The REST port: uvicorn with the REST front end in it."""

from __future__ import annotations

import asyncio

import uvicorn

from serving.embedded.api import Api
from serving.embedded.flags import Flags
from serving.embedded.rest.routes import RestFrontEnd, RestOptions
from serving.embedded.workers.sockets import listening

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
        flags = self._flags
        listener = listening(flags.host, flags.rest_api_port or 0, "REST", shared=flags.workers > 1)
        self._task = asyncio.get_running_loop().create_task(self._server.serve([listener]))
        while not self._server.started and not self._task.done():
            await asyncio.sleep(0.005)
        return f"{flags.host}:{listener.getsockname()[1]}"

    async def stop(self, grace_seconds: float) -> None:
        """Closes the port; requests in flight have the grace to finish."""
        if self._task is None:
            return
        self._server.config.timeout_graceful_shutdown = max(1, round(grace_seconds))
        self._server.should_exit = True
        await self._task

"""The REST port: uvicorn with the REST front end in it."""

from __future__ import annotations

import asyncio

import uvicorn

from serving.embedded.rest.application import RestApplication
from serving.embedded.workers.sockets import Port

# Clients keep connections; TF Serving does not close idle ones.
_KEEP_ALIVE_SECONDS = 75


class RestListener:
    """Listens on the REST port."""

    def __init__(self, port: Port, application: RestApplication) -> None:
        self._port = port
        self._server = uvicorn.Server(
            uvicorn.Config(
                application,
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
        listener = self._port.listen("REST")
        self._task = asyncio.get_running_loop().create_task(self._server.serve([listener]))
        while not self._server.started and not self._task.done():
            await asyncio.sleep(0.005)
        return f"{self._port.host}:{listener.getsockname()[1]}"

    async def stop(self, grace_seconds: float) -> None:
        """Closes the port; requests in flight have the grace to finish."""
        if self._task is None:
            return
        self._server.config.timeout_graceful_shutdown = max(1, round(grace_seconds))
        self._server.should_exit = True
        await self._task

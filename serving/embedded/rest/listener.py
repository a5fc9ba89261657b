"""The REST port."""

from __future__ import annotations

import asyncio
import contextlib

from serving.embedded.admission import Admission
from serving.embedded.rest.application import RestApplication
from serving.embedded.rest.protocol import RestProtocol
from serving.embedded.workers.acceptor import Acceptor
from serving.embedded.workers.sockets import Port

# How often connections are held to their time limits.
_CHECK_SECONDS = 0.5
_CLOSED_SECONDS = 0.02
# How long an idle connection may still ask something when the server stops: what is on its way is answered.
_LAST_REQUEST_SECONDS = 0.5


class RestListener:
    """Listens on the REST port."""

    def __init__(self, port: Port, application: RestApplication, admission: Admission) -> None:
        self._port = port
        self._application = application
        self._admission = admission
        self._connections: set[RestProtocol] = set()
        self._acceptor: Acceptor | None = None
        self._timer: asyncio.TimerHandle | None = None

    async def start(self) -> str:
        """Opens the port; gives its address. Raises ServerConfigError when it cannot be."""
        listener = self._port.listen("REST")
        self._acceptor = Acceptor(listener, self._protocol)
        self._check()
        return f"{self._port.host}:{listener.getsockname()[1]}"

    async def stop(self, grace_seconds: float) -> None:
        """Closes the port; what has arrived is answered, within the grace."""
        if self._acceptor is None:
            return
        await self._acceptor.close()
        for connection in list(self._connections):
            connection.drain()
        with contextlib.suppress(asyncio.TimeoutError):
            await asyncio.wait_for(self._until_closed(), grace_seconds)
        for connection in list(self._connections):
            connection.abort()
        if self._timer is not None:
            self._timer.cancel()

    def _protocol(self) -> RestProtocol:
        return RestProtocol(self._application.answer, self._application.refuse, self._admission, self._connections)

    def _check(self) -> None:
        for connection in list(self._connections):
            connection.check_time()
        self._timer = asyncio.get_running_loop().call_later(_CHECK_SECONDS, self._check)

    async def _until_closed(self) -> None:
        loop = asyncio.get_running_loop()
        last = loop.time() + _LAST_REQUEST_SECONDS
        while self._connections:
            await asyncio.sleep(_CLOSED_SECONDS)
            if loop.time() > last:
                for connection in list(self._connections):
                    connection.close_if_idle()

"""The REST port."""

from __future__ import annotations

import asyncio
import ssl
from collections.abc import Callable

from serving.embedded.admission import Admission
from serving.embedded.admission.connections import Seat
from serving.embedded.rest.application import RestApplication
from serving.embedded.rest.protocol import RestProtocol
from serving.embedded.workers.acceptor import Acceptor, drain
from serving.embedded.workers.handshakes import Handshakes
from serving.embedded.workers.sockets import Port

# How often connections are held to their time limits.
_CHECK_SECONDS = 0.5


class RestListener:
    """Listens on the REST port. tls: gives the context of a new connection; None for none."""

    def __init__(
        self,
        port: Port,
        application: RestApplication,
        tls: Callable[[], ssl.SSLContext] | None,
        admission: Admission,
    ) -> None:
        self._port = port
        self._application = application
        self._tls = tls
        self._admission = admission
        self._connections: set[RestProtocol] = set()
        self._acceptor: Acceptor | None = None
        self._timer: asyncio.TimerHandle | None = None

    async def start(self) -> str:
        """Opens the port; gives its address. Raises ServerConfigError when it cannot be."""
        listener = self._port.listen("REST")
        handshakes = None
        if self._tls is not None:
            seconds = self._admission.limits.header_timeout_seconds
            handshakes = Handshakes(self._tls, seconds, self._admission.connections, self._protocol)
        self._acceptor = Acceptor(listener, self._protocol, handshakes)
        self._check()
        return f"{self._port.host}:{listener.getsockname()[1]}"

    async def stop(self, grace_seconds: float) -> None:
        """Closes the port; what has arrived is answered, within the grace."""
        if self._acceptor is None:
            return
        await self._acceptor.close()
        await drain(self._connections, grace_seconds)
        if self._timer is not None:
            self._timer.cancel()

    def _protocol(self, seat: Seat | None = None) -> RestProtocol:
        application = self._application
        return RestProtocol(
            application.answer, application.refuse, self._admission, self._connections, application.admit, seat=seat
        )

    def _check(self) -> None:
        for connection in list(self._connections):
            connection.check_time()
        self._timer = asyncio.get_running_loop().call_later(_CHECK_SECONDS, self._check)

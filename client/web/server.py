"""The page on a socket, until SIGINT or SIGTERM."""

from __future__ import annotations

import asyncio
import signal
import socket
from collections.abc import Sequence
from contextlib import closing

import uvicorn

from client.connection import open_transports
from client.errors import ClientUsageError
from client.transports.address import DEFAULT_SERVER, ServerAddress
from client.transports.security import Security
from client.web.application import application
from client.web.served import Served
from client.web.snippets import Reach

PORT = 8502
_BACKLOG = 64
_LINGER_SECONDS = 1


def listen(host: str, port: int | None) -> socket.socket:
    """A socket that listens. port: None for PORT, or any free one where that is taken; 0 for any free one.

    Raises ClientUsageError where nothing can listen.
    """
    for number in (PORT, 0) if port is None else (port,):
        try:
            return _listen(host, number)
        except OSError as error:
            failure = error
    fix = "--port 0 takes a free one" if port else "--host takes an address of this machine"
    raise ClientUsageError(f"{host}:{port or 0} cannot be listened on: {failure.strerror or failure}: {fix}")


def url(listener: socket.socket, host: str) -> str:
    """The page's address, for a browser on this machine."""
    name = {"0.0.0.0": "127.0.0.1", "": "127.0.0.1", "::": "::1"}.get(host, host)  # noqa: S104 - to connect to
    return f"http://{f'[{name}]' if ':' in name else name}:{listener.getsockname()[1]}/"


def run(
    listener: socket.socket, host: str, servers: Sequence[str], model_name: str, timeout: float, security: Security
) -> None:
    """Serves the page of a model until SIGINT or SIGTERM. Raises ClientUsageError as `client.connect`."""
    # uvicorn hands the signal on when it has ended, to whoever handled it before: us, who wanted nothing else.
    handlers = {number: signal.signal(number, lambda *_: None) for number in (signal.SIGINT, signal.SIGTERM)}
    try:
        with closing(listener):
            asyncio.run(_serve(listener, host, servers, model_name, timeout, security))
    finally:
        for number, handler in handlers.items():
            signal.signal(number, handler)


async def _serve(
    listener: socket.socket, host: str, servers: Sequence[str], model_name: str, timeout: float, security: Security
) -> None:
    served = Served(open_transports(servers, timeout, security, asynchronous=True), model_name, timeout)
    reach = Reach(ServerAddress.parse(servers[0] if servers else DEFAULT_SERVER), security)
    config = uvicorn.Config(
        application(served, reach, host),
        interface="asgi3",
        loop="asyncio",
        lifespan="off",
        ws="none",
        log_level="warning",
        access_log=False,
        server_header=False,
        proxy_headers=False,
        limit_concurrency=_BACKLOG,
        timeout_graceful_shutdown=_LINGER_SECONDS,
    )
    try:
        await uvicorn.Server(config).serve([listener])
    finally:
        await served.close()


def _listen(host: str, port: int) -> socket.socket:
    family, kind, _, _, address = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE)[0]
    listener = socket.socket(family, kind)
    try:
        # As servers do: connections that linger from the last one are no hindrance.
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listener.bind(address)
        listener.listen(_BACKLOG)
    except OSError:
        listener.close()
        raise
    return listener

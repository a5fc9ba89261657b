"""The server as an object: start, wait, stop. Signals belong to whoever runs it (`__main__`)."""

from __future__ import annotations

import asyncio
import logging
import os
import socket
import threading
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

import grpc.aio
import uvicorn

from serving.embedded.config import model_server_config
from serving.embedded.core import ServerCore
from serving.embedded.examples import ExampleInference
from serving.embedded.flags import Flags
from serving.embedded.grpc_server import GrpcFrontEnd, GrpcOptions
from serving.embedded.manager import Manager, ManagerOptions
from serving.embedded.predict import Predictor
from serving.embedded.rest_server import RestFrontEnd, RestOptions
from serving.embedded.runner import Runner, Servable
from serving.embedded.source import FileSystemSource
from serving.errors import ServerConfigError

log = logging.getLogger(__name__)

Load = Callable[[str, int, Path], Servable]


class Addresses(NamedTuple):
    """Where the server listens, as host:port; None for an API that is off."""

    grpc: str | None
    rest: str | None


class ModelServer:
    """Serves the models that the flags name.

    `start` returns when the ports are open, which is when every model is AVAILABLE or has failed; `stop` drains.
    """

    def __init__(self, flags: Flags, load: Load) -> None:
        self._flags = flags
        self._manager: Manager[Servable] = Manager(load, ManagerOptions())
        self._source = FileSystemSource(self._manager.set_aspired, flags.file_system_poll_wait_seconds)
        self.core = ServerCore(
            self._manager, self._source, labels_for_unavailable=flags.allow_version_labels_for_unavailable_models
        )
        self._runner = Runner(max(2, os.cpu_count() or 2))
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever, name="event-loop", daemon=True)
        self._stopping = threading.Event()
        self._stopped = threading.Event()
        self._grpc: grpc.aio.Server | None = None
        self._rest: uvicorn.Server | None = None
        self._rest_task: asyncio.Task[None] | None = None

    def start(self) -> Addresses:
        """Loads the models, then opens the ports.

        Raises ServerConfigError when the configuration cannot be, or a port is taken.
        """
        self.core.configure(model_server_config(self._flags))
        self._manager.wait_until_settled(self.core.model_names)
        for name, error in self.core.errors().items():
            log.error("%s cannot be served yet: %s", name, error)
        self._source.start()
        self._thread.start()
        return asyncio.run_coroutine_threadsafe(self._listen(), self._loop).result()

    def wait(self, timeout: float | None = None) -> bool:
        """Waits until `request_stop` or `stop` is called; whether it was."""
        return self._stopping.wait(timeout)

    def request_stop(self) -> None:
        """Ends `wait`; safe in a signal handler."""
        self._stopping.set()

    def stop(self, grace_seconds: float = 10.0) -> None:
        """Takes no new requests, lets those in flight finish within the grace, and unloads everything."""
        if self._stopped.is_set():
            return
        self._stopped.set()
        self._stopping.set()
        if self._thread.is_alive():
            asyncio.run_coroutine_threadsafe(self._close(grace_seconds), self._loop).result()
            self._loop.call_soon_threadsafe(self._loop.stop)
            self._thread.join()
        self._source.stop()
        self._manager.stop()
        self._runner.stop()
        self._loop.close()

    async def _listen(self) -> Addresses:
        predictor = Predictor(self.core, self._runner)
        examples = ExampleInference(self.core, self._runner)
        grpc_address = rest_address = None
        if self._flags.port >= 0:
            self._grpc = GrpcFrontEnd(self.core, predictor, examples, GrpcOptions()).server()
            grpc_address = await self._listen_grpc(self._grpc)
        if self._flags.rest_api_port is not None and self._flags.rest_api_port >= 0:
            options = RestOptions(self._flags.rest_api_timeout_in_ms / 1000, self._flags.rest_api_enable_cors_support)
            rest_address = await self._listen_rest(RestFrontEnd(self.core, predictor, examples, options))
        return Addresses(grpc_address, rest_address)

    async def _listen_grpc(self, server: grpc.aio.Server) -> str:
        wanted = f"{self._flags.host}:{self._flags.port}"
        try:
            port = server.add_insecure_port(wanted)
        except RuntimeError as error:
            raise ServerConfigError(f"{wanted} cannot be listened on for gRPC: {error}") from error
        await server.start()
        return f"{self._flags.host}:{port}"

    async def _listen_rest(self, application: RestFrontEnd) -> str:
        listener = self._bound(self._flags.rest_api_port or 0)
        config = uvicorn.Config(
            application, http="httptools", ws="none", lifespan="off", log_config=None, access_log=False,
            server_header=False,
        )  # fmt: skip
        self._rest = uvicorn.Server(config)
        self._rest_task = self._loop.create_task(self._rest.serve([listener]))
        while not self._rest.started and not self._rest_task.done():
            await asyncio.sleep(0.005)
        return f"{self._flags.host}:{listener.getsockname()[1]}"

    def _bound(self, port: int) -> socket.socket:
        try:
            family = socket.getaddrinfo(self._flags.host, port, type=socket.SOCK_STREAM)[0][0]
            listener = socket.create_server((self._flags.host, port), family=family, backlog=2048)
        except OSError as error:
            raise ServerConfigError(f"{self._flags.host}:{port} cannot be listened on for REST: {error}") from error
        # Connections inherit it: without it a reply of two writes waits 40 ms for the peer's delayed ACK.
        listener.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        return listener

    async def _close(self, grace_seconds: float) -> None:
        if self._rest is not None and self._rest_task is not None:
            self._rest.config.timeout_graceful_shutdown = max(1, round(grace_seconds))
            self._rest.should_exit = True
        if self._grpc is not None:
            await self._grpc.stop(grace_seconds)
        if self._rest_task is not None:
            await self._rest_task

"""The server as an object: start, wait, stop. Signals belong to whoever runs it (`__main__`)."""

from __future__ import annotations

import asyncio
import logging
import threading
from pathlib import Path
from typing import NamedTuple

from serving.embedded import options as config
from serving.embedded.api import Api, ModelAdmin
from serving.embedded.flags import Flags
from serving.embedded.grpc.listener import GrpcListener
from serving.embedded.grpc.profiler import Tracer
from serving.embedded.inference.batching import BatchingRunner, Runs
from serving.embedded.inference.examples import ExampleInference
from serving.embedded.inference.predict import PredictOptions, Predictor
from serving.embedded.inference.runner import Runner
from serving.embedded.inference.servable import Servable
from serving.embedded.loading.load import Load
from serving.embedded.models.core import ServerCore
from serving.embedded.models.manager import Manager
from serving.embedded.models.source import FileSystemSource
from serving.embedded.observe import calls
from serving.embedded.observe.metrics import Metrics
from serving.embedded.rest.listener import RestListener
from serving.embedded.workers.siblings import Siblings
from serving.errors import ServerConfigError, ServingError, StillLoading

log = logging.getLogger(__name__)


# How often the wait for the models looks whether the server is asked to stop.
_SIGNAL_SECONDS = 0.2


class Addresses(NamedTuple):
    """Where the server listens, as host:port; None for an API that is off."""

    grpc: str | None
    rest: str | None


class ModelServer:
    """Serves the models that the flags name.

    `start` returns when the ports are open, which is when every model is AVAILABLE or has failed; `stop` drains.
    siblings: the other worker processes, when this is one of several. stopping: set by whoever wants it to end.
    tracer: None for no profiler service.
    """

    def __init__(
        self,
        flags: Flags,
        load: Load,
        siblings: Siblings | None = None,
        stopping: threading.Event | None = None,
        tracer: Tracer | None = None,
    ) -> None:
        self._flags = flags
        self._siblings = siblings
        metrics_path = config.metrics_path(flags)
        self._metrics = Metrics() if metrics_path else None
        self._manager: Manager[Servable] = Manager(load, config.manager_options(flags))
        self._source = FileSystemSource(self._manager.set_aspired, flags.file_system_poll_wait_seconds)
        self.core = ServerCore(
            self._manager,
            self._source,
            labels_for_unavailable=flags.allow_version_labels_for_unavailable_models,
            reload_deadline_seconds=flags.reload_deadline_seconds,
        )
        self._runner = Runner(config.run_threads(flags), self._metrics.run if self._metrics else None)
        api = self._api(self._batched(self._runner))
        connection, tls = config.connection_options(flags), config.tls_context(flags)
        self._grpc = GrpcListener(api, flags, connection, tls, siblings, tracer) if flags.port >= 0 else None
        rest_port = flags.rest_api_port
        self._rest = RestListener(api, flags, metrics_path) if rest_port is not None and rest_port >= 0 else None
        self._config_watch = ConfigWatch(self.core, flags)
        self._loop = _new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever, name="event-loop", daemon=True)
        self._stopping = stopping or threading.Event()
        self._stopped = False

    def start(self) -> Addresses:
        """Loads the models, then opens the ports.

        Opens none when it is asked to stop meanwhile. Raises ServerConfigError when the configuration cannot be, or a
        port is taken.
        """
        try:
            kept = self._siblings.kept() if self._siblings else None
            self.core.configure(kept or config.model_server_config(self._flags))
        except ServingError as error:
            raise ServerConfigError(f"Failed to start server. Error: {error.code.name}: {error}") from error
        self._report_errors()
        while not self._manager.wait_until_settled(self.core.model_names, _SIGNAL_SECONDS):
            if self._stopping.is_set():
                return Addresses(None, None)
        self._source.start()
        self._config_watch.start()
        self._thread.start()
        return asyncio.run_coroutine_threadsafe(self._listen(), self._loop).result()

    def wait(self, timeout: float | None = None) -> bool:
        """Waits until `request_stop` or `stop` is called; whether it was."""
        return self._stopping.wait(timeout)

    def request_stop(self) -> None:
        """Ends `wait`; safe in a signal handler."""
        self._stopping.set()

    def stop(self, grace_seconds: float | None = None) -> None:
        """Takes no new requests, lets those in flight finish within the grace, and unloads everything."""
        if self._stopped:
            return
        self._stopped = True
        self._stopping.set()
        grace = self._flags.shutdown_grace_seconds if grace_seconds is None else grace_seconds
        if self._thread.is_alive():
            asyncio.run_coroutine_threadsafe(self._close(grace), self._loop).result()
            self._loop.call_soon_threadsafe(self._loop.stop)
            self._thread.join()
        self._config_watch.stop()
        self._source.stop()
        self._manager.stop()
        self._runner.stop()
        self._loop.close()

    def _api(self, runs: Runs) -> Api:
        flags = self._flags
        check = flags.enable_signature_method_name_check
        options = PredictOptions(check, flags.max_tensor_bytes, flags.max_request_rows)
        watched = calls.Observer(
            lambda: self.core.model_names,
            max_concurrent=flags.max_concurrent_requests,
            metrics=self._metrics,
            access_log=calls.stdout() if flags.access_log else None,
        )
        return Api(
            self.core,
            Predictor(self.core, runs, options),
            ExampleInference(self.core, runs, check_method_names=check),
            ModelAdmin(self.core) if self._siblings is None else self._siblings.admin(self.core),
            watched,
        )

    def _batched(self, runner: Runner) -> Runs:
        options_of = config.batching_options_of(self._flags)
        if options_of is None:
            return runner
        return BatchingRunner(runner, options_of, self._metrics.batch if self._metrics else None)

    def _report_errors(self) -> None:
        """What is wrong with base paths is told at once, not after the last load."""
        for name, error in self.core.errors().items():
            if not isinstance(error, StillLoading):
                log.error("%s cannot be served yet: %s", name, error)

    async def _listen(self) -> Addresses:
        grpc_address = await self._grpc.start() if self._grpc else None
        return Addresses(grpc_address, await self._rest.start() if self._rest else None)

    async def _close(self, grace_seconds: float) -> None:
        listeners = [listener for listener in (self._grpc, self._rest) if listener is not None]
        await asyncio.gather(*(listener.stop(grace_seconds) for listener in listeners))


class ConfigWatch:
    """Looks at --model_config_file now and then, and reloads it when it has changed."""

    def __init__(self, core: ServerCore[Servable], flags: Flags) -> None:
        self._core = core
        self._flags = flags
        self._stop = threading.Event()
        self._thread: threading.Thread | None = None
        self._seen = self._text()

    def start(self) -> None:
        """Looks in a thread from now on, unless the interval is 0."""
        if self._flags.model_config_file and self._flags.model_config_file_poll_wait_seconds > 0:
            self._thread = threading.Thread(target=self._run, name="config", daemon=True)
            self._thread.start()

    def stop(self) -> None:
        """Ends the looking."""
        self._stop.set()

    def _run(self) -> None:
        while not self._stop.wait(self._flags.model_config_file_poll_wait_seconds):
            text = self._text()
            if text == self._seen:
                continue
            self._seen = text
            try:
                self._core.reload(config.model_server_config(self._flags))
            except (ServingError, ServerConfigError) as error:
                log.error("%s was not taken over: %s", self._flags.model_config_file, error)  # noqa: TRY400 - no fault of ours

    def _text(self) -> bytes:
        try:
            return Path(self._flags.model_config_file).read_bytes() if self._flags.model_config_file else b""
        except OSError:
            return b""


def _new_event_loop() -> asyncio.AbstractEventLoop:
    try:
        import uvloop
    except ImportError:
        return asyncio.new_event_loop()
    loop: asyncio.AbstractEventLoop = uvloop.new_event_loop()
    return loop

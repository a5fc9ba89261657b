"""The server as an object: start, wait, stop. Signals belong to whoever runs it (`__main__`)."""

from __future__ import annotations

import asyncio
import concurrent.futures
import functools
import sys
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

from fashion_common.exposure import exposure
from serving.apis.messages import ModelServerConfig
from serving.embedded import options as config
from serving.embedded.access.tokens import Tokens
from serving.embedded.admission import Admission, resources
from serving.embedded.admission.budget import Budget
from serving.embedded.admission.connections import Connections
from serving.embedded.admission.samples import Spare
from serving.embedded.admission.upkeep import Upkeep
from serving.embedded.api import Api
from serving.embedded.event_log import CERTIFICATE_REFUSED, TOKENS_REFUSED
from serving.embedded.flags import Flags
from serving.embedded.grpc.listener import GrpcListener
from serving.embedded.grpc.methods import Methods, Rpc
from serving.embedded.grpc.services import reflection
from serving.embedded.grpc.services.health import Health
from serving.embedded.grpc.services.models import ModelServices
from serving.embedded.grpc.services.profiler import Profiler
from serving.embedded.inference import shadow
from serving.embedded.inference.batching import BatchingRunner
from serving.embedded.inference.model import LoadedModel
from serving.embedded.inference.predict import Engine
from serving.embedded.inference.runner import Runner
from serving.embedded.inference.shadow import Shadow
from serving.embedded.loading.load import Load
from serving.embedded.models.core import ServerCore
from serving.embedded.models.manager import Manager
from serving.embedded.models.manifest import recorded_distribution
from serving.embedded.models.request_logging import RequestLogs
from serving.embedded.models.source import FileSystemSource
from serving.embedded.models.storage import VersionDirectory
from serving.embedded.observe.access_log import AccessLog
from serving.embedded.observe.calls import Interceptor, Sampler
from serving.embedded.observe.metrics import Metrics
from serving.embedded.observe.recording import Recording
from serving.embedded.observe.tracer import Tracer
from serving.embedded.offload import Offload
from serving.embedded.polling import ConfigWatch, Poller
from serving.embedded.rest.application import RestApplication
from serving.embedded.rest.listener import RestListener
from serving.embedded.rest.routes import Routes
from serving.embedded.workers.configuration import Record
from serving.embedded.workers.siblings import SharedApi
from serving.embedded.workers.sockets import Port
from serving.errors import ServerConfigError, ServingError

if TYPE_CHECKING:
    from serving.embedded.observe.telemetry import Telemetry

# How often the wait for the models checks whether the server has to stop.
_SIGNAL_SECONDS = 0.2
# What ends at once unless it hangs may take so long after --shutdown_grace_seconds.
_STOP_SECONDS = 1.0
# How often it is looked whether tokens or certificates have changed: so long a token that is withdrawn may be used.
_ACCESS_SECONDS = 1.0
# How often a worker looks for a configuration that another one has taken over.
_FOLLOW_SECONDS = 0.5


class Addresses(NamedTuple):
    """Where the server listens, as host:port; None for an API that is off, and for metrics without a port."""

    grpc: str | None
    rest: str | None
    metrics: str | None = None


class ModelServer:
    """Serves the models that the flags name.

    `start` returns when the ports are open, which is when every model is AVAILABLE or has failed; `stop` drains.
    stopping: ends `wait`, and `start`, when set. tracer: None for no profiler service. telemetry: None for no spans;
    `stop` closes it.
    """

    def __init__(
        self,
        flags: Flags,
        load: Load,
        stopping: threading.Event | None = None,
        tracer: Tracer | None = None,
        telemetry: Telemetry | None = None,
    ) -> None:
        self._flags = flags
        limits = config.limits(flags)
        connections = Connections(limits.max_connections, limits.max_connections_per_address, time.monotonic)
        self._admission = Admission(limits, Budget(limits.max_bytes_in_flight, time.monotonic), connections)
        self._upkeep = Upkeep(self._admission.budget, limits.stall_timeout_seconds)
        self._metrics_path = config.metrics_path(flags)
        self._metrics = Metrics(flags.worker_index) if self._metrics_path else None
        self._manager: Manager[LoadedModel] = Manager(
            _counted(load, self._metrics) if self._metrics else load,
            num_load_threads=flags.num_load_threads,
            num_unload_threads=flags.num_unload_threads,
            load_timeout_seconds=flags.load_timeout_seconds,
            max_num_load_retries=flags.max_num_load_retries,
            load_retry_interval_seconds=flags.load_retry_interval_micros / 1e6,
        )
        self._stopping = stopping or threading.Event()
        source = FileSystemSource(
            self._manager.set_aspired,
            self._manager.failed,
            settle_seconds=min(1.0, flags.file_system_poll_wait_seconds or 1.0),
            stopping=self._stopping.is_set,
        )
        self._recording = Recording(
            config.recording_writer(flags),
            self._admission.budget,
            self.call_soon,
            answers_only=flags.record_answers_only,
            **({"count": self._metrics.record} if self._metrics else {}),
        )
        self._core = ServerCore(
            self._manager,
            source,
            labels_for_unavailable=flags.allow_version_labels_for_unavailable_models,
            reload_deadline_seconds=flags.reload_deadline_seconds,
            request_logs=RequestLogs(config.request_logging(flags), self._recording.set_models),
        )
        self._runner = Runner(
            config.run_threads(flags),
            self._metrics.run if self._metrics else None,
            self._metrics.predictions.add if self._metrics else None,
            telemetry.ran if telemetry else None,
        )
        self._offload = Offload()
        # The watches first: what is written meanwhile is seen as a change.
        self._access_watches = (
            ConfigWatch(flags.token_file, lambda: self._access.reload_tokens(), TOKENS_REFUSED),  # noqa: PLW0108 - made below
            ConfigWatch(
                flags.ssl_config_file,
                lambda: self._access.reload_certificates(),  # noqa: PLW0108
                CERTIFICATE_REFUSED,
            ),
        )
        self._access = config.access(flags)
        self._access_log = AccessLog(sys.stdout.fileno()) if flags.access_log else None
        samplers: list[Sampler[Any]] = [self._recording]
        self._interceptor = Interceptor(
            lambda: self._core.model_names,
            max_concurrent=limits.max_concurrent_requests,
            budget=self._admission.budget,
            metrics=self._metrics,
            access_log=self._access_log.write if self._access_log else None,
            samplers=samplers,
            telemetry=telemetry,
        )
        self._telemetry = telemetry
        batching = BatchingRunner(self._runner, self._metrics.batch if self._metrics else None)
        run = batching.run if flags.enable_batching else self._runner.run
        engine = Engine(self._core.use, run, limits, flags.enable_signature_method_name_check, self._offload.run)
        self._shadow = self._made_shadow(engine)
        if self._shadow is not None:
            samplers.append(self._shadow)
        directory, index = Path(flags.worker_directory), flags.worker_index
        self._shared = SharedApi(self._core, engine, directory, index, flags.workers) if index >= 0 else None
        self._api = self._shared or Api(self._core, engine)
        self._health = Health(self._core) if flags.enable_grpc_healthcheck_service else None
        self._grpc = self._grpc_listener(tracer) if flags.port >= 0 else None
        rest_port = flags.rest_api_port
        self._rest = self._rest_listener(rest_port) if rest_port is not None and rest_port >= 0 else None
        self._metrics_rest = (
            self._rest_listener(flags.metrics_port, metrics_alone=True) if flags.metrics_port is not None else None
        )
        self._pollers = [
            Poller(flags.file_system_poll_wait_seconds, source.poll),
            Poller(flags.model_config_file_poll_wait_seconds, self._config_watch()),
        ]
        if flags.token_file or flags.ssl_config_file:
            self._pollers.append(Poller(_ACCESS_SECONDS, self._look_at_access))
        if self._shared is not None:
            self._pollers.append(Poller(_FOLLOW_SECONDS, self._shared.config.poll))
        self._loop = _new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever, name="event-loop", daemon=True)
        self._stopped = False

    def start(self) -> Addresses:
        """Loads the models, then opens the ports.

        Opens none when it is asked to stop meanwhile. Raises ServerConfigError when the configuration cannot be, or a
        port is taken.
        """
        try:
            record = self._shared.config.first() if self._shared else Record(config.model_server_config(self._flags))
            self._core.configure(record.own, record.reloaded)
        except ServingError as error:
            raise ServerConfigError(f"Failed to start server. Error: {error.code.name}: {error}") from error
        while not self._core.wait_until_settled(_SIGNAL_SECONDS):
            if self._stopping.is_set():
                return Addresses(None, None)
        for poller in self._pollers:
            poller.start()
        self._set_resources()
        self._thread.start()
        return asyncio.run_coroutine_threadsafe(self._listen(), self._loop).result()

    @property
    def exposure(self) -> str:
        """What to say of where it listens, without TLS or asking for who calls; empty where nothing is to be said."""
        certificates = self._access.certificates
        asks = self._access.tokens is not None or (certificates is not None and certificates.client_verify)
        return exposure(self._flags.host, encrypted=certificates is not None, asks=asks)

    def call_soon(self, work: Callable[[], object]) -> None:
        """Does something small on the event loop, once it runs: what hangs there does not do it."""
        if self._thread.is_alive():
            self._loop.call_soon_threadsafe(work)
        else:
            work()

    def wait(self, timeout: float | None = None) -> bool:
        """Waits until `stopping` is set or `stop` is called; whether either happened."""
        return self._stopping.wait(timeout)

    def stop(self) -> None:
        """Takes no new requests, lets those in flight finish within --shutdown_grace_seconds, unloads everything.

        What hangs is left: it is over soon after that time, whatever a load, a run or a disk does.
        """
        if self._stopped:
            return
        self._stopped = True
        self._stopping.set()
        grace = self._flags.shutdown_grace_seconds
        end = time.monotonic() + grace
        for poller in self._pollers:
            poller.stop()
        if self._thread.is_alive():
            closing = asyncio.run_coroutine_threadsafe(self._close(), self._loop)
            concurrent.futures.wait([closing], grace + _STOP_SECONDS)
        if self._shadow is not None:
            self._shadow.close()
        self._recording.close()
        self._manager.stop(max(_STOP_SECONDS, end - time.monotonic()))
        self._runner.stop()
        self._offload.stop()
        if self._thread.is_alive():
            self._loop.call_soon_threadsafe(self._loop.stop)
            self._thread.join(_STOP_SECONDS)
        if not self._thread.is_alive():
            self._loop.close()
        if self._access_log is not None:
            self._access_log.close()
        if self._telemetry is not None:
            self._telemetry.close()

    def _made_shadow(self, engine: Engine) -> Shadow | None:
        label, rate = self._flags.shadow_label, self._flags.shadow_rate
        if not label or self._metrics is None:
            return None
        spare = Spare(self._admission.budget, shadow.MAX_HELD_BYTES)
        return Shadow(engine, label, rate, spare, self.call_soon, self._metrics)

    def _look_at_access(self) -> None:
        for watch in self._access_watches:
            watch.poll()

    def _config_watch(self) -> Callable[[], None]:
        """What looks at --model_config_file: of several workers, one takes it over for all."""
        file = self._flags.model_config_file

        def read() -> ModelServerConfig:
            return config.model_server_config(self._flags)

        if self._shared is not None:
            return functools.partial(self._shared.config.look_at, file, read)
        return ConfigWatch(file, lambda: self._core.reload(read(), own=True)).poll

    def _set_resources(self) -> None:
        """What is left of the machine's once the models are loaded, for the limits that no flag has set."""
        budget, connections = self._admission.budget, self._admission.connections
        budget.limit = budget.limit or resources.default_budget(self._flags.workers)
        connections.total = min(connections.total or sys.maxsize, resources.raise_descriptor_limit())
        if self._flags.ssl_config_file:
            connections.total = min(connections.total, resources.tls_connections(self._flags.workers))

    def _grpc_listener(self, tracer: Tracer | None) -> GrpcListener:
        """The gRPC port with all its services; the socket for siblings speaks for this process alone."""
        flags = self._flags
        tensor_content = flags.enable_serialization_as_tensor_content
        methods = ModelServices(self._api, reload_from=flags.reload_from, tensor_content=tensor_content).rpcs()
        methods += reflection.rpcs()
        if self._health is not None:
            methods += self._health.rpcs()
        profiler_directory = config.profiler_directory(flags)
        if profiler_directory is not None and tracer is not None:
            methods += Profiler(tracer, profiler_directory).rpcs()
        front = self._methods(methods, self._access.tokens)
        sockets = {flags.grpc_socket_path: front} if flags.grpc_socket_path else {}
        if self._shared is not None:
            own = ModelServices(self._shared.own_api)
            sockets[self._shared.own_path] = self._methods(own.rpcs())
        options, certificates = config.connection_options(flags, self._admission.limits), self._access.certificates
        tls = None if certificates is None else certificates.grpc
        return GrpcListener(self._port(flags.port), front, sockets, options, tls, self._admission)

    def _methods(self, rpcs: list[Rpc], tokens: Tokens | None = None) -> Methods:
        return Methods(self._interceptor, self._admission.limits, self._offload, rpcs, tokens)

    def _rest_listener(self, port: int, *, metrics_alone: bool = False) -> RestListener:
        flags = self._flags
        cors = flags.rest_api_enable_cors_support
        timeout = flags.rest_api_timeout_in_ms / 1000 if flags.rest_api_timeout_in_ms > 0 else None
        routes = Routes(self._api, self._metrics, self._offload, self._admission.limits, timeout)
        if metrics_alone:
            table = routes.state(self._metrics_path)
        else:
            table = routes.table(cors=cors, metrics_path=self._metrics_path if flags.metrics_port is None else "")
        application = RestApplication(
            self._interceptor,
            table,
            self._admission.limits,
            self._offload,
            cors=cors,
            access=None if self._access.lets_everybody_in else self._access,
        )
        certificates = self._access.certificates
        tls = None if certificates is None else certificates.rest
        return RestListener(self._port(port), application, tls, self._admission)

    def _port(self, number: int) -> Port:
        return Port(self._flags.host, number, shared=self._flags.workers > 1)

    async def _listen(self) -> Addresses:
        self._upkeep.start()
        grpc_address = await self._grpc.start() if self._grpc else None
        rest_address = await self._rest.start() if self._rest else None
        return Addresses(grpc_address, rest_address, await self._metrics_rest.start() if self._metrics_rest else None)

    async def _close(self) -> None:
        if self._health is not None:
            self._health.stop()
        listeners = [listener for listener in (self._grpc, self._rest, self._metrics_rest) if listener is not None]
        await asyncio.gather(*(listener.stop(self._flags.shutdown_grace_seconds) for listener in listeners))
        await self._upkeep.stop()


def _new_event_loop() -> asyncio.AbstractEventLoop:
    try:
        import uvloop
    except ImportError:
        return asyncio.new_event_loop()
    loop: asyncio.AbstractEventLoop = uvloop.new_event_loop()
    return loop


def _counted(load: Load, metrics: Metrics) -> Load:
    """The load function, which also puts beside the live metrics what a version answered to the test set."""

    def counted(name: str, number: int, directory: VersionDirectory) -> LoadedModel:
        model = load(name, number, directory)
        if (distribution := recorded_distribution(directory)) is not None:
            metrics.distribution("test_set", name, number, *distribution)
        return model

    return counted

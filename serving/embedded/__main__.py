"""`python -m serving.embedded`: the server as a process, with the flags of `tensorflow_model_server`."""

from __future__ import annotations

import contextlib
import gc
import logging
import os
import shutil
import signal
import sys
import threading
from collections.abc import Sequence
from typing import TYPE_CHECKING

from fashion_common import telemetry
from fashion_common.errors import FashionError
from fashion_common.native_stderr import native_stderr_silenced
from fashion_common.runtimes import WITHOUT_KERAS
from serving.embedded import event_log
from serving.embedded.flags import Flags, notices, parse, usage
from serving.embedded.observe.log_writer import open_standard_streams, stderr_never_blocks
from serving.embedded.workers.heartbeat import READY, Heartbeat

if TYPE_CHECKING:
    from serving.embedded.observe.telemetry import Telemetry
    from serving.embedded.observe.tracer import Levels, Trace

# How often a worker checks whether its parent is there.
_LOOK_SECONDS = 1.0
# The garbage collector looks at new objects when there are so many.
_NEW_OBJECTS = 20_000
# How long the event loop waits for the interpreter while a thread works on a large request. It does so for each socket
# that has something to read and each connection that it accepts: with a millisecond, 500 of them take half a second.
_SWITCH_SECONDS = 0.0001


def main(arguments: Sequence[str] | None = None) -> int:
    """Runs the server until SIGTERM or SIGINT. Gives the exit code."""
    open_standard_streams()
    with stderr_never_blocks():
        return _main(sys.argv[1:] if arguments is None else arguments)


def _main(arguments: Sequence[str]) -> int:
    try:
        flags = parse(arguments)
        ignored = notices(flags)
    except FashionError as error:
        print(f"{error}; --help lists the flags", file=sys.stderr)
        return error.exit_code
    if flags.help:
        print(usage(), end="")
        return 0
    with contextlib.nullcontext() if flags.verbose else native_stderr_silenced():
        try:
            return _run(flags, arguments, ignored)
        except FashionError as error:
            if flags.verbose:
                raise
            print(f"Error: {error}", file=sys.stderr)
            return error.exit_code


def _run(flags: Flags, arguments: Sequence[str], ignored: Sequence[str]) -> int:
    os.environ.update(WITHOUT_KERAS)
    event_log.configure(flags.log_format, logging.INFO if flags.verbose else logging.WARNING)
    if flags.worker_index <= 0:
        # Loads, unloads and reloads: of several workers, one says it for all.
        event_log.log.setLevel(logging.INFO)
    logging.getLogger("tensorflow").setLevel(logging.WARNING if flags.verbose else logging.ERROR)
    if flags.version:
        return _print_version()
    stopping = _set_by_signals()
    if flags.worker_index < 0:
        for line in ignored:
            event_log.notices.warning(line)
        if flags.workers > 1:
            from serving.embedded import options
            from serving.embedded.workers.configuration import Record, digest
            from serving.embedded.workers.supervisor import Supervisor, Times

            options.check(flags)
            # The digest first: what is edited meanwhile is taken over later.
            file = digest(flags.model_config_file)
            first = Record(options.model_server_config(flags), file=file)
            times = Times(flags.worker_timeout_seconds, flags.shutdown_grace_seconds)
            return Supervisor(arguments, flags.workers, first, times, stopping).run()
    return _serve(flags, stopping)


def _print_version() -> int:
    from importlib import metadata, util

    print(f"TensorFlow ModelServer: fashion-mnist-serving {metadata.version('fashion-mnist-serving')}")
    if util.find_spec("tensorflow") is not None:
        from serving.embedded.loading.tensorflow import saved_model

        print(f"TensorFlow Library: {saved_model.library_version()}")
    if util.find_spec("ai_edge_litert") is not None:
        print(f"LiteRT Library: {metadata.version('ai-edge-litert')}")
    return 0


def _serve(flags: Flags, stopping: threading.Event) -> int:
    heartbeat = Heartbeat() if flags.worker_index >= 0 else None
    from serving.embedded.admission.resources import bound_allocator

    bound_allocator()
    from serving.embedded import options as config
    from serving.embedded.loading.load import version_load
    from serving.embedded.loading.runtimes import runtime_load
    from serving.embedded.observe.tracer import Tracer
    from serving.embedded.server import ModelServer

    # 30 objects a request under way: with Python's 700, 32 requests began a collection every time, for a tenth of a
    # small request's time.
    gc.set_threshold(_NEW_OBJECTS)
    sys.setswitchinterval(_SWITCH_SECONDS)
    server = ModelServer(
        flags,
        version_load(
            runtime_load(config.runtime_options(flags)),
            config.batching_options_of(flags),
            check_signature=config.signature_check(flags),
            require_manifest=flags.require_manifest,
            iterations=max(1, flags.num_request_iterations_for_warmup) if flags.enable_model_warmup else 0,
        ),
        stopping,
        Tracer(_trace),
        _telemetry(flags),
    )
    if heartbeat is not None:
        heartbeat.relay = server.call_soon
    addresses = server.start()
    if flags.worker_index <= 0 and (line := server.exposure):
        event_log.notices.warning(line)
    if addresses.grpc:
        event_log.notices.info("Running gRPC ModelServer at %s ...", addresses.grpc)
    if addresses.rest:
        event_log.notices.info("Exporting HTTP/REST API at:%s ...", addresses.rest)
    if addresses.metrics:
        event_log.notices.info("Exporting metrics at:%s ...", addresses.metrics)
    if heartbeat is not None:
        sys.stderr.write(READY)
        parent = os.getppid()
        while not server.wait(_LOOK_SECONDS) and os.getppid() == parent:
            pass
        if os.getppid() != parent:
            # Nobody else will.
            shutil.rmtree(flags.worker_directory, ignore_errors=True)
    else:
        # With a look: a signal that another thread takes wakes this one, which runs its handler, not up.
        while not server.wait(_LOOK_SECONDS):
            pass
    server.stop()
    return 0


def _telemetry(flags: Flags) -> Telemetry | None:
    """What sends spans, where the environment asks for it. Without what that needs the server serves all the same."""
    try:
        provider = telemetry.start("fashion-serving", os.environ)
    except telemetry.TelemetryError as error:
        if flags.worker_index <= 0:
            event_log.notices.warning(error)
        return None
    if provider is None:
        return None
    from serving.embedded.observe.telemetry import Telemetry

    return Telemetry(provider, "https" if flags.ssl_config_file else "http")


def _trace(levels: Levels, seconds: float, end: threading.Event) -> Trace:
    """What TensorFlow does; only where it serves: to import it would take its memory for ever."""
    if "tensorflow" not in sys.modules:
        from serving.errors import FailedPrecondition

        raise FailedPrecondition("There is nothing to trace: no version is served by TensorFlow")
    from serving.embedded.loading.tensorflow import tracing

    return tracing.take(levels, seconds, end)


def _set_by_signals() -> threading.Event:
    """An event that SIGTERM and SIGINT set, from now on: importing TensorFlow takes seconds."""
    stopping = threading.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        # In a thread: the main thread may be within wait(), whose lock set() needs too.
        signal.signal(number, lambda *_: threading.Thread(target=stopping.set, daemon=True).start())
    return stopping


if __name__ == "__main__":
    exit_code = main()
    with contextlib.suppress(OSError):
        sys.stdout.flush()
    # sys.exit would wait for threads, and so for a run that has outlived its deadline.
    os._exit(exit_code)

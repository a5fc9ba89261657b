"""Configuration from flags and from text-protobuf files."""

from __future__ import annotations

import contextlib
import os
import tempfile
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import TypeVar

from google.protobuf import text_format
from google.protobuf.message import Message

from delivery.address import is_address, without_secrets
from delivery.errors import DeliveryUsageError, SignatureError
from fashion_common.exposure import is_loopback
from fashion_common.layout import BATCHING_FILE
from serving.apis.messages import BatchingParameters, ConfigProto, ModelServerConfig, MonitoringConfig, SSLConfig
from serving.apis.recording_files import RecordingWriter
from serving.embedded.access.callers import Access
from serving.embedded.access.certificates import Certificates
from serving.embedded.access.tokens import Tokens
from serving.embedded.event_log import SIGNATURE_VERIFIED, log_event
from serving.embedded.flags import Flags
from serving.embedded.grpc.options import ConnectionOptions
from serving.embedded.inference.batch_queue import BatchingOptions, batching_options
from serving.embedded.limits import Limits
from serving.embedded.loading.runtimes import RuntimeOptions
from serving.embedded.models.core import PLATFORM
from serving.embedded.models.request_logging import RequestLogging
from serving.embedded.models.storage import VersionDirectory
from serving.embedded.observe import metrics
from serving.errors import FailedPrecondition, InvalidArgument, ServerConfigError

M = TypeVar("M", bound=Message)

_INT_MAX = 2**31 - 1


def read_text_proto(path: str, message: M) -> M:
    """The message with what a text-protobuf file says. Raises ServerConfigError with TF Serving's words."""
    name = message.DESCRIPTOR.full_name
    try:
        text = Path(path).read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise ServerConfigError(f"Cannot read {path}: {error}") from error
    try:
        return text_format.Parse(text, message)
    except text_format.ParseError as error:
        where = f"{error.GetLine() or 1}:{error.GetColumn() or 1}"
        reason = str(error).removeprefix(f"{where} : ").strip("'")
        raise ServerConfigError(
            f"Error parsing text-format {name}: {where}: {reason}\nInvalid protobuf file: '{path}'"
        ) from error


def model_server_config(flags: Flags) -> ModelServerConfig:
    """The models to serve: --model_config_file, else --model_name and --model_base_path."""
    if flags.model_config_file:
        config = read_text_proto(flags.model_config_file, ModelServerConfig())
        for model in config.model_config_list.config:
            _check_local(model.base_path)
        return config
    if not flags.model_base_path:
        raise ServerConfigError(
            "--model_base_path is missing: give the directory that holds the model's versions, or --model_config_file"
        )
    _check_local(flags.model_base_path)
    config = ModelServerConfig()
    config.model_config_list.config.add(
        name=flags.model_name, base_path=str(Path(flags.model_base_path).absolute()), model_platform=PLATFORM
    )
    return config


def _check_local(base_path: str) -> None:
    """Raises ServerConfigError for an address, which TF Serving might read."""
    if is_address(base_path):
        shown = without_secrets(base_path)
        raise ServerConfigError(
            f"{shown} is an address, and this server reads this machine's disk only: `fashion pull {shown} --watch` "
            "brings its versions there, `fashion serve --model-base-path` serves them too"
        )


def request_logging(flags: Flags) -> RequestLogging | None:
    """What is recorded of models whose configuration does not say: what the flags say, or nothing."""
    prefix = flags.record_filename_prefix
    # The end counts: one that is a slash names a directory.
    return RequestLogging(os.path.join(Path.cwd(), prefix), flags.record_sampling_rate) if prefix else None  # noqa: PTH118


def recording_writer(flags: Flags) -> Callable[[str], RecordingWriter]:
    """What makes the writer of a filename_prefix. Each worker has a file, and there is room for as many more."""
    return partial(
        RecordingWriter,
        max_file_bytes=min(flags.record_max_file_bytes, flags.record_max_total_bytes // (2 * flags.workers)),
        max_age_seconds=flags.record_max_file_seconds,
        max_total_bytes=flags.record_max_total_bytes,
    )


def check(flags: Flags) -> None:
    """Reads every configuration file once. Raises ServerConfigError for one that cannot be followed."""
    model_server_config(flags)
    signature_check(flags)
    session_config(flags)
    batching_options_of(flags)
    connection_options(flags, limits(flags))
    access(flags)
    metrics_path(flags)


def signature_check(flags: Flags) -> Callable[[VersionDirectory], None] | None:
    """What holds a version to its signature; None without --require_signature. Raises ServerConfigError for its keys.

    It raises FailedPrecondition for a version that none of the keys signed as it is.
    """
    if not flags.require_signature:
        return None
    from delivery.verification import public_keys, verify_version

    try:
        keys = public_keys([Path(path) for path in flags.require_signature.split(",") if path])
    except DeliveryUsageError as error:
        raise ServerConfigError(f"--require_signature: {error}") from error

    def check(directory: VersionDirectory) -> None:
        try:
            key, files = verify_version(directory.local_path(), keys)
        except SignatureError as error:
            raise FailedPrecondition(f"--require_signature: {error}") from error
        log_event(SIGNATURE_VERIFIED, directory=directory, files=files, key=key)

    return check


def session_config(flags: Flags) -> ConfigProto:
    """The session's ConfigProto: the file, then the flags."""
    config = ConfigProto()
    if flags.tensorflow_session_config_file:
        read_text_proto(flags.tensorflow_session_config_file, config)
    both = flags.tensorflow_session_parallelism
    config.intra_op_parallelism_threads = (
        flags.tensorflow_intra_op_parallelism or both or config.intra_op_parallelism_threads
    )
    # -1: operations run in the request's thread; handing each to a pool costs more than a small model's whole run.
    config.inter_op_parallelism_threads = (
        flags.tensorflow_inter_op_parallelism or both or config.inter_op_parallelism_threads or -1
    )
    if flags.per_process_gpu_memory_fraction:
        config.gpu_options.per_process_gpu_memory_fraction = flags.per_process_gpu_memory_fraction
    return config


def runtime_options(flags: Flags) -> RuntimeOptions:
    """What the runtimes are told. Raises ServerConfigError for --tensorflow_session_config_file."""
    return RuntimeOptions(
        forced=flags.runtime,
        prefer_lite=flags.prefer_tflite_model,
        tags=tuple(flags.saved_model_tags.split(",")),
        session_config=session_config(flags).SerializeToString(),
        pools=flags.num_tflite_pools,
        interpreters_per_pool=flags.num_tflite_interpreters_per_pool,
    )


def run_threads(flags: Flags) -> int:
    """The threads that run models: four for each CPU, as TF Serving has them for requests."""
    return max(flags.grpc_max_threads, flags.rest_api_num_threads) or 4 * (os.cpu_count() or 1)


def batching_options_of(flags: Flags) -> Callable[[VersionDirectory], BatchingOptions | None]:
    """What gives a version its batching options: None for one whose requests are not merged.

    It raises InvalidArgument for a version whose own file, with --enable_per_model_batching_parameters, cannot be
    followed. Raises ServerConfigError for --batching_parameters_file.
    """
    parameters = BatchingParameters()
    if flags.batching_parameters_file:
        read_text_proto(flags.batching_parameters_file, parameters)
    common = batching_options(parameters) if flags.enable_batching else None

    def own(directory: VersionDirectory) -> BatchingOptions | None:
        file = directory.file(BATCHING_FILE)
        try:
            return None if file is None else batching_options(read_text_proto(str(file), BatchingParameters()))
        except ServerConfigError as error:
            raise InvalidArgument(str(error)) from error

    return own if flags.enable_batching and flags.enable_per_model_batching_parameters else lambda _: common


def limits(flags: Flags) -> Limits:
    """What clients are held to: the flags of our own, and those of --grpc_channel_arguments that are limits."""
    arguments = _channel_arguments(flags)
    defaults = Limits()
    return Limits(
        max_message_bytes=arguments.get("grpc.max_receive_message_length", _bounded(flags.max_request_bytes)),
        max_response_bytes=arguments.get("grpc.max_send_message_length", defaults.max_response_bytes),
        max_body_bytes=flags.max_request_bytes,
        max_tensor_bytes=flags.max_tensor_bytes,
        max_streams=arguments.get("grpc.max_concurrent_streams", defaults.max_streams),
        max_concurrent_requests=flags.max_concurrent_requests,
        max_request_rows=flags.max_request_rows,
        max_request_elements=flags.max_request_elements,
        max_bytes_in_flight=flags.max_bytes_in_flight,
        max_connections=flags.max_connections,
        max_connections_per_address=flags.max_connections_per_address,
        header_timeout_seconds=flags.header_timeout_seconds,
        stall_timeout_seconds=flags.stall_timeout_seconds,
        idle_timeout_seconds=flags.idle_timeout_seconds,
    )


def connection_options(flags: Flags, limits: Limits) -> ConnectionOptions:
    """How long gRPC connections may live, beside their limits."""
    arguments = _channel_arguments(flags)

    def seconds(name: str) -> float | None:
        value = arguments.get(name, _INT_MAX)
        return None if value == _INT_MAX else value / 1000

    return ConnectionOptions(
        limits,
        max_idle=seconds("grpc.max_connection_idle_ms"),
        max_age=seconds("grpc.max_connection_age_ms"),
        max_age_grace=seconds("grpc.max_connection_age_grace_ms"),
    )


def _channel_arguments(flags: Flags) -> dict[str, int]:
    """Those of --grpc_channel_arguments whose value is a number; ones that are not known are let pass.

    https://github.com/grpc/grpc/blob/master/include/grpc/impl/channel_arg_names.h. Raises ServerConfigError for one
    that has no value.
    """
    arguments: dict[str, int] = {}
    for argument in filter(None, flags.grpc_channel_arguments.split(",")):
        key, has_value, value = argument.partition("=")
        if not has_value:
            raise ServerConfigError(f"--grpc_channel_arguments: {argument} has no value: expected {argument}=...")
        with contextlib.suppress(ValueError):
            arguments[key] = _bounded(int(value))
    return arguments


def _bounded(value: int) -> int:
    """gRPC's -1 is no limit, and there is none beyond 2^31-1."""
    return min(value, _INT_MAX) if value >= 0 else _INT_MAX


def access(flags: Flags) -> Access:
    """Who may ask: --token_file and --ssl_config_file. Raises ServerConfigError for one that cannot be followed."""
    file = flags.ssl_config_file
    return Access(
        Tokens(flags.token_file) if flags.token_file else None,
        Certificates(file, lambda: read_text_proto(file, SSLConfig())) if file else None,
    )


def profiler_directory(flags: Flags) -> Path | None:
    """What the profiler's traces are written below; None without a profiler.

    Unless it is asked for there is one only where nobody but this machine reaches the server: behind a proxy on this
    machine, every caller looks local.
    """
    enabled = is_loopback(flags.host) if flags.enable_profiler is None else flags.enable_profiler
    return Path(flags.profiler_directory or tempfile.gettempdir()) if enabled else None


def metrics_path(flags: Flags) -> str:
    """Where the metrics are, or an empty text when they are off; --metrics_port alone asks for them too."""
    if not flags.monitoring_config_file:
        return metrics.DEFAULT_PATH if flags.metrics_port is not None else ""
    config = read_text_proto(flags.monitoring_config_file, MonitoringConfig()).prometheus_config
    return (config.path or metrics.DEFAULT_PATH) if config.enable else ""

"""Configuration from flags and from text-protobuf files."""

from __future__ import annotations

import os
from pathlib import Path
from typing import TypeVar

import grpc
from google.protobuf import text_format
from google.protobuf.message import Message

from serving.apis.messages import ConfigProto, ModelServerConfig
from serving.apis.server_configs import BatchingParameters, MonitoringConfig, SSLConfig
from serving.embedded import metrics
from serving.embedded.batching_options import BatchingOptions, OptionsOf, batching_options
from serving.embedded.core import PLATFORM
from serving.embedded.flags import Flags
from serving.embedded.manager import ManagerOptions
from serving.embedded.runner import Servable
from serving.embedded.versions import Version
from serving.errors import InvalidArgument, ServerConfigError

M = TypeVar("M", bound=Message)

PER_MODEL_BATCHING_FILE = "batching_params.pbtxt"


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
        return read_text_proto(flags.model_config_file, ModelServerConfig())
    if not flags.model_base_path:
        raise ServerConfigError(
            "--model_base_path is missing: give the directory that holds the model's versions, or --model_config_file"
        )
    config = ModelServerConfig()
    config.model_config_list.config.add(
        name=flags.model_name, base_path=str(Path(flags.model_base_path).absolute()), model_platform=PLATFORM
    )
    return config


def check(flags: Flags) -> None:
    """Reads every configuration file once. Raises ServerConfigError for one that cannot be followed."""
    model_server_config(flags)
    session_config(flags)
    batching_options_of(flags)
    channel_arguments(flags)
    server_credentials(flags)
    metrics_path(flags)


def manager_options(flags: Flags) -> ManagerOptions:
    """How versions are loaded."""
    return ManagerOptions(
        num_load_threads=flags.num_load_threads,
        num_unload_threads=flags.num_unload_threads,
        max_num_load_retries=flags.max_num_load_retries,
        load_retry_interval_seconds=flags.load_retry_interval_micros / 1e6,
    )


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


def run_threads(flags: Flags) -> int:
    """The threads that run models: four for each CPU, as TF Serving has them for requests."""
    return max(flags.grpc_max_threads, flags.rest_api_num_threads) or 4 * (os.cpu_count() or 1)


def check_version(flags: Flags, directory: Path) -> None:
    """Reads what the flags ask for in a version's directory. Raises InvalidArgument for what cannot be followed."""
    if flags.enable_batching and flags.enable_per_model_batching_parameters:
        try:
            _own_batching_options(directory)
        except ServerConfigError as error:
            raise InvalidArgument(str(error)) from error


def _own_batching_options(directory: Path) -> BatchingOptions | None:
    file = directory / PER_MODEL_BATCHING_FILE
    return batching_options(read_text_proto(str(file), BatchingParameters())) if file.is_file() else None


def batching_options_of(flags: Flags) -> OptionsOf | None:
    """What gives each version its batching options, or None when batching is off."""
    if not flags.enable_batching:
        return None
    parameters = BatchingParameters()
    if flags.batching_parameters_file:
        read_text_proto(flags.batching_parameters_file, parameters)
    common = batching_options(parameters)
    if not flags.enable_per_model_batching_parameters:
        return lambda _: common

    def per_model(version: Version[Servable]) -> BatchingOptions | None:
        if BatchingOptions not in version.cache:
            version.cache[BatchingOptions] = _own_batching_options(version.path)
        found: BatchingOptions | None = version.cache[BatchingOptions]
        return found

    return per_model


def channel_arguments(flags: Flags) -> tuple[tuple[str, str | int], ...]:
    """--grpc_channel_arguments as gRPC takes them: a value that is a number goes as one."""
    arguments: list[tuple[str, str | int]] = []
    for argument in filter(None, flags.grpc_channel_arguments.split(",")):
        key, has_value, value = argument.partition("=")
        if not has_value:
            raise ServerConfigError(f"--grpc_channel_arguments: {argument} has no value: expected {argument}=...")
        arguments.append((key, int(value) if value.removeprefix("-").isdigit() else value))
    return tuple(arguments)


def server_credentials(flags: Flags) -> grpc.ServerCredentials | None:
    """TLS for the gRPC port from --ssl_config_file, or None."""
    if not flags.ssl_config_file:
        return None
    config = read_text_proto(flags.ssl_config_file, SSLConfig())
    return grpc.ssl_server_credentials(
        [(config.server_key.encode(), config.server_cert.encode())],
        root_certificates=config.custom_ca.encode() or None,
        require_client_auth=config.client_verify,
    )


def metrics_path(flags: Flags) -> str:
    """Where the metrics are, or an empty text when they are off."""
    if not flags.monitoring_config_file:
        return ""
    config = read_text_proto(flags.monitoring_config_file, MonitoringConfig()).prometheus_config
    return (config.path or metrics.DEFAULT_PATH) if config.enable else ""

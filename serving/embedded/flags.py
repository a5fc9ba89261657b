"""The flags of `tensorflow_model_server`, and a few of our own.

Names, meanings and defaults are those of TF Serving 2.21 (`tensorflow_model_server --help`), but for the ports: 0 picks
a free one when it is given. Whatever of TF Serving cannot work here is accepted all the same: `notices` says so.
"""

from __future__ import annotations

import dataclasses
import difflib
import functools
import itertools
import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from serving.embedded.event_log import FORMATS
from serving.embedded.limits import Limits
from serving.errors import ServerConfigError

_BOOLEANS = {"true": True, "1": True, "yes": True, "false": False, "0": False, "no": False}
_IGNORED = "Ignored"
_REFUSED = "Refused"
_LIMITS = Limits()
RELOAD_FROM = ("loopback", "anyone", "nobody")
RUNTIMES = ("tensorflow", "litert")
# What numbers may be: protobuf's int32 and more seconds than a process lives, neither of them negative.
_RANGES: Mapping[type, tuple[float, float]] = {int: (0, 2**31 - 1), float: (0, 10**9)}
_INT64_MAX = 2**63 - 1
_MAX_PORT = 2**16 - 1
_MAX_WORKERS = 1024
# The shortest time that a connection may have: none would close it at once.
_LEAST_SECONDS = 0.1


def _flag(
    default: Any,
    text: str,
    kind: type | None = None,
    *,
    least: float | None = None,
    most: float | None = None,
    choices: Sequence[str] = (),
    state: str = "",
    group: str = "",
) -> Any:
    """One flag.

    least, most: its kind's, unless given. group: of flags, begins with it. state: of a flag that cannot work here; its
    text is the reason then.
    """
    kind = kind or type(default)
    first, last = _RANGES.get(kind, (0, 0))
    metadata = {
        "help": f"{state}: {text}." if state else text,
        "kind": kind,
        "least": first if least is None else least,
        "most": last if most is None else most,
        "choices": choices,
        "state": state,
        "reason": text,
        "group": group,
    }
    return dataclasses.field(default=default, metadata=metadata)


# What can be gone without, and what whoever gives it counts on.
_ignored = functools.partial(_flag, state=_IGNORED)
_refused = functools.partial(_flag, state=_REFUSED)


@dataclass(frozen=True)
class Flags:
    """The server's flags, under TF Serving's names. Ports: a negative one turns the API off."""

    port: int = _flag(
        8500,
        "TCP port to listen on for gRPC. 0 picks a free one, a negative number turns gRPC off.",
        group="Network",
        least=-1,
        most=_MAX_PORT,
    )
    grpc_socket_path: str = _flag("", "UNIX socket to listen on for gRPC, besides the port.")
    rest_api_port: int | None = _flag(
        None, "TCP port for HTTP/REST. Absent: no REST. 0 picks a free one.", int, least=-1, most=_MAX_PORT
    )
    rest_api_num_threads: int = _flag(0, "Threads that run models; the larger of this and grpc_max_threads counts.")
    rest_api_timeout_in_ms: int = _flag(30000, "Timeout for HTTP/REST calls; 0 = no limit.", least=-1)
    rest_api_enable_cors_support: bool = _flag(False, "Enable CORS headers in REST answers.")
    grpc_channel_arguments: str = _flag("", "Comma-separated gRPC server arguments: grpc.max_connection_age_ms=2000.")
    grpc_max_threads: int = _flag(0, "Threads that run models; 0 = four for each CPU.")
    enable_grpc_healthcheck_service: bool = _flag(False, "Enable the standard gRPC health service.")
    model_name: str = _flag("default", "Name of the model (ignored with --model_config_file).", group="Models")
    model_base_path: str = _flag("", "Directory of the model's versions (ignored with --model_config_file).")
    model_config_file: str = _flag("", "ModelServerConfig in text protobuf: the models to serve.")
    model_config_file_poll_wait_seconds: float = _flag(
        0.0, "Interval between looks at that file; 0 = read it once.", least=-1
    )
    allow_version_labels_for_unavailable_models: bool = _flag(False, "Let a label name a version not AVAILABLE yet.")
    saved_model_tags: str = _flag("serve", "Comma-separated tags of the graph to load from a SavedModel.")
    file_system_poll_wait_seconds: float = _flag(1.0, "Interval between looks for new versions; 0 = look once.")
    num_load_threads: int = _flag(0, "Threads that load versions; 0 = one.", group="Loading")
    num_unload_threads: int = _flag(0, "Threads that unload versions; 0 = one.")
    max_num_load_retries: int = _flag(5, "How often a failed load is tried again.")
    load_timeout_seconds: float = _flag(600.0, "Time for a load; the next one takes its place then. 0 = no limit.")
    require_manifest: bool = _flag(False, "Serve no version without a manifest of its files and a passed self-test.")
    require_signature: str = _flag("", "PEM files of public keys, comma-separated: serve only what one of them signed.")
    load_retry_interval_micros: int = _flag(60_000_000, "Time between the tries.", least=-1, most=_INT64_MAX)
    flush_filesystem_caches: bool = _flag(True, "Accepted; the operating system sees to it.")
    enable_model_warmup: bool = _flag(True, "Replay assets.extra/tf_serving_warmup_requests before a version serves.")
    num_request_iterations_for_warmup: int = _flag(0, "How often each warmup request is replayed; 0 = once.")
    enable_batching: bool = _flag(False, "Merge requests that wait into one run.", group="Batching")
    batching_parameters_file: str = _flag("", "BatchingParameters in text protobuf.")
    enable_per_model_batching_parameters: bool = _flag(False, "Read batching_params.pbtxt in each version's directory.")
    tensorflow_session_parallelism: int = _flag(
        0, "Threads of a session, intra- and inter-op; 0 = decided here.", group="Runtime", least=-1
    )
    tensorflow_intra_op_parallelism: int = _flag(0, "Threads within an operation; 0 = TensorFlow decides.", least=-1)
    tensorflow_inter_op_parallelism: int = _flag(
        0, "Operations at a time; 0 = they run in the request's thread.", least=-1
    )
    tensorflow_session_config_file: str = _flag("", "tensorflow.ConfigProto in text protobuf.")
    platform_config_file: str = _refused("", "this server has one platform, tensorflow: leave the flag out")
    per_process_gpu_memory_fraction: float = _flag(0.0, "Share of the GPU's memory; 0 = TensorFlow decides.")
    mixed_precision: str = _ignored("", "the graph runs in the precision it was exported in")
    xla_cpu_compilation_enabled: bool = _ignored(False, "this TensorFlow has XLA built in")
    xla_gpu_compilation_enabled: bool = _ignored(False, "this TensorFlow has XLA built in")
    thread_pool_factory_config_file: str = _ignored("", "TensorFlow's own thread pools are used")
    skip_initialize_tpu: bool = _ignored(False, "there is no TPU here")
    remove_unused_fields_from_bundle_metagraph: bool = _flag(True, "Accepted; only the signatures are kept.")
    enable_signature_method_name_check: bool = _flag(
        False, "Hold requests against the signature's method name.", group="Signatures and output"
    )
    enable_serialization_as_tensor_content: bool = _flag(False, "Answer with tensor_content instead of float_val etc.")
    ssl_config_file: str = _flag("", "SSLConfig in text protobuf: TLS for all ports.", group="Security and operation")
    token_file: str = _flag("", "Tokens of those who may ask, `NAME SHA256 SCOPE` in each line. Absent: everybody may.")
    use_alts_credentials: bool = _refused(False, "ALTS exists on Google Cloud only: use --ssl_config_file for TLS")
    monitoring_config_file: str = _flag("", "MonitoringConfig in text protobuf: Prometheus metrics over REST.")
    metrics_port: int | None = _flag(
        None, "TCP port for the metrics alone, with /healthz and /readyz. Absent: the REST port.", int, most=_MAX_PORT
    )
    enable_profiler: bool | None = _flag(
        None, "Answer TensorFlow's profiler, to callers on this machine; absent: if --host is the loopback.", bool
    )
    profiler_directory: str = _flag(
        "", "What the profiler's traces are written below; absent: the temporary directory."
    )
    prefer_tflite_model: bool = _flag(False, "Serve a version's model.tflite by LiteRT, where it has one.")
    num_tflite_pools: int = _flag(0, "Interpreters, or groups of them, that LiteRT keeps for a model; 0 = one a CPU.")
    num_tflite_interpreters_per_pool: int = _flag(0, "Interpreters that a batch is split over; 0 = it is not split.")
    version: bool = _flag(False, "Print the version and exit.")
    runtime: str = _flag(
        "",
        "The only runtime: tensorflow or litert. Absent: TensorFlow where it is installed.",
        choices=RUNTIMES,
        group="Our own",
    )
    host: str = _flag("127.0.0.1", "Address to listen on; TF Serving listens on all.")
    workers: int = _flag(1, "Processes that share the ports.", least=1, most=_MAX_WORKERS)
    worker_timeout_seconds: float = _flag(30.0, "A worker without a sign of life for so long is replaced; 0 = never.")
    access_log: bool = _flag(False, "Write one line of JSON for each request to stdout.")
    log_format: str = _flag("text", "Of the server's own log, on stderr: text or json.", choices=FORMATS)
    shadow_label: str = _flag("", "Run some requests again on the version of this label, and count where it differs.")
    shadow_rate: float = _flag(0.05, "Share of the Predict requests for --shadow_label, by chance.", most=1)
    record_filename_prefix: str = _flag(
        "", "Record requests and answers in files whose names begin so, where no logging_config says otherwise."
    )
    record_sampling_rate: float = _flag(0.01, "Share of the requests that are recorded, by chance.", most=1)
    record_answers_only: bool = _flag(False, "Leave the inputs out of all records.")
    record_max_file_bytes: int = _flag(64 * 2**20, "Larger files of records are ended.", least=2**10, most=_INT64_MAX)
    record_max_file_seconds: float = _flag(3600.0, "Older files of records are ended.", least=1)
    record_max_total_bytes: int = _flag(
        2**30, "Of all files of records: the oldest are removed.", least=2**12, most=_INT64_MAX
    )
    shutdown_grace_seconds: float = _flag(10.0, "Time for the requests in flight after SIGTERM.")
    reload_deadline_seconds: float = _flag(120.0, "How long a reload may take before it is answered DEADLINE_EXCEEDED.")
    reload_from: str = _flag(
        "loopback", "Who may ask for a reload: loopback (UNIX sockets too), anyone or nobody.", choices=RELOAD_FROM
    )
    max_concurrent_requests: int = _flag(
        _LIMITS.max_concurrent_requests, "More get RESOURCE_EXHAUSTED / 429; 0 = no limit.", group="Limits"
    )
    max_request_bytes: int = _flag(
        _LIMITS.max_body_bytes, "Larger ones get RESOURCE_EXHAUSTED / 429.", least=1, most=_INT64_MAX
    )
    max_request_rows: int = _flag(_LIMITS.max_request_rows, "Larger batches get INVALID_ARGUMENT / 400; 0 = no limit.")
    max_tensor_bytes: int = _flag(
        _LIMITS.max_tensor_bytes, "Larger input tensors get INVALID_ARGUMENT / 400.", least=1, most=_INT64_MAX
    )
    max_request_elements: int = _flag(
        _LIMITS.max_request_elements, "Of JSON values or message fields; more get RESOURCE_EXHAUSTED / 429.", least=1
    )
    max_bytes_in_flight: int = _flag(
        _LIMITS.max_bytes_in_flight,
        "Of requests and answers on both ports; 0 = an eighth of the memory that is left.",
        most=_INT64_MAX,
    )
    max_connections: int = _flag(_LIMITS.max_connections, "On both ports, of each process; 0 = no limit.")
    max_connections_per_address: int = _flag(
        _LIMITS.max_connections_per_address, "The same, of each client address; 0 = no limit."
    )
    header_timeout_seconds: float = _flag(
        _LIMITS.header_timeout_seconds,
        "Time for a connection's first bytes, and for a request's headers.",
        least=_LEAST_SECONDS,
    )
    stall_timeout_seconds: float = _flag(
        _LIMITS.stall_timeout_seconds,
        "How long a message may come to a halt, or an answer stay unread.",
        least=_LEAST_SECONDS,
    )
    idle_timeout_seconds: float = _flag(
        _LIMITS.idle_timeout_seconds, "How long a REST connection is kept between requests.", least=_LEAST_SECONDS
    )
    verbose: bool = _flag(False, "Let TensorFlow's own messages through, and tracebacks.", group="Process")
    help: bool = _flag(False, "Print this text and exit.")
    worker_index: int = _flag(-1, "Set by the parent of worker processes.", least=-1, most=_MAX_WORKERS)
    worker_directory: str = _flag("", "Set by the parent of worker processes.")


def parse(arguments: Sequence[str], environment: Mapping[str, str] | None = None) -> Flags:
    """The flags of a command line: `--flag=value`, `--flag value`, `-flag=value`; a boolean alone means true.

    environment: MODEL_NAME and MODEL_BASE_PATH stand in for --model_name and --model_base_path, as in the official
    image's entry point. Raises ServerConfigError for a flag that there is not, or a value that does not fit.
    """
    fields = {field.name: field for field in dataclasses.fields(Flags)}
    values: dict[str, Any] = {}
    rest = list(arguments)
    while rest:
        argument = rest.pop(0)
        name, has_value, text = argument.removeprefix("-").removeprefix("-").partition("=")
        if not argument.startswith("-") or name not in fields:
            raise ServerConfigError(f"unknown argument: {argument}{_meant(name)}")
        field = fields[name]
        if not has_value:
            text = _next_value(name, field.metadata["kind"], rest)
        values[name] = _value(field, text)
    return Flags(**_with_environment(values, os.environ if environment is None else environment))


def notices(flags: Flags) -> list[str]:
    """A line for each flag that is given and cannot work here but can be gone without.

    Raises ServerConfigError for one that cannot be gone without, and for flags that contradict each other.
    """
    changed = [field for field in dataclasses.fields(Flags) if getattr(flags, field.name) != field.default]
    for field in changed:
        if field.metadata["state"] == _REFUSED:
            raise ServerConfigError(f"--{field.name} cannot be followed: {field.metadata['reason']}")
    if flags.batching_parameters_file and not flags.enable_batching:
        raise ServerConfigError("--batching_parameters_file is given without --enable_batching")
    if not flags.record_filename_prefix and "record_sampling_rate" in {field.name for field in changed}:
        raise ServerConfigError("--record_sampling_rate is given without --record_filename_prefix")
    if flags.shadow_label and not flags.monitoring_config_file and flags.metrics_port is None:
        raise ServerConfigError(
            "--shadow_label is given without metrics, which have its results: give --monitoring_config_file or "
            "--metrics_port"
        )
    _check_ports(flags)
    return [
        f"--{field.name} is ignored: {field.metadata['reason']}"
        for field in changed
        if field.metadata["state"] == _IGNORED
    ]


def _check_ports(flags: Flags) -> None:
    ports = {name: getattr(flags, name) for name in ("port", "rest_api_port", "metrics_port")}
    for name, other in itertools.combinations(ports, 2):
        if ports[name] == ports[other] and (ports[name] or 0) > 0:
            raise ServerConfigError(f"--{other} cannot be the same as --{name}: {ports[name]}")
    if flags.workers > 1 and (0 in ports.values() or flags.grpc_socket_path):
        raise ServerConfigError("--workers needs ports of its own: give --port and --rest_api_port, no 0, no socket")


def groups() -> dict[str, list[str]]:
    """The names of the flags, by the group that they are in."""
    names: dict[str, list[str]] = {}
    for field in dataclasses.fields(Flags):
        if field.metadata["group"]:
            group = names[field.metadata["group"]] = []
        group.append(field.name)
    return names


def usage() -> str:
    """The text of --help: a line for each flag, in groups."""
    fields = {field.name: field for field in dataclasses.fields(Flags)}
    lines = ["usage: python -m serving.embedded [flags]"]
    for group, names in groups().items():
        lines += ["", f"{group}:"]
        for field in map(fields.__getitem__, names):
            default = "" if field.default is None else field.default
            text = f"--{field.name}={str(default).lower() if isinstance(default, bool) else default}"
            lines.append(f"  {text:<44}  {field.metadata['help']}")
    example = (
        "Example: python -m serving.embedded --port=8500 --rest_api_port=8501 "
        "--model_name=fashion_mnist --model_base_path=$PWD/models/fashion_mnist"
    )
    return "\n".join([*lines, "", example, ""])


def _with_environment(values: dict[str, Any], environment: Mapping[str, str]) -> dict[str, Any]:
    """The image's entry point: --model_name=$MODEL_NAME --model_base_path=$MODEL_BASE_PATH/$MODEL_NAME."""
    if "model_config_file" in values:
        return values
    defaults = {}
    if name := environment.get("MODEL_NAME"):
        defaults["model_name"] = name
    if base := environment.get("MODEL_BASE_PATH"):
        name = values.get("model_name", name) or "model"
        defaults["model_base_path"] = os.path.join(base, name)  # noqa: PTH118 - kept as given
    return defaults | values


def _next_value(name: str, kind: type, rest: list[str]) -> str:
    if kind is bool:
        return rest.pop(0) if rest and rest[0].lower() in ("true", "false") else "true"
    if not rest:
        raise ServerConfigError(f"--{name} needs a value: --{name}=...")
    return rest.pop(0)


def _meant(name: str) -> str:
    """What to say of a flag that there is not: the one that is most like it, if any is."""
    names = [field.name for field in dataclasses.fields(Flags)]
    return "".join(f": did you mean --{match}?" for match in difflib.get_close_matches(name, names, 1))


def _value(field: dataclasses.Field[Any], text: str) -> Any:
    kind, choices = field.metadata["kind"], field.metadata["choices"]
    try:
        value = _BOOLEANS[text.lower()] if kind is bool else kind(text)
        is_fitting = field.metadata["least"] <= value <= field.metadata["most"] if kind in _RANGES else True
    except (KeyError, ValueError):
        is_fitting = False
    if not is_fitting or (choices and text not in choices):
        raise ServerConfigError(f"Couldn't interpret value {text} for flag {field.name}: expected {_expected(field)}")
    return value


def _expected(field: dataclasses.Field[Any]) -> str:
    """What a flag takes, in words."""
    kind, least, most = (field.metadata[key] for key in ("kind", "least", "most"))
    if kind is bool:
        return "true or false"
    if kind is str:
        return f"one of {', '.join(field.metadata['choices'])}"
    return f"a {'whole ' if kind is int else ''}number from {least:g} to {most}"

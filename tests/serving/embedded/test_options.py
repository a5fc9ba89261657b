"""What the flags and the files that they name come to."""

from __future__ import annotations

import os
import tempfile
from pathlib import Path
from typing import Any

import pytest

from fashion_common.layout import BATCHING_FILE
from serving.embedded import options
from serving.embedded.flags import Flags
from serving.embedded.inference.batch_queue import BatchingOptions
from serving.embedded.limits import Limits
from serving.embedded.models.storage import VersionDirectory
from serving.errors import InvalidArgument, ServerConfigError


@pytest.fixture
def version(tmp_path: Path) -> Path:
    """The directory of a version that has batching parameters of its own."""
    directory = tmp_path / "1"
    directory.mkdir()
    written(directory / BATCHING_FILE, "max_batch_size { value: 4 } allowed_batch_sizes: [2, 4]")
    return directory


def written(path: Path, text: str) -> str:
    """The path of a file with this text."""
    path.write_text(text)
    return str(path)


def batching(flags: Flags, version: Path) -> BatchingOptions | None:
    """The batching options of the version in a directory."""
    return options.batching_options_of(flags)(VersionDirectory(version))


def test_without_batching_there_are_no_options(version: Path) -> None:
    """Whatever a version's directory holds."""
    assert batching(Flags(enable_per_model_batching_parameters=True), version) is None


def test_common_batching_parameters(version: Path, tmp_path: Path) -> None:
    """Those of the file, or TF Serving's defaults; the versions' own do not count."""
    file = written(tmp_path / "batching.config", "max_batch_size { value: 32 } batch_timeout_micros { value: 500 }")

    common = batching(Flags(enable_batching=True, batching_parameters_file=file), version)
    defaults = batching(Flags(enable_batching=True), version)

    assert common == BatchingOptions(max_batch_size=32, batch_timeout_seconds=0.0005)
    assert defaults == BatchingOptions()


def test_per_model_batching_parameters(version: Path, tmp_path: Path) -> None:
    """A version with a file of its own has that one's, one without is not batched: the common ones do not count."""
    common = written(tmp_path / "batching.config", "max_batch_size { value: 32 }")
    flags = Flags(enable_batching=True, enable_per_model_batching_parameters=True, batching_parameters_file=common)

    assert batching(flags, version) == BatchingOptions(max_batch_size=4, allowed_batch_sizes=(2, 4))
    written(version / BATCHING_FILE, "max_enqueued_batches { value: 7 }")
    assert batching(flags, version) == BatchingOptions(max_enqueued_batches=7)
    (version / BATCHING_FILE).unlink()
    assert batching(flags, version) is None


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("nope: 1", "Error parsing text-format tensorflow.serving.BatchingParameters: 1:1: "),
        ("max_batch_size { value: 0 }", "max_batch_size must be positive; was 0"),
    ],
)
def test_per_model_parameters_that_cannot_be(version: Path, text: str, message: str) -> None:
    """The version is not loaded, provided that the flags ask for them."""
    written(version / BATCHING_FILE, text)

    batching(Flags(enable_batching=True), version)
    batching(Flags(enable_per_model_batching_parameters=True), version)
    with pytest.raises(InvalidArgument, match=message):
        batching(Flags(enable_batching=True, enable_per_model_batching_parameters=True), version)


@pytest.mark.parametrize(
    ("flags", "intra", "inter"),
    [
        (Flags(), 0, -1),
        (Flags(tensorflow_session_parallelism=3), 3, 3),
        (Flags(tensorflow_session_parallelism=3, tensorflow_intra_op_parallelism=5), 5, 3),
        (Flags(tensorflow_session_parallelism=3, tensorflow_inter_op_parallelism=6), 3, 6),
    ],
    ids=["defaults", "both", "intra", "inter"],
)
def test_session_parallelism(flags: Flags, intra: int, inter: int) -> None:
    """Each of the two flags comes before the one for both; operations run in the request's thread unless asked."""
    config = options.session_config(flags)

    assert (config.intra_op_parallelism_threads, config.inter_op_parallelism_threads) == (intra, inter)


def test_the_session_config_file(tmp_path: Path) -> None:
    """What it says holds where no flag says otherwise."""
    file = written(
        tmp_path / "session.config",
        "intra_op_parallelism_threads: 7 inter_op_parallelism_threads: 8 use_per_session_threads: true "
        "gpu_options { per_process_gpu_memory_fraction: 0.25 allow_growth: true }",
    )

    alone = options.session_config(Flags(tensorflow_session_config_file=file))
    combined = options.session_config(
        Flags(
            tensorflow_session_config_file=file,
            tensorflow_intra_op_parallelism=2,
            per_process_gpu_memory_fraction=0.5,
        )
    )

    assert (alone.intra_op_parallelism_threads, alone.inter_op_parallelism_threads) == (7, 8)
    assert alone.gpu_options.per_process_gpu_memory_fraction == 0.25
    assert (combined.intra_op_parallelism_threads, combined.inter_op_parallelism_threads) == (2, 8)
    assert combined.gpu_options.per_process_gpu_memory_fraction == 0.5
    for config in (alone, combined):
        assert config.use_per_session_threads
        assert config.gpu_options.allow_growth


@pytest.mark.parametrize(
    ("flag", "message"),
    [
        ("model_config_file", "ModelServerConfig"),
        ("tensorflow_session_config_file", "ConfigProto"),
        ("batching_parameters_file", "BatchingParameters"),
        ("ssl_config_file", "SSLConfig"),
        ("monitoring_config_file", "MonitoringConfig"),
    ],
)
def test_files_that_do_not_parse(tmp_path: Path, flag: str, message: str) -> None:
    """The error has TF Serving's text, with the place, and comes before anything starts; so for a missing file."""
    file = tmp_path / "a.config"
    values: dict[str, Any] = {"model_base_path": "/m", "enable_batching": True, flag: str(file)}
    flags = Flags(**values)

    with pytest.raises(ServerConfigError, match=f"Cannot read {file}: "):
        options.check(flags)
    file.write_text("\n nope: 1")
    with pytest.raises(ServerConfigError) as raised:
        options.check(flags)

    first, last = str(raised.value).splitlines()
    assert first.startswith("Error parsing text-format tensorflow.")
    assert f'{message}: 2:2: Message type "' in first
    assert last == f"Invalid protobuf file: '{file}'"


@pytest.mark.parametrize(
    ("flags", "threads"),
    [
        (Flags(), 4 * (os.cpu_count() or 1)),
        (Flags(grpc_max_threads=3), 3),
        (Flags(rest_api_num_threads=5), 5),
        (Flags(grpc_max_threads=3, rest_api_num_threads=5), 5),
        (Flags(grpc_max_threads=6, rest_api_num_threads=5), 6),
    ],
    ids=["defaults", "grpc", "rest", "rest is larger", "grpc is larger"],
)
def test_threads_that_run_models(flags: Flags, threads: int) -> None:
    """The larger of the two flags, else four for each CPU."""
    assert options.run_threads(flags) == threads


def test_limits_without_flags() -> None:
    """The flags' defaults are the limits' own."""
    assert options.limits(Flags()) == Limits()


@pytest.mark.parametrize(
    ("flags", "limits"),
    [
        (Flags(max_request_bytes=1000), Limits(max_body_bytes=1000, max_message_bytes=1000)),
        (
            Flags(max_concurrent_requests=0, max_request_rows=7, max_tensor_bytes=8),
            Limits(max_concurrent_requests=0, max_request_rows=7, max_tensor_bytes=8),
        ),
        (
            Flags(grpc_channel_arguments="grpc.max_receive_message_length=5,grpc.max_send_message_length=6,grpc.x=y"),
            Limits(max_message_bytes=5, max_response_bytes=6),
        ),
        (Flags(grpc_channel_arguments="grpc.max_concurrent_streams=9"), Limits(max_streams=9)),
        (Flags(grpc_channel_arguments="grpc.max_receive_message_length=-1"), Limits(max_message_bytes=2**31 - 1)),
        (Flags(max_request_bytes=2**40), Limits(max_body_bytes=2**40, max_message_bytes=2**31 - 1)),
    ],
    ids=["bytes", "requests, rows and tensors", "messages", "streams", "gRPC's no limit", "more than gRPC has"],
)
def test_limits(flags: Flags, limits: Limits) -> None:
    """Each comes from the flag of its name; gRPC's argument for the same thing comes first."""
    assert options.limits(flags) == limits


def test_an_argument_without_a_value() -> None:
    """It is refused."""
    with pytest.raises(ServerConfigError, match=r"grpc\.max_concurrent_streams has no value"):
        options.limits(Flags(grpc_channel_arguments="grpc.max_concurrent_streams"))


@pytest.mark.parametrize(
    ("flags", "directory"),
    [
        (Flags(), Path(tempfile.gettempdir())),
        (Flags(host="localhost", profiler_directory="/traces"), Path("/traces")),
        (Flags(host="::1", enable_profiler=False), None),
        (Flags(host="0.0.0.0"), None),
        (Flags(host="::"), None),
        (Flags(host="no.such.host.invalid"), None),
        (Flags(host="0.0.0.0", enable_profiler=True), Path(tempfile.gettempdir())),
    ],
)
def test_the_profiler(flags: Flags, directory: Path | None) -> None:
    """It is there unasked only where the server listens on the loopback alone."""
    assert options.profiler_directory(flags) == directory


def test_where_the_metrics_are(tmp_path: Path) -> None:
    """Where the file says; a port for them alone asks for them without a file."""
    file = written(tmp_path / "monitoring.config", "prometheus_config { enable: true path: '/m' }")
    off = written(tmp_path / "off.config", "prometheus_config { enable: false }")

    assert options.metrics_path(Flags()) == ""
    assert options.metrics_path(Flags(monitoring_config_file=file)) == "/m"
    assert options.metrics_path(Flags(metrics_port=9090)) == "/monitoring/prometheus/metrics"
    assert options.metrics_path(Flags(metrics_port=9090, monitoring_config_file=file)) == "/m"
    assert options.metrics_path(Flags(metrics_port=9090, monitoring_config_file=off)) == ""

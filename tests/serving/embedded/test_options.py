"""What the flags and the files that they name come to."""

from __future__ import annotations

import logging
import os
import re
import tempfile
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from fashion_common.layout import BATCHING_FILE
from serving.embedded import options
from serving.embedded.flags import Flags
from serving.embedded.inference.batch_queue import BatchingOptions
from serving.embedded.limits import Limits
from serving.embedded.models.storage import VersionDirectory
from serving.errors import FailedPrecondition, InvalidArgument, ServerConfigError
from tests.support.keys import key_pair, write_version


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


def test_the_models_of_the_flags(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """One, by its name and absolute base path; or those of the file. Without either the start ends."""
    monkeypatch.chdir(tmp_path)
    (model,) = options.model_server_config(Flags(model_name="m", model_base_path="models")).model_config_list.config
    assert (model.name, model.base_path, model.model_platform) == ("m", f"{tmp_path}/models", "tensorflow")
    file = written(tmp_path / "models.config", "model_config_list { config { name: 'a' } config { name: 'b' } }")
    config = options.model_server_config(Flags(model_config_file=file, model_base_path="models"))
    assert [each.name for each in config.model_config_list.config] == ["a", "b"]
    with pytest.raises(ServerConfigError) as raised:
        options.model_server_config(Flags())
    assert str(raised.value) == (
        "--model_base_path is missing: give the directory that holds the model's versions, or --model_config_file"
    )
    with pytest.raises(ServerConfigError) as raised:
        options.model_server_config(Flags(model_base_path="s3://key:secret@host/m"))
    assert str(raised.value) == (
        "s3://host/m is an address, and this server reads this machine's disk only: `fashion pull s3://host/m --watch` "
        "brings its versions there, `fashion serve --model-base-path` serves them too"
    )


def test_what_the_flags_say_of_recording(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Where it begins, which may be a directory, and how large its files become: each worker has room for two."""
    monkeypatch.chdir(tmp_path)
    assert options.request_logging(Flags()) is None
    for prefix, absolute in (("r", f"{tmp_path}/r"), ("d/", f"{tmp_path}/d/"), ("/r", "/r")):
        flags = Flags(record_filename_prefix=prefix, record_sampling_rate=0.5)
        assert options.request_logging(flags) == (absolute, 0.5)
    flags = Flags(record_max_file_bytes=1000, record_max_total_bytes=8000, record_max_file_seconds=7.0, workers=2)
    for changed, file_bytes in ((flags, 1000), (replace(flags, workers=4), 1000), (replace(flags, workers=5), 800)):
        made: Any = options.recording_writer(changed)
        assert made.keywords == {"max_file_bytes": file_bytes, "max_age_seconds": 7.0, "max_total_bytes": 8000}


def test_what_runtimes_are_told() -> None:
    """The flags of each."""
    flags = Flags(
        runtime="litert", prefer_tflite_model=True, saved_model_tags="serve,gpu", num_tflite_pools=2,
        num_tflite_interpreters_per_pool=3,
    )  # fmt: skip
    told = options.runtime_options(flags)
    assert told == ("litert", True, ("serve", "gpu"), options.session_config(flags).SerializeToString(), 2, 3)


@pytest.mark.parametrize(
    ("arguments", "times"),
    [
        ("", (None, None, None)),
        ("grpc.max_connection_idle_ms=1500", (1.5, None, None)),
        ("grpc.max_connection_age_ms=2000,grpc.max_connection_age_grace_ms=0", (None, 2.0, 0.0)),
        ("grpc.max_connection_age_ms=-1", (None, None, None)),
        ("grpc.max_connection_age_ms=2147483647", (None, None, None)),
        ("grpc.max_connection_age_ms=2147483646", (None, 2147483.646, None)),
        ("grpc.max_connection_age_ms=soon,,a=b", (None, None, None)),
    ],
)
def test_how_long_connections_may_live(arguments: str, times: tuple[float | None, ...]) -> None:
    """gRPC's arguments are in milliseconds; -1, and the largest, are no end."""
    flags = Flags(grpc_channel_arguments=arguments)
    limits = options.limits(flags)
    made = options.connection_options(flags, limits)
    assert (made.max_idle, made.max_age, made.max_age_grace) == times
    assert made.limits is limits


def test_the_text_of_an_argument_without_a_value() -> None:
    """It says what is expected."""
    with pytest.raises(ServerConfigError) as raised:
        options.limits(Flags(grpc_channel_arguments="grpc.x"))
    assert str(raised.value) == "--grpc_channel_arguments: grpc.x has no value: expected grpc.x=..."


def test_every_limit_has_its_flag() -> None:
    """Of those that have one."""
    flags = Flags(
        max_concurrent_requests=1, max_request_bytes=2, max_request_rows=3, max_tensor_bytes=4, max_request_elements=5,
        max_bytes_in_flight=6, max_connections=7, max_connections_per_address=8, header_timeout_seconds=9.0,
        stall_timeout_seconds=10.0, idle_timeout_seconds=11.0,
    )  # fmt: skip
    assert options.limits(flags) == Limits(
        max_concurrent_requests=1, max_body_bytes=2, max_message_bytes=2, max_request_rows=3, max_tensor_bytes=4,
        max_request_elements=5, max_bytes_in_flight=6, max_connections=7, max_connections_per_address=8,
        header_timeout_seconds=9.0, stall_timeout_seconds=10.0, idle_timeout_seconds=11.0,
    )  # fmt: skip


def test_a_signature_is_checked_by_the_keys_of_the_flag(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    """One of several is enough; the log says which, and a version that none signed is refused."""
    caplog.set_level(logging.INFO)
    pair, other = key_pair(tmp_path, "release"), key_pair(tmp_path, "other")
    signed, unsigned = (VersionDirectory(write_version(tmp_path / name)) for name in ("1", "2"))
    pair.sign(tmp_path / "1")
    check = options.signature_check(Flags(require_signature=f"{other.public},,{pair.public}"))
    assert check
    check(signed)
    (message,) = caplog.messages
    assert re.fullmatch(rf"{tmp_path}/1: \d+ files are as signed with {pair.public}", message)
    with pytest.raises(FailedPrecondition) as raised:
        check(unsigned)
    assert str(raised.value) == "--require_signature: the version is not signed: it has no model.sig"


def test_who_may_ask(tmp_path: Path) -> None:
    """Everybody, unless a file has tokens."""
    assert options.access(Flags()).lets_everybody_in
    tokens = written(tmp_path / "tokens", "# nobody")
    made = options.access(Flags(token_file=tokens))
    assert (made.lets_everybody_in, made.certificates) == (False, None)

"""The command line, as tensorflow_model_server reads it."""

from __future__ import annotations

import re
from dataclasses import asdict, fields

import pytest

from serving.embedded.flags import Flags, notices, parse, usage
from serving.errors import ServerConfigError

# What is on, or not 0 and not empty, without a flag.
DEFAULTS = {
    "port": 8500, "rest_api_timeout_in_ms": 30000, "model_name": "default", "saved_model_tags": "serve",
    "file_system_poll_wait_seconds": 1.0, "max_num_load_retries": 5, "load_timeout_seconds": 600.0,
    "load_retry_interval_micros": 60_000_000, "flush_filesystem_caches": True, "enable_model_warmup": True,
    "remove_unused_fields_from_bundle_metagraph": True, "host": "127.0.0.1", "workers": 1,
    "worker_timeout_seconds": 30.0, "shutdown_grace_seconds": 10.0, "reload_deadline_seconds": 120.0,
    "reload_from": "loopback", "max_concurrent_requests": 4096, "max_request_bytes": 256 * 2**20,
    "max_tensor_bytes": 256 * 2**20, "max_request_elements": 2**20, "max_connections": 4096,
    "max_connections_per_address": 1024, "header_timeout_seconds": 20.0, "stall_timeout_seconds": 20.0,
    "idle_timeout_seconds": 75.0, "worker_index": -1, "shadow_rate": 0.05, "log_format": "text",
    "record_sampling_rate": 0.01, "record_max_file_bytes": 64 * 2**20,
    "record_max_file_seconds": 3600.0, "record_max_total_bytes": 2**30,
}  # fmt: skip


def test_defaults() -> None:
    """TF Serving's, where it has the flag, but for the host; no REST port, no metrics port."""
    flags = parse([])

    assert flags == Flags()
    assert {name: value for name, value in asdict(flags).items() if value} == DEFAULTS
    assert [name for name, value in asdict(flags).items() if value is None] == [
        "rest_api_port", "metrics_port", "enable_profiler",
    ]  # fmt: skip


@pytest.mark.parametrize(
    "arguments", [["--port=0", "--verbose"], ["--port", "0", "--verbose=true"], ["-port=0", "-verbose", "true"]]
)
def test_ways_to_write_a_flag(arguments: list[str]) -> None:
    """With = or a space, one dash or two; a boolean alone is true."""
    assert parse(arguments) == Flags(port=0, verbose=True)


@pytest.mark.parametrize(
    ("text", "value"),
    [("true", True), ("1", True), ("yes", True), ("false", False), ("0", False), ("no", False)],
)
def test_ways_to_write_a_boolean(text: str, value: bool) -> None:
    """Those of TensorFlow's own parser, and two more."""
    assert parse([f"--verbose={text}"]) == Flags(verbose=value)


@pytest.mark.parametrize(
    ("argument", "message"),
    [
        ("--nope=1", "unknown argument: --nope=1"),
        ("nope", "unknown argument: nope"),
        ("--prot=1", "unknown argument: --prot=1: did you mean --port?"),
        ("--port=x", "Couldn't interpret value x for flag port: expected a whole number from -1 to 65535"),
        ("--port=99999", "Couldn't interpret value 99999 for flag port: expected a whole number from -1 to 65535"),
        ("--workers=0", "Couldn't interpret value 0 for flag workers: expected a whole number from 1 to 1024"),
        (
            "--max_request_rows=-1",
            "Couldn't interpret value -1 for flag max_request_rows: expected a whole number from 0 to 2147483647",
        ),
        (
            "--idle_timeout_seconds=nan",
            "Couldn't interpret value nan for flag idle_timeout_seconds: expected a number from 0.1 to 1000000000",
        ),
        ("--verbose=x", "Couldn't interpret value x for flag verbose: expected true or false"),
        ("--port", "--port needs a value: --port=..."),
    ],
)
def test_mistakes(argument: str, message: str) -> None:
    """The text names the flag and what it takes."""
    with pytest.raises(ServerConfigError) as raised:
        parse([argument])
    assert str(raised.value) == message


@pytest.mark.parametrize("name", [field.name for field in fields(Flags) if field.metadata["kind"] in (int, float)])
def test_every_number_has_a_range(name: str) -> None:
    """Its default is within, and what no number of the kind should be is not."""
    (field,) = (field for field in fields(Flags) if field.name == name)
    if field.default is not None:
        parse([f"--{name}={field.default}"])
    for value in ("-2", "nan", "inf", "-inf", "1" + "0" * 30, "", "0x1"):
        with pytest.raises(ServerConfigError, match=f"^Couldn't interpret value {value} for flag {name}: expected a "):
            parse([f"--{name}={value}"])


RANGES: dict[tuple[float, float], list[str]] = {
    (0, 2**31 - 1): [
        "rest_api_num_threads", "grpc_max_threads", "num_load_threads", "num_unload_threads", "max_num_load_retries",
        "num_request_iterations_for_warmup", "num_tflite_pools", "num_tflite_interpreters_per_pool",
        "max_concurrent_requests", "max_request_rows", "max_connections", "max_connections_per_address",
    ],
    (-1, 2**31 - 1): [
        "rest_api_timeout_in_ms", "tensorflow_session_parallelism", "tensorflow_intra_op_parallelism",
        "tensorflow_inter_op_parallelism",
    ],
    (0, 10**9): [
        "file_system_poll_wait_seconds", "load_timeout_seconds", "per_process_gpu_memory_fraction",
        "worker_timeout_seconds", "shutdown_grace_seconds", "reload_deadline_seconds",
    ],
    (-1, 10**9): ["model_config_file_poll_wait_seconds"],
    (0, 1): ["record_sampling_rate", "shadow_rate"],
    (1, 10**9): ["record_max_file_seconds"],
    (2**10, 2**63 - 1): ["record_max_file_bytes"],
    (2**12, 2**63 - 1): ["record_max_total_bytes"],
    (0.1, 10**9): ["header_timeout_seconds", "stall_timeout_seconds", "idle_timeout_seconds"],
    (-1, 65535): ["port", "rest_api_port"],
    (0, 65535): ["metrics_port"],
    (1, 1024): ["workers"],
    (-1, 1024): ["worker_index"],
    (1, 2**31 - 1): ["max_request_elements"],
    (-1, 2**63 - 1): ["load_retry_interval_micros"],
    (0, 2**63 - 1): ["max_bytes_in_flight"],
    (1, 2**63 - 1): ["max_request_bytes", "max_tensor_bytes"],
}  # fmt: skip


@pytest.mark.parametrize(
    ("name", "least", "most"), [(name, *edges) for edges, names in RANGES.items() for name in names]
)
def test_a_number_may_be_at_the_edges_of_its_range_and_not_beyond(name: str, least: float, most: float) -> None:
    """One further, or a little less than a tenth of a second."""
    for value in (least, most):
        assert getattr(parse([f"--{name}={value}"]), name) == value
    for value in (least - (0.001 if name.endswith("timeout_seconds") else 1), most + 1):
        with pytest.raises(ServerConfigError, match=f"for flag {name}: expected a "):
            parse([f"--{name}={value}"])


def test_these_are_all_numbers() -> None:
    """A new one needs its edges here."""
    numbers = {field.name for field in fields(Flags) if field.metadata["kind"] in (int, float)}
    assert {name for names in RANGES.values() for name in names} == numbers


@pytest.mark.parametrize(
    "name", ["rest_api_timeout_in_ms", "model_config_file_poll_wait_seconds", "load_retry_interval_micros"]
)
def test_numbers_that_tf_serving_takes_below_zero(name: str) -> None:
    """-1 is no limit, no second look and no wait, as 0 is."""
    assert getattr(parse([f"--{name}=-1"]), name) == -1


def test_a_boolean_takes_the_next_word_only_if_it_is_one() -> None:
    """Of true and false."""
    assert parse(["--verbose", "--port=1"]) == Flags(verbose=True, port=1)
    assert parse(["--verbose", "FALSE", "--port", "1"]) == Flags(verbose=False, port=1)
    assert parse(["--verbose", "TRUE"]) == Flags(verbose=True)
    with pytest.raises(ServerConfigError, match=r"^unknown argument: yes$"):
        parse(["--verbose", "yes"])
    with pytest.raises(ServerConfigError, match=r"^unknown argument: ---port=1: did you mean --port\?$"):
        parse(["---port=1"])


@pytest.mark.parametrize(
    ("name", "choices"),
    [
        ("reload_from", "loopback, anyone, nobody"),
        ("log_format", "text, json"),
        ("runtime", "tensorflow, litert"),
    ],
)
def test_a_flag_of_choices(name: str, choices: str) -> None:
    """Takes each of them, and says which there are."""
    for choice in choices.split(", "):
        assert getattr(parse([f"--{name}={choice}"]), name) == choice
    with pytest.raises(ServerConfigError) as raised:
        parse([f"--{name}=other"])
    assert str(raised.value) == f"Couldn't interpret value other for flag {name}: expected one of {choices}"


def test_a_flag_that_is_given_twice() -> None:
    """The last one counts, as in TF Serving."""
    assert parse(["--port=1", "--port=2"]).port == 2


def test_usage_has_a_line_for_every_flag() -> None:
    """In groups, with its default; it ends with an example."""
    groups = usage().rstrip().split("\n\n")

    assert groups[0].startswith("usage: ")
    assert [group.splitlines()[0] for group in groups[1:4]] == ["Network:", "Models:", "Loading:"]
    lines = [line for group in groups[1:-1] for line in group.splitlines()[1:]]
    assert [re.match(r"  --(\w+)=", line)[1] for line in lines] == [  # type: ignore[index]
        field.name for field in fields(Flags)
    ]
    assert groups[0] == "usage: python -m serving.embedded [flags]"
    for name, default in (
        ("port", "8500"),
        ("rest_api_port", ""),
        ("verbose", "false"),
        ("flush_filesystem_caches", "true"),
    ):
        (field,) = (field for field in fields(Flags) if field.name == name)
        assert f"  {f'--{name}={default}':<44}  {field.metadata['help']}\n" in usage()
    assert usage().endswith(
        "\n\nExample: python -m serving.embedded --port=8500 --rest_api_port=8501 --model_name=fashion_mnist "
        "--model_base_path=$PWD/models/fashion_mnist\n"
    )


@pytest.mark.parametrize(
    ("flags", "notice"),
    [
        (
            Flags(mixed_precision="bfloat16"),
            "--mixed_precision is ignored: the graph runs in the precision it was exported in",
        ),
        (Flags(skip_initialize_tpu=True), "--skip_initialize_tpu is ignored: there is no TPU here"),
    ],
)
def test_flags_that_are_ignored(flags: Flags, notice: str) -> None:
    """Each is told with its reason, which --help gives too; one that keeps its default is not."""
    name, _, reason = notice.removeprefix("--").partition(" is ignored: ")

    assert [line[: len(notice)] for line in notices(flags)] == [notice]
    assert re.search(rf"\n  --{name}=.*  Ignored: {reason}", usage())
    assert notices(Flags()) == []


@pytest.mark.parametrize(
    ("flags", "reason"),
    [
        (Flags(use_alts_credentials=True), "use_alts_credentials cannot be followed: ALTS exists on Google Cloud only"),
        (Flags(platform_config_file="x"), "platform_config_file cannot be followed: this server has one platform"),
        (Flags(port=7, rest_api_port=7), "--rest_api_port cannot be the same as --port: 7"),
        (Flags(port=7, metrics_port=7), "--metrics_port cannot be the same as --port: 7"),
        (Flags(rest_api_port=7, metrics_port=7), "--metrics_port cannot be the same as --rest_api_port: 7"),
        (Flags(workers=2, metrics_port=0), "--workers needs ports of its own"),
        (Flags(batching_parameters_file="x"), "--batching_parameters_file is given without --enable_batching"),
        (Flags(record_sampling_rate=0.5), "--record_sampling_rate is given without --record_filename_prefix"),
        (
            Flags(shadow_label="canary"),
            "--shadow_label is given without metrics, which have its results: give --monitor",
        ),
        (Flags(workers=2, port=0), "--workers needs ports of its own"),
        (Flags(workers=2, rest_api_port=0), "--workers needs ports of its own"),
        (Flags(workers=2, grpc_socket_path="x"), "--workers needs ports of its own"),
        (
            Flags(workers=2, metrics_port=0),
            "--workers needs ports of its own: give --port and --rest_api_port, no 0, no socket$",
        ),
        (
            Flags(shadow_label="canary"),
            (
                "^--shadow_label is given without metrics, which have its results: give --monitoring_config_file or "
                "--metrics_port$"
            ),
        ),
    ],
)
def test_flags_that_are_refused(flags: Flags, reason: str) -> None:
    """They end the start, with the reason."""
    with pytest.raises(ServerConfigError, match=reason):
        notices(flags)


@pytest.mark.parametrize(
    ("arguments", "name", "base_path"),
    [
        ([], "kitchen", "/models/kitchen"),
        (["--model_name=m"], "m", "/models/m"),
        (["--model_base_path=/m"], "kitchen", "/m"),
        (["--model_config_file=/models.config"], "default", ""),
    ],
)
def test_the_images_environment(
    monkeypatch: pytest.MonkeyPatch, arguments: list[str], name: str, base_path: str
) -> None:
    """MODEL_NAME and MODEL_BASE_PATH are read as the official image's entry point reads them; flags come first."""
    monkeypatch.setenv("MODEL_NAME", "kitchen")
    monkeypatch.setenv("MODEL_BASE_PATH", "/models")

    flags = parse(arguments)

    assert (flags.model_name, flags.model_base_path) == (name, base_path)


@pytest.mark.parametrize(
    "flags",
    [
        Flags(port=0, rest_api_port=0),
        Flags(port=-1, rest_api_port=-1),
        Flags(port=0, rest_api_port=0, metrics_port=0),
        Flags(port=1, rest_api_port=2, metrics_port=3, workers=2),
        Flags(port=0, workers=1, grpc_socket_path="x"),
        Flags(shadow_label="canary", metrics_port=1),
        Flags(shadow_label="canary", monitoring_config_file="x"),
        Flags(batching_parameters_file="x", enable_batching=True),
        Flags(record_sampling_rate=0.5, record_filename_prefix="x"),
    ],
)
def test_flags_that_go_together(flags: Flags) -> None:
    """Free ports are not the same one; what another flag needs is there."""
    assert notices(flags) == []


@pytest.mark.parametrize(
    ("environment", "arguments", "name", "base_path"),
    [
        ({}, [], "default", ""),
        ({"MODEL_NAME": "m"}, [], "m", ""),
        ({"MODEL_BASE_PATH": "/models"}, [], "default", "/models/model"),
        ({"MODEL_NAME": "", "MODEL_BASE_PATH": ""}, [], "default", ""),
        ({"MODEL_BASE_PATH": "/models"}, ["--model_name=n"], "n", "/models/n"),
    ],
)
def test_half_of_the_images_environment(
    environment: dict[str, str], arguments: list[str], name: str, base_path: str
) -> None:
    """The official image calls a model without a name `model`."""
    flags = parse(arguments, environment)
    assert (flags.model_name, flags.model_base_path) == (name, base_path)

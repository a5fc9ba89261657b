"""The command line, as tensorflow_model_server reads it."""

from __future__ import annotations

import re

import pytest

from serving.embedded.flags import Flags, notices, parse, usage
from serving.errors import ServerConfigError


def test_defaults() -> None:
    """gRPC on 8500, no REST, loopback."""
    flags = parse([])

    assert flags == Flags()
    assert (flags.port, flags.rest_api_port, flags.host, flags.model_name) == (8500, None, "127.0.0.1", "default")


@pytest.mark.parametrize(
    "arguments", [["--port=0", "--verbose"], ["--port", "0", "--verbose=true"], ["-port=0", "-verbose", "true"]]
)
def test_ways_to_write_a_flag(arguments: list[str]) -> None:
    """With = or a space, one dash or two; a boolean alone is true."""
    assert parse(arguments) == Flags(port=0, verbose=True)


@pytest.mark.parametrize(
    ("argument", "message"),
    [
        ("--nope=1", "unknown argument: --nope=1"),
        ("nope", "unknown argument: nope"),
        ("--port=x", "Couldn't interpret value x for flag port: expected int"),
        ("--verbose=x", "Couldn't interpret value x for flag verbose: expected true or false"),
        ("--port", "--port needs a value: --port=..."),
    ],
)
def test_mistakes(argument: str, message: str) -> None:
    """The text names the flag and what it takes."""
    with pytest.raises(ServerConfigError) as raised:
        parse([argument])
    assert str(raised.value) == message


def test_usage_names_every_flag() -> None:
    """And ends with an example."""
    text = usage()

    assert "--rest_api_port=" in text
    assert text.splitlines()[-1].startswith("Example: ")


@pytest.mark.parametrize(
    ("flags", "notice"),
    [
        (Flags(num_tflite_pools=2), "--num_tflite_pools is ignored: no TF Lite model is served"),
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
    assert re.search(rf"\n\t--{name}=.*\tIgnored: {reason}", usage())
    assert notices(Flags()) == []


@pytest.mark.parametrize(
    ("flags", "reason"),
    [
        (Flags(use_alts_credentials=True), "use_alts_credentials cannot be followed: ALTS exists on Google Cloud only"),
        (Flags(platform_config_file="x"), "platform_config_file cannot be followed: this server has one platform"),
        (Flags(workers=0), "--workers must be 1 or more: got 0"),
        (Flags(port=7, rest_api_port=7), "--rest_api_port cannot be the same as --port: 7"),
        (Flags(batching_parameters_file="x"), "--batching_parameters_file is given without --enable_batching"),
        (Flags(workers=2, port=0), "--workers needs ports of its own"),
        (Flags(workers=2, rest_api_port=0), "--workers needs ports of its own"),
        (Flags(workers=2, grpc_socket_path="x"), "--workers needs ports of its own"),
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

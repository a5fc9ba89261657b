"""The command line, as tensorflow_model_server reads it."""

from __future__ import annotations

import pytest

from serving.embedded.flags import Flags, parse, usage
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

"""The flags of `tensorflow_model_server`, and a few of our own.

Names, meanings and defaults are those of TF Serving 2.21 (`tensorflow_model_server --help`).
"""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from serving.errors import ServerConfigError

_TRUE = ("true", "1", "yes")
_FALSE = ("false", "0", "no")


def _flag(default: Any, text: str, kind: type | None = None) -> Any:
    return dataclasses.field(default=default, metadata={"help": text, "kind": kind or type(default)})


@dataclass(frozen=True)
class Flags:
    """The server's flags. Ports: 0 picks a free one when it is given; a negative one turns the API off."""

    port: int = _flag(8500, "TCP port to listen on for gRPC. 0 picks a free port, a negative number turns gRPC off.")
    rest_api_port: int | None = _flag(
        None, "TCP port to listen on for HTTP/REST. Absent: no REST. 0 picks a free port.", int
    )
    host: str = _flag("127.0.0.1", "Address to listen on (not a flag of TF Serving, which listens on all).")
    rest_api_timeout_in_ms: int = _flag(30000, "Timeout for HTTP/REST calls.")
    rest_api_enable_cors_support: bool = _flag(False, "Enable CORS headers in REST answers.")
    model_name: str = _flag("default", "Name of the model (ignored if --model_config_file is set).")
    model_base_path: str = _flag("", "Path that holds the model's versions (ignored if --model_config_file is set).")
    model_config_file: str = _flag("", "File with a ModelServerConfig in text protobuf: the models to serve.")
    allow_version_labels_for_unavailable_models: bool = _flag(
        False, "Let a label be given to a version that is not AVAILABLE yet."
    )
    file_system_poll_wait_seconds: float = _flag(1.0, "Interval between looks for new versions; 0 = look once.")
    verbose: bool = _flag(False, "Let TensorFlow's own messages through (not a flag of TF Serving).")
    version: bool = _flag(False, "Print the version and exit.")
    help: bool = _flag(False, "Print this text and exit.")


def parse(arguments: Sequence[str]) -> Flags:
    """The flags of a command line: `--flag=value`, `--flag value`, `-flag=value`; a boolean alone means true.

    Raises ServerConfigError for a flag that there is not, or a value that does not fit.
    """
    kinds = {field.name: field.metadata["kind"] for field in dataclasses.fields(Flags)}
    values: dict[str, Any] = {}
    rest = list(arguments)
    while rest:
        argument = rest.pop(0)
        name, has_value, text = argument.removeprefix("-").removeprefix("-").partition("=")
        if not argument.startswith("-") or name not in kinds:
            raise ServerConfigError(f"unknown argument: {argument}")
        kind = kinds[name]
        if not has_value:
            if kind is bool:
                text = rest.pop(0) if rest and rest[0].lower() in ("true", "false") else "true"
            elif rest:
                text = rest.pop(0)
            else:
                raise ServerConfigError(f"--{name} needs a value: --{name}=...")
        values[name] = _value(name, kind, text)
    return Flags(**values)


def usage() -> str:
    """The text of --help."""
    lines = ["usage: python -m serving.embedded [flags]", "Flags:"]
    lines.extend(
        f"\t--{field.name}={field.default!r:<24}\t{field.metadata['kind'].__name__}\t{field.metadata['help']}"
        for field in dataclasses.fields(Flags)
    )
    lines.append(
        "Example: python -m serving.embedded --port=8500 --rest_api_port=8501 "
        "--model_name=fashion_mnist --model_base_path=$PWD/models/fashion_mnist"
    )
    return "\n".join(lines) + "\n"


def _value(name: str, kind: type, text: str) -> Any:
    if kind is bool:
        if text.lower() in _TRUE + _FALSE:
            return text.lower() in _TRUE
        raise ServerConfigError(f"Couldn't interpret value {text} for flag {name}: expected true or false")
    try:
        return kind(text)
    except ValueError as error:
        raise ServerConfigError(f"Couldn't interpret value {text} for flag {name}: expected {kind.__name__}") from error

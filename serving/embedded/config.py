"""Configuration from flags and from text-protobuf files."""

from __future__ import annotations

from pathlib import Path
from typing import TypeVar

from google.protobuf import text_format
from google.protobuf.message import Message

from serving.apis.messages import ModelServerConfig
from serving.embedded.core import PLATFORM
from serving.embedded.flags import Flags
from serving.errors import ServerConfigError

M = TypeVar("M", bound=Message)


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
        raise ServerConfigError("--model_base_path is missing: give the directory that holds the model's versions")
    config = ModelServerConfig()
    config.model_config_list.config.add(
        name=flags.model_name, base_path=str(Path(flags.model_base_path).absolute()), model_platform=PLATFORM
    )
    return config

"""What the configuration of a server says that an export must know: batch sizes, and the versions that it names.

Read leniently, since the server is the one that checks it: fields of a newer server's are passed over.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from typing import TypeVar

from google.protobuf import text_format
from google.protobuf.message import Message

from fashion_common.installation import CONFIG_FOLDER, MODELS_FILE, state_directory
from serving.apis.messages import BatchingParameters, ModelConfig, ModelServerConfig
from training.errors import TrainingUsageError

M = TypeVar("M", bound=Message)

_GREATEST = 128


def version_labels(model_config_file: Path, model_base_path: Path) -> dict[str, int]:
    """The labels that the file gives to versions of the model with this base path.

    Raises TrainingUsageError when the file cannot be read as a ModelServerConfig in text protobuf.
    """
    configs = _model_configs(model_config_file, model_base_path)
    return {label: version for config in configs for label, version in config.version_labels.items()}


def versions_in_use(model_config_file: Path, model_base_path: Path) -> frozenset[int]:
    """The versions that must stay: what the file, or the configuration of any detached server, labels or pins.

    Raises TrainingUsageError when one of the files cannot be read as a ModelServerConfig in text protobuf.
    """
    files = [model_config_file]
    # Without a home directory, and without XDG_STATE_HOME, no server was detached.
    with suppress(RuntimeError):
        servers = state_directory()
        try:
            files += servers.glob(f"*/{CONFIG_FOLDER}/{MODELS_FILE}")
        except OSError as error:
            raise TrainingUsageError(f"Cannot read {servers}, which says what detached servers use: {error}") from error
    configs = [config for file in files for config in _model_configs(file, model_base_path)]
    pinned = {version for config in configs for version in config.model_version_policy.specific.versions}
    return frozenset(pinned.union(*(config.version_labels.values() for config in configs)))


def batch_sizes(batching_config: Path) -> list[int]:
    """The batch sizes that a server with this configuration runs: `allowed_batch_sizes`, else 1 and the greatest.

    The greatest is 128 at most: larger batches run the same code, and every warmup request is replayed at each load.

    Raises TrainingUsageError when the file cannot be read as BatchingParameters in text protobuf.
    """
    parameters = _read(batching_config, BatchingParameters())
    sizes = sorted(set(parameters.allowed_batch_sizes) or {1, min(parameters.max_batch_size.value or 1, _GREATEST)})
    if sizes[0] < 1:
        raise TrainingUsageError(f"{batching_config} has the batch size {sizes[0]}: at least 1")
    return sizes


def _model_configs(model_config_file: Path, model_base_path: Path) -> Iterator[ModelConfig]:
    """Those of the model with this base path, or of its name: a container sees it under another parent."""
    for config in _read(model_config_file, ModelServerConfig()).model_config_list.config:
        base_path = Path(config.base_path)
        same_name = model_base_path.absolute().name in (config.name, base_path.name)
        if same_name or base_path.resolve() == model_base_path.resolve():
            yield config


def _read(path: Path, message: M) -> M:
    try:
        return text_format.Parse(path.read_text(encoding="utf-8"), message, allow_unknown_field=True)
    except OSError as error:
        raise TrainingUsageError(f"Cannot read {path}: {error.strerror}") from error
    except (text_format.ParseError, UnicodeDecodeError) as error:
        raise TrainingUsageError(f"{path} is not a {message.DESCRIPTOR.name} in text protobuf: {error}") from error

"""models.config as one server needs it: its own base path, and labels for the versions that are there."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import replace
from pathlib import Path

from google.protobuf import text_format

from fashion_common.files import write_whole
from serving.apis.messages import ModelServerConfig
from serving.launch.backends import CONTAINER_MODELS, ServeOptions
from serving.launch.prepare import ServeUsageError

MODELS_FILE = "models.config"


def default_labels(versions: Collection[int]) -> dict[str, int]:
    """`stable` is the newest version but one and `canary` the newest; with one version, canary is the next to come."""
    newest = sorted(versions)[-2:]
    return {"stable": newest[0], "canary": newest[1] if len(newest) > 1 else newest[0] + 1}


def checked_labels(labels: Mapping[str, int], versions: Collection[int]) -> dict[str, int]:
    """The labels that were asked for over the default ones.

    Raises ServeUsageError for a version that will not be loaded: neither one of the newest two nor yet to come.
    """
    loaded = sorted(versions)[-2:]
    for label, version in labels.items():
        if version not in loaded and version < loaded[-1]:
            raise ServeUsageError(
                f"--label {label}={version}: version {version} is not served, only the newest two are: "
                f"{', '.join(map(str, loaded))}"
            )
    return {**default_labels(versions), **labels}


def with_config(options: ServeOptions, backend: str, labels: Mapping[str, int], directory: Path) -> ServeOptions:
    """The options with a config_dir whose models.config says what is served under which labels.

    That is the given one where it says so already, else a copy in `directory`. Raises OSError.
    """
    inside = f"{CONTAINER_MODELS}/{options.model_name}"
    base_path = inside if backend == "container" else str(options.model_base_path.absolute())
    given = (options.config_dir / MODELS_FILE).read_text(encoding="utf-8")
    original = text_format.Parse(given, ModelServerConfig())
    wanted = ModelServerConfig()
    wanted.CopyFrom(original)
    model = wanted.model_config_list.config[0]
    model.name, model.base_path = options.model_name, base_path
    model.version_labels.clear()
    for label, version in labels.items():
        model.version_labels[label] = version
    if wanted == original:
        return options
    directory.mkdir(parents=True, exist_ok=True)
    for file in options.config_dir.glob("*.config"):
        write_whole(directory / file.name, file.read_text(encoding="utf-8"))
    write_whole(directory / MODELS_FILE, text_format.MessageToString(wanted))
    return replace(options, config_dir=directory)

"""The versions under a model base path: their list."""

from __future__ import annotations

from contextlib import suppress
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Literal

from fashion_common.errors import BasePathError
from fashion_common.labels import STABLE, Labels, read_labels
from fashion_common.layout import (
    LITE_MODEL_FILE,
    SAVED_MODEL_FILE,
    SAVED_MODEL_TEXT_FILE,
    check_base_path,
    version_directories,
)
from fashion_common.running import running_servers
from training.errors import DamagedVersionError, TrainingUsageError
from training.export.manifest import Manifest, check_files, read_manifest, recorded_accuracy

# passed: its files are those that passed before it was published; damaged: a file is missing or differs since;
# unknown: it has no manifest of ours.
SelfTestState = Literal["passed", "damaged", "unknown"]

# By runtime, the files of which it loads one.
_MODELS = {"tensorflow": (SAVED_MODEL_FILE, SAVED_MODEL_TEXT_FILE), "litert": (LITE_MODEL_FILE,)}


@dataclass(frozen=True)
class Version:
    """A version on disk. accuracy: 0 to 1; exported_at: ISO 8601 in UTC; None without a manifest.

    size: bytes. runtimes: those that it holds a model for. promoted_at: when it last became `stable`, in UTC. loaded:
    the URLs of the running servers on this machine that answer with it.
    """

    version: int
    path: Path
    accuracy: float | None
    recipe: str | None
    exported_at: str | None
    size: int
    self_test: SelfTestState
    runtimes: tuple[str, ...]
    labels: tuple[str, ...]
    promoted_at: str | None
    loaded: tuple[str, ...]


def list_versions(model_base_path: Path) -> list[Version]:
    """All versions, newest first. Raises TrainingUsageError when there are none, LabelsError."""
    try:
        directories = check_base_path(model_base_path.name, model_base_path)
    except BasePathError as error:
        raise TrainingUsageError(f"{error}. `fashion export` writes the first version") from error
    labels = read_labels(model_base_path)
    named = labels.named(directories)
    loaded = {server.url: server.available() for server in running_servers(model_base_path)}
    return [
        replace(
            _describe(number, directories[number]),
            labels=tuple(sorted(label for label, version in named.items() if version == number)),
            promoted_at=_promoted_at(labels, number),
            loaded=tuple(url for url, versions in loaded.items() if number in versions),
        )
        for number in sorted(directories, reverse=True)
    ]


def newest_with_manifest(model_base_path: Path) -> tuple[int, Manifest] | None:
    """The newest version and its manifest; None when there is no version, or its manifest is missing or damaged."""
    directories = version_directories(model_base_path)
    newest = max(directories, default=None)
    with suppress(DamagedVersionError):
        if newest is not None and (manifest := read_manifest(directories[newest])):
            return newest, manifest
    return None


def _promoted_at(labels: Labels, number: int) -> str | None:
    moves = (move.time for move in labels.history if (move.label, move.after) == (STABLE, number))
    return max(moves, default=None)


def _describe(number: int, path: Path) -> Version:
    state: SelfTestState
    try:
        manifest = read_manifest(path) or {}
        if manifest:
            check_files(path, manifest)
        state = "passed" if manifest.get("self_test") else "unknown"
    except DamagedVersionError:
        manifest, state = {}, "damaged"
    return Version(
        version=number,
        path=path,
        accuracy=recorded_accuracy(manifest),
        recipe=manifest.get("recipe"),
        exported_at=manifest.get("exported_at"),
        size=sum(file.stat().st_size for file in path.rglob("*") if file.is_file()),
        self_test=state,
        runtimes=tuple(name for name, files in _MODELS.items() if any((path / file).is_file() for file in files)),
        labels=(),
        promoted_at=None,
        loaded=(),
    )

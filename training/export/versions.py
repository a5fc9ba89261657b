"""The versions under a model base path: their list, and the removal of old ones."""

from __future__ import annotations

import tempfile
from collections.abc import Mapping
from collections.abc import Set as AbstractSet
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from fashion_common.errors import BasePathError
from fashion_common.layout import (
    LITE_MODEL_FILE,
    SAVED_MODEL_FILE,
    SAVED_MODEL_TEXT_FILE,
    check_base_path,
    version_directories,
)
from training.errors import DamagedVersionError, TrainingUsageError
from training.export.manifest import Manifest, check_files, read_manifest, recorded_accuracy
from training.export.publish import PREFIX, remove_leftovers

# passed: its files are those that passed before it was published; damaged: a file is missing or differs since;
# unknown: it has no manifest of ours.
SelfTestState = Literal["passed", "damaged", "unknown"]

# By runtime, the files of which it loads one.
_MODELS = {"tensorflow": (SAVED_MODEL_FILE, SAVED_MODEL_TEXT_FILE), "litert": (LITE_MODEL_FILE,)}


@dataclass(frozen=True)
class Version:
    """A version on disk. accuracy: 0 to 1; exported_at: ISO 8601 in UTC; None without a manifest.

    size: bytes. runtimes: those that it holds a model for.
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


def list_versions(model_base_path: Path, labels: Mapping[str, int]) -> list[Version]:
    """All versions, newest first. Raises TrainingUsageError when there are none."""
    try:
        directories = check_base_path(model_base_path.name, model_base_path)
    except BasePathError as error:
        raise TrainingUsageError(f"{error}. `fashion export` writes the first version") from error
    return [_describe(number, directories[number], labels) for number in sorted(directories, reverse=True)]


def newest_with_manifest(model_base_path: Path) -> tuple[int, Manifest] | None:
    """The newest version and its manifest; None when there is no version, or its manifest is missing or damaged."""
    directories = version_directories(model_base_path)
    newest = max(directories, default=None)
    with suppress(DamagedVersionError):
        if newest is not None and (manifest := read_manifest(directories[newest])):
            return newest, manifest
    return None


def remove_old_versions(model_base_path: Path, keep: int, in_use: AbstractSet[int]) -> list[int]:
    """Removes all but the newest `keep` versions and those in use; gives the removed numbers, ascending.

    A version vanishes with one rename, so that no server loads half of it. Raises OSError.
    """
    directories = version_directories(model_base_path)
    old = [number for number in sorted(directories)[:-keep] if number not in in_use]
    for number in old:
        # Renamed, it is a leftover, as of a killed export, and removed with those. Another export may have been faster.
        with suppress(FileNotFoundError):
            directories[number].rename(tempfile.mkdtemp(dir=model_base_path, prefix=PREFIX))
    remove_leftovers(model_base_path)
    return old


def _describe(number: int, path: Path, labels: Mapping[str, int]) -> Version:
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
        labels=tuple(sorted(label for label, version in labels.items() if version == number)),
    )

"""The versions under a model base path: what they are, and the removal of old ones."""

from __future__ import annotations

import tempfile
from collections.abc import Set as AbstractSet
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from fashion_common.layout import version_directories
from training.errors import DamagedVersionError, TrainingUsageError
from training.export.manifest import (
    Manifest,
    check_files,
    read_manifest,
    recorded_accuracy,
)
from training.export.publish import PREFIX, remove_leftovers
from training.export.server_config import NamedVersions

# passed: its files are those that passed before it was published; damaged: a file is missing or differs since;
# unknown: it has no manifest, so it was made elsewhere.
SelfTestState = Literal["passed", "damaged", "unknown"]


@dataclass(frozen=True)
class Version:
    """A version on disk. accuracy: 0 to 1; exported_at: ISO 8601 in UTC; size: bytes; None is what no manifest says."""

    version: int
    path: Path
    accuracy: float | None
    recipe: str | None
    exported_at: str | None
    size: int
    self_test: SelfTestState
    labels: tuple[str, ...]


def list_versions(model_base_path: Path, named: NamedVersions) -> list[Version]:
    """All versions, newest first. Raises TrainingUsageError when there are none."""
    directories = version_directories(model_base_path)
    if not directories:
        raise TrainingUsageError(
            f"No versions of {model_base_path.name} under {model_base_path}: "
            f"expected numeric folders such as {model_base_path / '1'}, which `fashion export` makes"
        )
    return [_described(number, directories[number], named) for number in sorted(directories, reverse=True)]


def newest_with_manifest(model_base_path: Path) -> tuple[int, Manifest] | None:
    """The version that the next one replaces, and its manifest; None when there is no version or no sound manifest."""
    directories = version_directories(model_base_path)
    if not directories:
        return None
    newest = max(directories)
    with suppress(DamagedVersionError):
        manifest = read_manifest(directories[newest])
        return None if manifest is None else (newest, manifest)
    return None


def remove_old_versions(model_base_path: Path, keep: int, in_use: AbstractSet[int]) -> list[int]:
    """Removes all but the newest `keep` versions and those in use; gives the numbers removed, ascending.

    A version vanishes with one rename, so that no server loads half of it. Raises OSError.
    """
    directories = version_directories(model_base_path)
    old = [number for number in sorted(directories)[:-keep] if number not in in_use]
    for number in old:
        # Renamed, it is like what a killed export leaves, and goes the same way. Another export may have been faster.
        with suppress(FileNotFoundError):
            directories[number].rename(tempfile.mkdtemp(dir=model_base_path, prefix=PREFIX))
    remove_leftovers(model_base_path)
    return old


def _described(number: int, path: Path, named: NamedVersions) -> Version:
    state: SelfTestState
    try:
        manifest = read_manifest(path)
        if manifest is not None:
            check_files(path, manifest)
        state = "passed" if manifest and manifest.get("self_test") else "unknown"
    except DamagedVersionError:
        manifest, state = None, "damaged"
    facts = manifest or {}
    return Version(
        version=number,
        path=path,
        accuracy=recorded_accuracy(facts),
        recipe=facts.get("recipe"),
        exported_at=facts.get("exported_at"),
        size=sum(file.stat().st_size for file in path.rglob("*") if file.is_file()),
        self_test=state,
        labels=tuple(sorted(label for label, labelled in named.labels.items() if labelled == number)),
    )

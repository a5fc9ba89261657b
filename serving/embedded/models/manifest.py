"""The manifest of a version: its files as they were exported. It is checked before any of them is used.

`training.export` writes it last: {"files": {"saved_model.pb": {"sha256": "...", "bytes": 1234}, ...}, ...}.
"""

from __future__ import annotations

import hashlib
import json
import stat
from collections.abc import Mapping
from pathlib import Path, PurePosixPath
from typing import Any, NamedTuple

from fashion_common.layout import LITE_MODEL_FILE, MANIFEST_FILE, SAVED_MODEL_FILE, SELF_TEST_FILE, WARMUP_FILE
from serving.embedded.models.storage import VersionDirectory
from serving.errors import FailedPrecondition, quoted

_MAX_BYTES = 16 * 2**20
_PIECE_BYTES = 2**20
_MAX_CLASSES = 100
# What is read of a version without being named: TensorFlow takes saved_model.cpb before saved_model.pb.
_READ_DIRECTORIES = ("variables/", "assets/")
_READ_FILES = (LITE_MODEL_FILE, WARMUP_FILE, SELF_TEST_FILE, "fingerprint.pb")
_GRAPH = f"{Path(SAVED_MODEL_FILE).stem}."
_FIX = "copy the version again"


class File(NamedTuple):
    """A file as the manifest has it. sha256: hexadecimal. size: in bytes."""

    sha256: str
    size: int


def read_manifest(directory: VersionDirectory) -> dict[str, File] | None:
    """The files that the manifest of a version names; None without a manifest. Raises FailedPrecondition."""
    try:
        path = directory.file(MANIFEST_FILE)
        if path is None:
            return None
        with path.open("rb") as file:
            text = file.read(_MAX_BYTES)
        return {_checked_name(name): _file(recorded) for name, recorded in json.loads(text)["files"].items()}
    except (OSError, ValueError, LookupError, TypeError, AttributeError, ArithmeticError, RecursionError) as error:
        reason = (error.strerror if isinstance(error, OSError) else None) or f"{type(error).__name__}: {error}"
        raise FailedPrecondition(f"{MANIFEST_FILE} is damaged ({quoted(reason)}): {_FIX}") from error


def recorded_distribution(directory: VersionDirectory) -> tuple[list[int], list[int]] | None:
    """What the version answered to the test set: images by class, and by confidence in bins of equal width.

    None without a manifest that has it.
    """
    try:
        path = directory.file(MANIFEST_FILE)
        if path is None:
            return None
        with path.open("rb") as file:
            recorded = json.loads(file.read(_MAX_BYTES))["metrics"]["test_distribution"]
        classes, confidence = ([int(count) for count in recorded[name]] for name in ("classes", "confidence"))
    except (OSError, ValueError, LookupError, TypeError, AttributeError, ArithmeticError, RecursionError):
        return None
    sane = max(len(classes), len(confidence)) <= _MAX_CLASSES and min([*classes, *confidence], default=0) >= 0
    return (classes, confidence) if sane else None


def is_whole(directory: VersionDirectory) -> bool | None:
    """Whether every file that the manifest names is there with its size; None without a manifest.

    Raises FailedPrecondition for a manifest that is damaged.
    """
    manifest = read_manifest(directory)
    if manifest is None:
        return None
    try:
        paths = {name: directory.file(name) for name in manifest}
        return all(path is not None and path.stat().st_size == manifest[name].size for name, path in paths.items())
    except OSError:
        # Such as of a name that is longer than any that the disk takes.
        return False


def check_files(directory: VersionDirectory) -> int | None:
    """Holds a version's files to its manifest; gives their number, None without a manifest.

    Raises FailedPrecondition with the name of a file that is missing, differs, cannot be read, is not named though it
    would be used, or is no regular file, with a manifest or without: opening a pipe would wait for ever.
    """
    try:
        files = directory.files()
        for name, status in files.items():
            if not (stat.S_ISREG(status.st_mode) or stat.S_ISLNK(status.st_mode)):
                raise FailedPrecondition(f"{quoted(name)} is no regular file: remove it")
        manifest = read_manifest(directory)
        if manifest is None:
            return None
        _check_names(files, manifest)
        for name, recorded in manifest.items():
            _check_digest(directory, name, recorded)
    except OSError as error:
        name = Path(error.filename or "").name
        raise FailedPrecondition(f"{quoted(name)} cannot be read: {error.strerror}", log_text=str(error)) from error
    return len(manifest)


def _check_names(files: Mapping[str, object], manifest: Mapping[str, File]) -> None:
    for name in manifest:
        if name not in files:
            raise FailedPrecondition(f"{quoted(name)}, which {MANIFEST_FILE} names, is missing: {_FIX}")
    for name in files:
        is_read = name.startswith((*_READ_DIRECTORIES, _GRAPH)) or name in _READ_FILES
        if is_read and name not in manifest:
            raise FailedPrecondition(f"{quoted(name)} is not among the files of {MANIFEST_FILE}: remove it, or {_FIX}")


def _check_digest(directory: VersionDirectory, name: str, recorded: File) -> None:
    digest = hashlib.sha256()
    size = 0
    with (directory.local_path() / name).open("rb") as file:
        while piece := file.read(_PIECE_BYTES):
            digest.update(piece)
            size += len(piece)
    if File(digest.hexdigest(), size) != recorded:
        raise FailedPrecondition(f"{quoted(name)} is not the file that was exported (SHA-256 differs): {_FIX}")


def _file(recorded: Mapping[str, Any]) -> File:
    return File(str(recorded["sha256"]), int(recorded["bytes"]))


def _checked_name(name: str) -> str:
    """A name in the version's directory. Raises ValueError for one that leads out of it."""
    path = PurePosixPath(name)
    if path.is_absolute() or ".." in path.parts or str(path) != name or "\0" in name:
        raise ValueError(f"{name!r} is no name of a file in the version")
    return name

"""One version, brought from anywhere into a directory aside: what is there already is not read again.

A fetch may be cut, or its process killed, at any time. The next one keeps the files that are whole, goes on with the
one that is not, and begins anew with those that have changed where they come from.
"""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path, PurePosixPath
from typing import Any

from delivery.address import printable
from delivery.errors import ChangedError, RefusedError, SourceError
from delivery.places import Place, RemoteFile
from fashion_common.files import sha256, write_whole
from fashion_common.layout import MANIFEST_FILE, MODEL_FILES

# Beside the version's files: what they were where they come from, when they were begun.
_STAMPS_FILE, FILES = "stamps.json", "version"
_PIECE_BYTES = 8 * 2**20
_MAX_MANIFEST_BYTES = 16 * 2**20


def fetch(
    place: Place,
    files: Mapping[str, RemoteFile],
    aside: Path,
    progress: Callable[[int, int], None] = lambda _done, _total: None,
) -> bool:
    """Brings a version's files into `aside/version`; whether they were held to a manifest's digests.

    files: those of the place. progress: told of the bytes that are there, and of all. Raises SourceError when the
    source cannot be read; what was read stays. Raises RefusedError for a version that is not whole there or is damaged,
    ChangedError for one that changes meanwhile, OSError.
    """
    try:
        _fetch(place, files, aside, progress)
    except (RefusedError, SourceError):
        if _has_changed(place, files):
            raise ChangedError("it changes while it is read") from None
        raise
    if place.files() != files:
        raise ChangedError("it changes while it is read")
    return MANIFEST_FILE in files


def _has_changed(place: Place, files: Mapping[str, RemoteFile]) -> bool:
    """Whether a version is another one now; not where it cannot be told."""
    try:
        return place.files() != files
    except SourceError:
        return False


def _fetch(place: Place, files: Mapping[str, RemoteFile], aside: Path, progress: Callable[[int, int], None]) -> None:
    _check_names(files)
    target = aside / FILES
    _drop_changed(aside, files)
    total = sum(file.size for file in files.values())
    done = 0
    recorded: Mapping[str, str] = {}
    # The manifest first: it has the digests of the others.
    for name in sorted(files, key=lambda name: (name != MANIFEST_FILE, name)):
        path, file = target / name, files[name]
        for size in _pieces(place, file, path):
            progress(done + size, total)
        if name == MANIFEST_FILE:
            recorded = _recorded(path)
            if missing := min(recorded.keys() - files.keys(), default=None):
                raise RefusedError(
                    f"{printable(missing)}, which its manifest names, is not there: it may still be on its way"
                )
        elif _differs(path, recorded.get(name)):
            # A part of it may be of an earlier file.
            path.unlink()
            for _ in _pieces(place, file, path):
                pass
            if _differs(path, recorded.get(name)):
                path.unlink()
                raise RefusedError(f"{printable(name)} is not the file that was exported (SHA-256 differs)")
        done += file.size


def _check_names(files: Mapping[str, RemoteFile]) -> None:
    """Raises RefusedError for a version without a model, and for a name that leads out of its directory."""
    for name in files:
        path = PurePosixPath(name)
        if path.is_absolute() or ".." in path.parts or str(path) != name or "\\" in name or "\0" in name:
            raise RefusedError(f"{printable(name)!r} is no name of a file in a version")
    if not any(name in files for name in MODEL_FILES):
        raise RefusedError(f"it holds none of {', '.join(MODEL_FILES)}: it may still be on its way")


def _drop_changed(aside: Path, files: Mapping[str, RemoteFile]) -> None:
    """Removes what is there of files that are gone or others now, and writes down what they are. Raises OSError."""
    stamps = {name: file.stamp for name, file in files.items()}
    try:
        begun: dict[str, Any] = json.loads((aside / _STAMPS_FILE).read_bytes())
    except (OSError, ValueError):
        begun = {}
    target = aside / FILES
    for path in [path for path in target.rglob("*") if not path.is_dir()]:
        name = path.relative_to(target).as_posix()
        if name not in stamps or begun.get(name) != stamps[name]:
            path.unlink()
    if begun != stamps:
        write_whole(aside / _STAMPS_FILE, json.dumps(stamps))


def _pieces(place: Place, file: RemoteFile, path: Path) -> Iterator[int]:
    """Goes on with a file where it is; gives its size again and again. Raises SourceError, OSError."""
    path.parent.mkdir(parents=True, exist_ok=True)
    size = path.stat().st_size if path.exists() else 0
    with path.open("ab" if size <= file.size else "wb") as local:
        size = local.tell()
        yield size
        while size < file.size:
            piece = place.piece(file, size, min(size + _PIECE_BYTES, file.size))
            local.write(piece)
            # What was read is there, however this ends.
            local.flush()
            size += len(piece)
            yield size


def _recorded(path: Path) -> Mapping[str, str]:
    """The digests that a manifest names. Raises RefusedError for one that is damaged."""
    try:
        with path.open("rb") as file:
            files = json.loads(file.read(_MAX_MANIFEST_BYTES))["files"]
        return {str(name): str(entry["sha256"]) for name, entry in files.items()}
    except (ValueError, LookupError, TypeError, AttributeError, RecursionError) as error:
        raise RefusedError(f"{MANIFEST_FILE} is damaged ({printable(f'{type(error).__name__}: {error}')})") from error


def _differs(path: Path, digest: str | None) -> bool:
    """Whether a file has another SHA-256; not for one that has none."""
    if digest is None:
        return False
    return sha256(path) != digest


def discard(aside: Path) -> None:
    """Removes what was fetched; a directory that is half removed is none to go on with."""
    (aside / _STAMPS_FILE).unlink(missing_ok=True)
    shutil.rmtree(aside, ignore_errors=True)

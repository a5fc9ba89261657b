"""A model base path that is written to: what is on its way there, and the removal of old versions.

A version is written into a hidden directory beside its final name, on the same file system, synced, and renamed.
"""

from __future__ import annotations

import os
import shutil
import tempfile
from contextlib import suppress
from pathlib import Path

from delivery.errors import DeliveryUsageError
from fashion_common.labels import labels_writer
from fashion_common.layout import version_directories

# Of a directory that is removed unless its maker, who holds a lock on it, lives.
PREFIX = ".export-"


def remove_old_versions(model_base_path: Path, keep: int) -> list[int]:
    """Removes all but the newest `keep` versions and those that labels use; gives the removed numbers, ascending.

    A version vanishes with one rename, so that no server loads half of it. Raises OSError, LabelsError.
    """
    # No label moves to a version that is about to go.
    with labels_writer(model_base_path) as writer:
        directories = version_directories(model_base_path)
        in_use = writer.labels.in_use()
        old = [number for number in sorted(directories)[:-keep] if number not in in_use]
        for number in old:
            # Renamed, it is a leftover, as of a killed export, and removed with those. Another export may be faster.
            with suppress(FileNotFoundError):
                directories[number].rename(tempfile.mkdtemp(dir=model_base_path, prefix=PREFIX))
    remove_leftovers(model_base_path)
    return old


def remove_leftovers(model_base_path: Path) -> None:
    """Removes the hidden directories of exports that no longer run; a running one holds a lock on its own."""
    for path in model_base_path.glob(f"{PREFIX}*"):
        try:
            lock = lock_directory(path)
        except OSError:
            continue
        shutil.rmtree(path, ignore_errors=True)
        os.close(lock)


def lock_directory(path: Path) -> int:
    """Locks a directory until the descriptor is closed, or we end. Raises BlockingIOError where it is locked, OSError.

    Raises DeliveryUsageError where the system has no file locks.
    """
    try:
        import fcntl
    except ImportError as error:
        raise DeliveryUsageError(
            "versions are written with the file locks of Linux or macOS: run it there, or in WSL"
        ) from error
    descriptor = os.open(path, os.O_RDONLY)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError:
        os.close(descriptor)
        raise
    return descriptor


def sync_tree(root: Path) -> None:
    """Has everything below a directory written to the disk. Raises OSError."""
    for directory, _, files in os.walk(root):
        for file in files:
            sync(Path(directory, file))
        sync(Path(directory))


def sync(path: Path) -> None:
    """Has a file, or the names in a directory, written to the disk. Raises OSError."""
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)

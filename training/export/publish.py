"""Versions appear under the base path whole or not at all.

A version is written into a hidden directory beside its final name, on the same file system, synced, and renamed.
Servers look at children with numeric names only, so what is being written never shows.
"""

from __future__ import annotations

import errno
import os
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from delivery.base_path import PREFIX, lock_directory, remove_leftovers, sync, sync_tree
from fashion_common.layout import version_directories
from training.errors import TrainingError, TrainingUsageError


@contextmanager
def staging_directory(model_base_path: Path) -> Iterator[Path]:
    """A hidden directory under the base path to write a version into; gone afterwards unless it was published.

    What killed exports left behind is removed first. Raises TrainingUsageError when nothing can be written there, and
    TrainingError for an OSError on the way, such as a full disk.
    """
    try:
        model_base_path.mkdir(parents=True, exist_ok=True)
        remove_leftovers(model_base_path)
        path, lock = _locked_directory(model_base_path)
    except OSError as error:
        raise TrainingUsageError(
            f"Cannot write versions under {model_base_path}: {error.strerror}: choose another --model-base-path"
        ) from error
    try:
        yield path
    except OSError as error:
        raise TrainingError(f"Cannot write a version under {model_base_path}: {error.strerror or error}") from error
    finally:
        shutil.rmtree(path, ignore_errors=True)
        os.close(lock)


def publish(staging: Path, model_base_path: Path) -> Path:
    """Gives a written version the next free number, and returns its path.

    A directory cannot be renamed onto one that holds something, so two exports at once take two numbers.
    """
    sync_tree(staging)
    version = max(version_directories(model_base_path), default=0)
    while True:
        version += 1
        path = model_base_path / str(version)
        try:
            staging.rename(path)
        except OSError as error:
            if error.errno not in (errno.ENOTEMPTY, errno.EEXIST, errno.ENOTDIR):
                raise TrainingError(f"Cannot publish {path}: {error.strerror}") from error
        else:
            sync(model_base_path)
            return path


def _locked_directory(parent: Path) -> tuple[Path, int]:
    while True:
        path = Path(tempfile.mkdtemp(dir=parent, prefix=PREFIX))
        try:
            lock = lock_directory(path)
        except OSError:
            continue
        # Another export may have taken it for a leftover before it was locked.
        if path.is_dir():
            path.chmod(0o755)
            return path, lock
        os.close(lock)

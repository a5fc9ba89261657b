"""The one way to a model base path: which versions it holds, and the files of each. Local disk only.

Nothing else in the server may read below a base path, so that another kind of storage needs to be built here alone.
"""

from __future__ import annotations

import os
import re
from pathlib import Path

from fashion_common import layout
from fashion_common.errors import BasePathError, MisplacedModelError
from serving.errors import FailedPrecondition, NotFound, quoted

# An absolute path in a text, but for what follows the `:` of a URL.
_PATH = re.compile(r"""(?<![\w./~])/(?!/)[^\s'"`,;:()<>{}\[\]]+""")
# What a runtime says beyond that is not looked at.
_MAX_TEXT = 10_000


class VersionDirectory:
    """The files of one version. Its text says where they are, for the log only."""

    def __init__(self, path: Path) -> None:
        self._path = path

    def __str__(self) -> str:
        return str(self._path)

    def local_path(self) -> Path:
        """The directory on this machine's disk, for a runtime that opens the files itself."""
        return self._path

    def file(self, name: str) -> Path | None:
        """A file on this machine's disk by its name in the directory (`fashion_common.layout`); None without it."""
        path = self._path / name
        return path if path.is_file() else None

    def public(self, text: str) -> str:
        """A text for callers: its files are named within the directory, and other paths of this machine not at all."""
        text = text[:_MAX_TEXT]
        for path in (str(self), str(self._path), os.path.realpath(self._path)):
            text = text.replace(f"{path}/", "").replace(path, "the version's directory")
        return _PATH.sub("(path)", text)

    def fingerprint(self) -> object:
        """The names, sizes and times of the files: it changes whenever a file does. None when they cannot be read."""
        try:
            return sorted((str(file), file.stat().st_size, file.stat().st_mtime_ns) for file in self._path.rglob("*"))
        except OSError:
            return None


def versions(model_name: str, base_path: str) -> dict[int, VersionDirectory]:
    """The versions under a base path, by number: at least one.

    Raises NotFound or FailedPrecondition when there is none. What is there instead, and the fix, are for the log alone.
    """
    text = f"No versions of model {quoted(model_name)} can be read under its base path: the server's log says why"
    try:
        directories = layout.check_base_path(model_name, Path(base_path))
    except MisplacedModelError as error:
        raise FailedPrecondition(text, log_text=str(error)) from error
    except BasePathError as error:
        raise NotFound(text, log_text=str(error)) from error
    return {number: VersionDirectory(path) for number, path in directories.items()}


def is_readable(base_path: str) -> bool:
    """Whether a base path is a directory that this process may list."""
    return Path(base_path).is_dir() and os.access(base_path, os.R_OK | os.X_OK)

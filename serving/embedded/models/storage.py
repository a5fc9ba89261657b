"""The one way to a model base path: which versions it holds, and the files of each. Local disk only.

Nothing else in the server may read below a base path, so that another kind of storage needs to be built here alone.
"""

from __future__ import annotations

import errno
import os
import re
import stat
import time
from collections.abc import Iterator
from pathlib import Path

from fashion_common import layout
from fashion_common.errors import BasePathError, MisplacedModelError, UnreadableBasePathError
from serving.errors import FailedPrecondition, NotFound, Unavailable, quoted

# An absolute path in a text, but for what follows the `:` of a URL.
_PATH = re.compile(r"""(?<![\w./~])/(?!/)[^\s'"`,;:()<>{}\[\]]+""")
# What a runtime says beyond that is not looked at.
_MAX_TEXT = 10_000
# Links across can make endlessly many names of a few directories.
_MAX_ENTRIES = 100_000
# No kernel's clock of files is coarser: https://docs.kernel.org/filesystems/multigrain-ts.html
_TICK_SECONDS = 0.02
_LOOKS = 50


class VersionDirectory:
    """The files of one version. Its text says where they are, for the log only.

    fingerprint: what `look` saw: the names, sizes and times of the files; it changes whenever one does. None before
    that, and when they cannot be read. changed: when the last one was written or renamed, by the system's clock.
    """

    def __init__(self, path: Path) -> None:
        self._path = path
        self.fingerprint: object = None
        self.changed = 0.0

    def __str__(self) -> str:
        return str(self._path)

    def local_path(self) -> Path:
        """The directory on this machine's disk, for a runtime that opens the files itself."""
        return self._path

    def file(self, name: str) -> Path | None:
        """A file on this machine's disk by its name in the directory (`fashion_common.layout`); None without it.

        Raises OSError when the directory may not be searched, or the disk takes no such name.
        """
        path = self._path / name
        return path if path.is_file() else None

    def public(self, text: str) -> str:
        """A text for callers: its files are named within the directory, and other paths of this machine not at all."""
        text = text[:_MAX_TEXT]
        for path in (str(self), str(self._path), os.path.realpath(self._path)):
            text = text.replace(f"{path}/", "").replace(path, "the version's directory")
        return _PATH.sub("(path)", text)

    def files(self) -> dict[str, os.stat_result]:
        """The files by their names in the directory, those behind links included, and what is no regular file.

        Raises OSError when a directory cannot be read.
        """
        return {name: status for name, status in self._entries() if not stat.S_ISDIR(status.st_mode)}

    def look(self) -> None:
        """Looks at the files as they are now."""
        self.fingerprint, self.changed = self.current()

    def current(self) -> tuple[list[tuple[str, int, int, int]] | None, float]:
        """The fingerprint of the files as they are now, and when the last one was changed."""
        try:
            entries = list(self._entries())
        except OSError:
            return None, 0.0
        fingerprint = sorted((name, s.st_size, s.st_mtime_ns, s.st_ctime_ns) for name, s in entries)
        return fingerprint, max(max(s.st_mtime, s.st_ctime) for _, s in entries)

    def at_rest(self) -> object:
        """The fingerprint of the files once a change of any would show in it: the last one is a tick of the clock ago.

        Raises FailedPrecondition when they go on changing. A change in the same tick would leave the same times.
        """
        for _ in range(_LOOKS):
            fingerprint, _ = self.current()
            changed = max((nanoseconds for *_, nanoseconds in fingerprint or ()), default=0) / 1e9
            # One in the future is of another machine's clock.
            if not 0 <= time.time() - changed <= _TICK_SECONDS:
                return fingerprint
            time.sleep(_TICK_SECONDS)
        raise FailedPrecondition("The version's files go on changing: it is loaded when they are at rest")

    def _entries(self) -> Iterator[tuple[str, os.stat_result]]:
        """The directory itself, as an empty name, and all that is below it, links followed but for those upwards."""
        no_parents: frozenset[tuple[int, int]] = frozenset()
        pending = [("", self._path.stat(), no_parents)]
        for _ in range(_MAX_ENTRIES):
            if not pending:
                return
            name, status, parents = pending.pop()
            yield name, status
            key = status.st_dev, status.st_ino
            if stat.S_ISDIR(status.st_mode) and key not in parents:
                with os.scandir(self._path / name) as entries:
                    children = [
                        (f"{name}/{entry.name}".lstrip("/"), _status(entry), parents | {key}) for entry in entries
                    ]
                pending.extend(children)
        raise OSError(errno.EMLINK, f"more than {_MAX_ENTRIES} files and links", str(self._path))


def _status(entry: os.DirEntry[str]) -> os.stat_result:
    """What an entry is, or, of a link that leads nowhere, what the link is."""
    try:
        return entry.stat()
    except OSError:
        return entry.stat(follow_symlinks=False)


def versions(model_name: str, base_path: str) -> dict[int, VersionDirectory]:
    """The versions under a base path, by number: at least one.

    Raises NotFound or FailedPrecondition when there is none, Unavailable when nobody knows. What is there instead, and
    the fix, are for the log alone.
    """
    text = f"No versions of model {quoted(model_name)} can be read under its base path: the server's log says why"
    try:
        directories = layout.check_base_path(model_name, Path(base_path))
    except MisplacedModelError as error:
        raise FailedPrecondition(text, log_text=str(error)) from error
    except UnreadableBasePathError as error:
        raise Unavailable(text, log_text=str(error)) from error
    except BasePathError as error:
        raise NotFound(text, log_text=str(error)) from error
    return {number: VersionDirectory(path) for number, path in directories.items()}


def is_readable(base_path: str) -> bool:
    """Whether a base path is a directory that this process may list."""
    return os.path.isdir(base_path) and os.access(base_path, os.R_OK | os.X_OK)  # noqa: PTH112 - Path's raises

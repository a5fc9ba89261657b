"""Files wherever fsspec finds them: a path of this machine, or an address such as `s3://bucket/pictures`.

https://filesystem-spec.readthedocs.io
"""

from __future__ import annotations

import contextlib
import os
import tempfile
from collections.abc import Iterator
from datetime import datetime
from pathlib import Path
from typing import Any, BinaryIO, NamedTuple

import fsspec
from fsspec.implementations.local import LocalFileSystem

from delivery.address import printable, without_secrets
from delivery.errors import DeliveryError, DeliveryUsageError, SourceError
from fashion_common.files import whole_file

# What file systems call the mark of a content, or the time of the last change, the first of which is taken.
_MARKS = ("ETag", "etag", "mtime", "LastModified", "last_modified", "updated", "created")


class RemoteFile(NamedTuple):
    """A file on a file system. path: the file system's own. size: in bytes. stamp: changes with the file."""

    path: str
    size: int
    stamp: str


class Place(NamedTuple):
    """A path on a file system. fs: fsspec's."""

    fs: Any
    path: str

    @classmethod
    def of(cls, address: str) -> Place:
        """The place of a path or an address.

        Raises DeliveryUsageError for a file system that is not installed, SourceError for one that does not answer.
        """
        try:
            fs, path = fsspec.core.url_to_fs(address)
        except (ImportError, ValueError) as error:
            text = f"{address}: {error}: pip install what it names, or give another address"
            raise DeliveryUsageError(without_secrets(text)) from None
        except Exception as error:  # noqa: BLE001 - some connect at once, with the errors of their own libraries
            text = f"{address} cannot be read: {type(error).__name__}: {error}"
            raise SourceError(printable(without_secrets(text), 1000)) from None
        return cls(fs, path)

    def __str__(self) -> str:
        """As it is told to people, and found again by `of`."""
        return self.path if self.is_local else str(self.fs.unstrip_protocol(self.path))

    def __truediv__(self, name: str) -> Place:
        return Place(self.fs, f"{self.path.rstrip('/')}/{name}")

    @property
    def is_local(self) -> bool:
        """Whether it is on this machine's disk."""
        return isinstance(self.fs, LocalFileSystem)

    def stamp(self) -> str:
        """What changes with the file: its size, and its time or tag. Raises OSError."""
        return stamp(self.fs.info(self.path))

    @property
    def shown(self) -> str:
        """As it is printed: without a password."""
        return without_secrets(str(self))

    def file(self) -> RemoteFile:
        """The file that it is. Raises SourceError."""
        with source_errors(self.shown):
            info = self.fs.info(self.path)
            return RemoteFile(self.path, int(info["size"]), stamp(info))

    def children(self) -> dict[str, str]:
        """The last parts of the names that lie here, and of what type each is. Raises SourceError."""
        with source_errors(self.shown):
            self.fs.invalidate_cache()
            return {
                info["name"].rstrip("/").rpartition("/")[2]: info["type"] for info in self.fs.ls(self.path, detail=True)
            }

    def files(self) -> dict[str, RemoteFile]:
        """All files below it, by their names from here; empty where there are none. Raises SourceError."""
        with source_errors(self.shown):
            self.fs.invalidate_cache()
            found = self.fs.find(self.path, detail=True)
            prefix = self.path.rstrip("/") + "/"
            files = {}
            for path, info in found.items():
                # An object store may hold an empty object that stands for a folder.
                if info["type"] == "directory" or path.endswith("/") or not path.startswith(prefix):
                    continue
                # A listing over HTTP has no sizes.
                full = info if info.get("size") is not None else self.fs.info(path)
                files[path.removeprefix(prefix)] = RemoteFile(path, int(full["size"]), stamp(full))
            return files

    def piece(self, file: RemoteFile, begin: int, end: int) -> bytes:
        """The bytes of a file from begin up to end. Raises SourceError, also for fewer or more."""
        shown = without_secrets(str(Place(self.fs, file.path)))
        with source_errors(shown):
            # Not every server answers with ranges.
            whole = (begin, end) == (0, file.size)
            content: bytes = self.fs.cat_file(file.path, **({} if whole else {"start": begin, "end": end}))
        if len(content) != end - begin:
            raise SourceError(f"{shown} gave {len(content)} of {end - begin} bytes: it has changed, or knows no ranges")
        return content

    def read(self) -> bytes | None:
        """The bytes; None where there is no file. Raises OSError."""
        try:
            content: bytes = self.fs.cat_file(self.path)
        except FileNotFoundError:
            return None
        return content

    @contextlib.contextmanager
    def whole(self) -> Iterator[BinaryIO]:
        """A file to write that takes its name when all went well, and is not there otherwise.

        Raises DeliveryError when it cannot be written.
        """
        try:
            if self.is_local:
                with whole_file(Path(self.path)) as file:
                    yield file
                return
            # An object appears when all of it was sent.
            with tempfile.TemporaryDirectory() as directory:
                local = Path(directory) / "part"
                with local.open("wb") as file:
                    yield file
                self.fs.put_file(os.fspath(local), self.path)
        except OSError as error:
            reason = error.strerror or error
            text = f"{self} cannot be written: {reason}: run the same command again when it can"
            raise DeliveryError(text) from error


def stamp(info: dict[str, Any]) -> str:
    """The same of what a file system tells of a file."""
    # Of a file in memory a listing has the time as a number, and the file itself as a datetime.
    values = (info[key] for key in _MARKS if key in info)
    marks = [str(value.timestamp() if isinstance(value, datetime) else value) for value in values]
    return " ".join([str(info.get("size")), *marks[:1]])


@contextlib.contextmanager
def source_errors(shown: str) -> Iterator[None]:
    """Makes a SourceError of whatever a file system raises, without secrets: no cause is kept, which may have some.

    shown: what is read, as it is printed.
    """
    try:
        yield
    except FileNotFoundError:
        raise SourceError(f"{shown}: there is no such file or directory") from None
    except Exception as error:  # noqa: BLE001 - each file system has the errors of its own libraries
        reason = printable(without_secrets(f"{type(error).__name__}: {error}".strip(": ")), 1000)
        raise SourceError(f"{shown} cannot be read: {reason}") from None

"""Files wherever fsspec finds them: a path of this machine, or an address such as `s3://bucket/pictures`.

https://filesystem-spec.readthedocs.io
"""

from __future__ import annotations

import contextlib
import os
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any, BinaryIO, NamedTuple

import fsspec
from fsspec.implementations.local import LocalFileSystem

from delivery.errors import DeliveryError, DeliveryUsageError
from fashion_common.files import whole_file

# What file systems call the mark of a content, or the time of the last change, the first of which is taken.
_MARKS = ("ETag", "etag", "mtime", "LastModified", "last_modified", "updated")


class Place(NamedTuple):
    """A path on a file system. fs: fsspec's."""

    fs: Any
    path: str

    @classmethod
    def of(cls, address: str) -> Place:
        """The place of a path or an address. Raises DeliveryUsageError for a file system that is not installed."""
        try:
            fs, path = fsspec.core.url_to_fs(address)
        except (ImportError, ValueError) as error:
            raise DeliveryUsageError(
                f"{address}: {error}: pip install what it names, or give another address"
            ) from error
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
    marks = [str(info[key]) for key in _MARKS if key in info]
    return " ".join([str(info.get("size")), *marks[:1]])

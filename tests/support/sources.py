"""Where versions are pulled from: files in memory whose connection can be cut, and versions as exports leave them."""

from __future__ import annotations

import json
import os
from collections.abc import Iterator
from hashlib import sha256
from pathlib import Path
from typing import Any

import fsspec
import pytest
from fsspec.implementations.memory import MemoryFileSystem

from fashion_common.layout import MANIFEST_FILE, SAVED_MODEL_FILE

LARGE = "variables/variables.data-00000-of-00001"
# In pieces of a test.
PIECE = 1000


def version_files(mark: bytes = b"", *, manifest: bool = True, size: int = 3500) -> dict[str, bytes]:
    """The files of a version, one of them of several pieces."""
    files = {SAVED_MODEL_FILE: b"graph" + mark, "variables/variables.index": b"index", LARGE: os.urandom(size)}
    if manifest:
        entries = {name: {"sha256": sha256(data).hexdigest(), "bytes": len(data)} for name, data in files.items()}
        files[MANIFEST_FILE] = json.dumps({"files": entries}).encode()
    return files


def local_files(version: Path) -> dict[str, bytes]:
    """The files of a version on this machine."""
    return {path.relative_to(version).as_posix(): path.read_bytes() for path in version.rglob("*") if path.is_file()}


class Memory(MemoryFileSystem):  # type: ignore[misc]
    """Files in memory that count what is read of each, and cut the connection when they are told to.

    cut_after: bytes until every read fails; None for never. changes: called after each read.
    """

    protocol = "flaky"
    store: dict[str, Any] = {}  # noqa: RUF012 - of all its instances
    pseudo_dirs: list[str] = [""]  # noqa: RUF012
    cachable = False
    cut_after: int | None = None
    reads: dict[str, int] = {}  # noqa: RUF012
    changes: list[Any] = []  # noqa: RUF012

    @classmethod
    def _strip_protocol(cls, path: str) -> str:
        stripped: str = super()._strip_protocol(path.replace("flaky://", "memory://"))
        return stripped

    def cat_file(self, path: str, start: int | None = None, end: int | None = None, **_: Any) -> bytes:
        """The bytes; an error when the connection is cut."""
        content: bytes = super().cat_file(path, start, end)
        if Memory.cut_after is not None:
            if Memory.cut_after < len(content):
                raise ConnectionResetError(f"https://key:secret@host{path}?signature=secret was cut")
            Memory.cut_after -= len(content)
        name = path.rpartition("/fashion_mnist/")[2]
        Memory.reads[name] = Memory.reads.get(name, 0) + len(content)
        if Memory.changes:
            Memory.changes.pop()()
        return content


@pytest.fixture
def memory(monkeypatch: pytest.MonkeyPatch) -> Iterator[type[Memory]]:
    """A file system of its own at flaky://, without pauses and in small pieces."""
    fsspec.register_implementation("flaky", Memory, clobber=True)
    monkeypatch.setattr("delivery.fetch._PIECE_BYTES", PIECE)
    monkeypatch.setattr("delivery.pull._PAUSE_SECONDS", 0.0)
    Memory.store.clear()
    Memory.pseudo_dirs[:] = [""]
    Memory.cut_after, Memory.reads, Memory.changes = None, {}, []
    yield Memory
    Memory.store.clear()


def put(number: int, files: dict[str, bytes]) -> dict[str, bytes]:
    """Has the version at flaky://bucket/fashion_mnist; gives its files."""
    for name, content in files.items():
        Memory().pipe_file(f"/bucket/fashion_mnist/{number}/{name}", content)
    return files

"""Files that are whole or not there."""

from __future__ import annotations

import hashlib
import os
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import BinaryIO

_PIECE_BYTES = 2**20
# A process's open files by name: links into the kernel, which cannot be replaced.
_STREAMS = ("/dev/fd/", "/dev/std", "/proc/")


def sha256(path: Path) -> str:
    """The SHA-256 of a file's content in hexadecimal. Raises OSError."""
    digest = hashlib.sha256()
    with path.open("rb") as file:
        while piece := file.read(_PIECE_BYTES):
            digest.update(piece)
    return digest.hexdigest()


def write_whole(path: Path, data: bytes | str, mode: int = 0o644) -> None:
    """Writes a file so that no reader, and no crash, ever sees half of it; text is UTF-8. Raises OSError."""
    with whole_file(path, mode) as file:
        file.write(data.encode() if isinstance(data, str) else data)


@contextmanager
def whole_file(path: Path, mode: int = 0o644) -> Iterator[BinaryIO]:
    """A file to write piece by piece, which takes the name `path` when all went well and is gone otherwise.

    A link stays, and what it names is replaced; what is no regular file, such as a device or a pipe, is written to.
    Raises OSError.
    """
    if str(path.absolute()).startswith(_STREAMS) or (path.exists() and not path.is_file()):
        # Appended: the file behind /dev/stdout has what was printed before.
        with path.open("ab") as stream:
            yield stream
        return
    path = Path(os.path.realpath(path))
    path.parent.mkdir(parents=True, exist_ok=True)
    descriptor, name = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.")
    temporary = Path(name)
    try:
        with os.fdopen(descriptor, "wb") as file:
            yield file
            file.flush()
            os.fsync(file.fileno())
        temporary.chmod(mode)
        temporary.replace(path)
    except BaseException:
        temporary.unlink(missing_ok=True)
        raise

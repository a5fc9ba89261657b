"""The files of recordings, as they are written: whole records, whatever ends the writer.

`recordings` says what a record is, and reads them.
"""

from __future__ import annotations

import contextlib
import datetime as dt
import fcntl
import os
import re
import secrets
import socket
import threading
import time
from collections.abc import Callable, Sequence
from pathlib import Path

from serving.apis.messages import PredictionLog
from serving.apis.recordings import RecordingError
from serving.apis.tfrecord import framed

# Requests may hold personal data.
_MODE = 0o600
_DIRECTORY_MODE = 0o700


class RecordingFile:
    """A new file of records, readable by its owner only; threads may share it.

    Each record is written at once and whole: what was written before a kill can be read. It is not synced to the disk,
    so a machine that fails may take the last seconds with it. `close`, or the end of a `with` block, ends it. size: in
    bytes. Raises RecordingError when there is a file already, or none can be made.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self.size = 0
        self._lock = threading.Lock()
        flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_APPEND | os.O_CLOEXEC
        try:
            # Where a file is in its place, `open` says so.
            with contextlib.suppress(FileExistsError):
                path.parent.mkdir(_DIRECTORY_MODE, parents=True)
            self._descriptor = os.open(path, flags, _MODE)
        except FileExistsError as error:
            raise RecordingError(f"{path} exists, and a recording is a new file: give another name") from error
        except OSError as error:
            raise RecordingError(f"{path} cannot be made: {error.strerror}: give a path that can be written") from error
        # Tells other writers that it is still written; a kill ends it.
        fcntl.flock(self._descriptor, fcntl.LOCK_EX)

    def __enter__(self) -> RecordingFile:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def write(self, log: PredictionLog) -> None:
        """Adds a record. Raises RecordingError, and leaves the file as it was, when it cannot be."""
        self.append(framed(serialized(log)))

    def append(self, record: bytes) -> None:
        """Adds the bytes of records as they are in a file; as `write`."""
        with self._lock:
            written = 0
            try:
                while written < len(record):
                    written += os.write(self._descriptor, record[written:])
            except OSError as error:
                # Behind a torn record no other could be read.
                os.ftruncate(self._descriptor, self.size)
                raise RecordingError(f"{self.path} cannot be written to: {error.strerror}") from error
            self.size += len(record)

    def close(self) -> None:
        """Ends the file."""
        with self._lock:
            if self._descriptor >= 0:
                os.close(self._descriptor)
                self._descriptor = -1


def serialized(log: PredictionLog) -> bytes:
    """The bytes of a record; the same message gives the same bytes."""
    return log.SerializeToString(deterministic=True)


class RecordingWriter:
    """Files of records that begin with `filename_prefix`, one after the other, within bounds. For one thread.

    A file's name goes on with the time (UTC), the host, the process and a number: no two writers have the same, and
    files sort by age. A file ends when the next record would make it larger than `max_file_bytes`, or at the first look
    after `max_age_seconds`. All files of the prefix on this host, those of other and earlier processes too, have
    `max_total_bytes` together: the oldest are removed, but none that is being written, which counts as full.
    clock: in seconds.
    """

    def __init__(
        self,
        filename_prefix: str,
        *,
        max_file_bytes: int,
        max_age_seconds: float,
        max_total_bytes: int,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        directory, name = os.path.split(filename_prefix)
        self._directory = Path(directory or ".")
        self._max_file_bytes = max_file_bytes
        self._max_age_seconds = max_age_seconds
        self._max_total_bytes = max_total_bytes
        self._clock = clock
        host = re.sub(r"[^A-Za-z0-9.]", "_", socket.gethostname())
        begin = f"{name}-" if name else ""
        self._name = f"{begin}{{time}}-{host}-{os.getpid()}_{secrets.token_hex(4)}-{{number:06d}}.tfrecord"
        self._names = re.compile(
            rf"{re.escape(begin)}\d{{8}}T\d{{6}}\.\d{{6}}Z-{re.escape(host)}-\d+_[0-9a-f]{{8}}-\d{{6,}}\.tfrecord"
        )
        self._number = 0
        self._file: RecordingFile | None = None
        self._begin = 0.0

    def write(self, log: PredictionLog) -> None:
        """Adds a record. Raises RecordingError when it cannot be, or is larger than a file."""
        record = framed(serialized(log))
        self.check(record)
        self.extend([record])

    def check(self, record: bytes) -> None:
        """Raises RecordingError for a record that is larger than a file. record: as it is in a file."""
        if len(record) > self._max_file_bytes:
            raise RecordingError(
                f"a record has {len(record)} bytes, and a file has room for {self._max_file_bytes}: allow larger files"
            )

    def extend(self, records: Sequence[bytes]) -> None:
        """Adds records that were checked, as many at once as a file has room for. Raises RecordingError."""
        self.end_old()
        pieces: list[bytes] = []
        size = self._file.size if self._file is not None else 0
        for record in records:
            if size + len(record) > self._max_file_bytes:
                self._append(pieces)
                self.close()
                pieces, size = [], 0
            pieces.append(record)
            size += len(record)
        self._append(pieces)

    def end_old(self) -> None:
        """Ends the file if it is old."""
        if self._file is not None and self._clock() - self._begin >= self._max_age_seconds:
            self.close()

    def close(self) -> None:
        """Ends the file; another record begins the next one."""
        if self._file is not None:
            self._file.close()
            self._file = None

    def _append(self, pieces: Sequence[bytes]) -> None:
        if not pieces:
            return
        if self._file is None:
            self._remove_old()
            self._number += 1
            now = dt.datetime.now(dt.timezone.utc)
            name = self._name.format(time=f"{now:%Y%m%dT%H%M%S.%fZ}", number=self._number)
            self._file = RecordingFile(self._directory / name)
            self._begin = self._clock()
        self._file.append(b"".join(pieces))

    def _remove_old(self) -> None:
        """Makes room for one more file."""
        paths = sorted(path for path in _children(self._directory) if self._names.fullmatch(path.name))
        sizes = {path: self._size(path) for path in paths}
        excess = sum(size for size, _ in sizes.values()) + self._max_file_bytes - self._max_total_bytes
        for path, (size, is_written) in sizes.items():
            if excess <= 0:
                break
            if not is_written:
                path.unlink(missing_ok=True)
                excess -= size

    def _size(self, path: Path) -> tuple[int, bool]:
        """The bytes that a file may have in the end, and whether it is still written."""
        try:
            with path.open("rb") as file:
                try:
                    fcntl.flock(file, fcntl.LOCK_SH | fcntl.LOCK_NB)
                except BlockingIOError:
                    return self._max_file_bytes, True
                return os.fstat(file.fileno()).st_size, False
        except OSError:
            # Another writer has removed it.
            return 0, False


def _children(directory: Path) -> list[Path]:
    try:
        return list(directory.iterdir())
    except OSError:
        # To be made, or told about, when the file is.
        return []

"""Logs that never hold anybody up: whoever writes a line goes on at once, whatever becomes of the line."""

from __future__ import annotations

import collections
import contextlib
import io
import os
import stat
import sys
import threading
import time
from collections.abc import Callable, Iterator

# What waits for a reader, or for a disk with room.
_MAX_BYTES = 2**20
# Lines are gathered for so long, and as many are written at once as no other process can come between: Linux' PIPE_BUF.
_GATHER_SECONDS = 0.02
ATOMIC_BYTES = 4096
_STDERR = 2
# How often it is tried whether there is room again, and how long the last lines may take.
_RETRY_SECONDS = 1.0
_CLOSE_SECONDS = 1.0


class LogWriter(io.TextIOBase):
    """A text stream over a copy of a descriptor, whose `write` neither blocks nor fails: a thread of its own writes.

    Lines that do not fit into `max_bytes`, or that the descriptor does not take, are dropped and counted. The text that
    `notice` makes of their number takes their place once there is room.
    """

    def __init__(self, descriptor: int, notice: Callable[[int], str], max_bytes: int = _MAX_BYTES) -> None:
        # Whoever closes the other one must not make this the next socket's.
        self._descriptor = os.dup(descriptor)
        self._notice = notice
        self._max_bytes = max_bytes
        # An int stands for so many lines that were dropped.
        self._queue: collections.deque[bytes | int] = collections.deque()
        self._size = 0
        self._dropped = 0
        self._torn = False
        self._closing = False
        self._lock = threading.Lock()
        self._wake = threading.Event()
        self._thread = threading.Thread(target=self._run, name="log", daemon=True)
        self._thread.start()

    def writable(self) -> bool:
        """As streams have it."""
        return True

    def fileno(self) -> int:
        """The descriptor."""
        return self._descriptor

    def write(self, text: str) -> int:
        """Takes a text over, or drops it; best a whole line, with its end."""
        data = text.encode("utf-8", "backslashreplace")
        with self._lock:
            if self._size + len(data) > self._max_bytes:
                self._dropped += text.count("\n")
            else:
                self._count_dropped()
                self._queue.append(data)
                self._size += len(data)
        if not self._wake.is_set():
            self._wake.set()
        return len(text)

    def flush(self) -> None:
        """Nothing: the thread writes as soon as it can."""

    def close(self) -> None:
        """Writes what is left, within a second; what is written later is dropped."""
        self._closing = True
        self._wake.set()
        self._thread.join(_CLOSE_SECONDS)
        if self._descriptor >= 0 and not self._thread.is_alive():
            os.close(self._descriptor)
            self._descriptor = -1

    def _count_dropped(self) -> None:
        if self._dropped:
            self._queue.append(self._dropped)
            self._dropped = 0

    def _run(self) -> None:
        while not self._closing:
            self._wake.wait(_RETRY_SECONDS if self._dropped else None)
            if not self._closing:
                time.sleep(_GATHER_SECONDS)
            self._wake.clear()
            with self._lock:
                self._count_dropped()
            while self._queue and self._write_some():
                pass

    def _write_some(self) -> bool:
        """Writes the next lines; whether that worked."""
        pieces, lines, size = [b"\n"] if self._torn else [], 0, 0
        with self._lock:
            while self._queue:
                item = self._queue[0]
                piece = self._notice(item).encode() if isinstance(item, int) else item
                if lines and size + len(piece) > ATOMIC_BYTES:
                    break
                self._queue.popleft()
                pieces.append(piece)
                lines += item if isinstance(item, int) else piece.count(b"\n")
                size += len(piece)
                self._size -= 0 if isinstance(item, int) else len(piece)
        if not self._write(b"".join(pieces)):
            with self._lock:
                self._dropped += lines
            return False
        return True

    def _write(self, data: bytes) -> bool:
        written = 0
        while written < len(data):
            try:
                written += os.write(self._descriptor, data[written:])
            except BlockingIOError:
                # Somebody else has made it a descriptor that does not block.
                time.sleep(_GATHER_SECONDS)
            except OSError:
                self._torn = self._torn or written > 0
                return False
        self._torn = False
        return True


def _stderr_notice(count: int) -> str:
    return f"{count} lines of this log were dropped: nobody read them, or there was no room for them\n"


@contextlib.contextmanager
def stderr_never_blocks() -> Iterator[None]:
    """Whatever Python writes to `sys.stderr` goes through a LogWriter; what C++ libraries write waits for no reader."""
    stream = sys.stderr
    sys.stderr = writer = LogWriter(stream.fileno(), _stderr_notice)
    if stream.fileno() == _STDERR and stat.S_ISFIFO(os.fstat(_STDERR).st_mode):
        # Opened anew, it does not block here, whoever else has it. Only Linux can; there is no thread to read for them,
        # since a library's last words before it ends the process would be lost with it.
        with contextlib.suppress(OSError):
            anew = os.open(f"/proc/self/fd/{_STDERR}", os.O_WRONLY | os.O_NONBLOCK)
            os.dup2(anew, _STDERR)
            os.close(anew)
    try:
        yield
    finally:
        sys.stderr = stream
        writer.close()


def open_standard_streams() -> None:
    """Gives this process the null device for each standard stream that it was started without.

    Otherwise the next file or socket takes the number, and gets what C++ libraries write to stderr.
    """
    for descriptor, name in enumerate(("stdin", "stdout", "stderr")):
        try:
            os.fstat(descriptor)
        except OSError:
            os.open(os.devnull, os.O_RDWR)
            setattr(sys, name, open(descriptor, "w" if descriptor else "r", closefd=False))  # noqa: SIM115

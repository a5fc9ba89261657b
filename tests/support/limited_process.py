"""Gives a running process so much memory and no more, and measures what it takes."""

from __future__ import annotations

import contextlib
import os
import resource
import time
from collections.abc import Iterator
from pathlib import Path

# cgroup v1 has a tree for memory alone, v2 one for everything.
_V1 = Path("/sys/fs/cgroup/memory")
_V2 = Path("/sys/fs/cgroup")
# What a process reserves and never touches: stacks of threads, the allocator's arenas, TensorFlow's own.
_RESERVED_BYTES = 2**30


class Memory:
    """The memory of a process. means: what keeps it within its limit."""

    def __init__(self, pid: int, means: str = "") -> None:
        self.means = means
        self._process = Path(f"/proc/{pid}")

    def resident(self) -> int:
        """Bytes that it has now; 0 when it has ended."""
        return self._status("VmRSS")

    def peak(self) -> int:
        """The most that it had since the last `forget_peak`."""
        return self._status("VmHWM")

    def forget_peak(self) -> None:
        """Measures the peak anew: 5, in proc(5)."""
        with contextlib.suppress(OSError):
            (self._process / "clear_refs").write_text("5")

    def back_below(self, size: int, seconds: float) -> bool:
        """Whether it has no more than this, at once or within some seconds."""
        end = time.monotonic() + seconds
        while self.resident() > size:
            if time.monotonic() > end:
                return False
            time.sleep(0.1)
        return True

    def _status(self, name: str) -> int:
        try:
            lines = (self._process / "status").read_text().splitlines()
        except OSError:
            return 0
        return next((int(line.split()[1]) * 1024 for line in lines if line.startswith(name)), 0)


@contextlib.contextmanager
def limited(pid: int, total: int) -> Iterator[Memory]:
    """Lets a process have `total` bytes of memory; beyond it the kernel kills it or refuses to give it more.

    A cgroup, where one can be made, counts what is taken from now on: what the process has already stays its parent's.
    Elsewhere it is RLIMIT_AS, which counts addresses, so that more than memory goes into it.
    """
    memory = Memory(pid, "")
    left = total - memory.resident()
    with contextlib.ExitStack() as stack:
        try:
            memory.means = _move_to_cgroup(stack, pid, left)
        except OSError:
            addresses = memory._status("VmSize") + left + _RESERVED_BYTES
            resource.prlimit(pid, resource.RLIMIT_AS, (addresses, addresses))
            memory.means = f"RLIMIT_AS of {addresses >> 20} MiB"
        yield memory


def _move_to_cgroup(stack: contextlib.ExitStack, pid: int, left: int) -> str:
    version, root, file = ("v1", _V1, "memory.limit_in_bytes") if _V1.is_dir() else ("v2", _V2, "memory.max")
    group = root / f"hostile-{os.getpid()}-{pid}"
    group.mkdir()
    stack.callback(_remove, group)
    (group / file).write_text(str(left))
    (group / "cgroup.procs").write_text(str(pid))
    return f"cgroup {version} with {left >> 20} MiB beyond what the start took"


def _remove(group: Path) -> None:
    """Removes a group, once its process has left it or ended."""
    with contextlib.suppress(OSError):
        for pid in (group / "cgroup.procs").read_text().split():
            (group.parent / "cgroup.procs").write_text(pid)
    with contextlib.suppress(OSError):
        group.rmdir()

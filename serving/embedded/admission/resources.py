"""What the machine gives this process: memory and descriptors."""

from __future__ import annotations

import contextlib
import ctypes
import os
import resource
from pathlib import Path

# Of the memory that is left once the models are loaded, the share that requests and answers may hold: each is in memory
# up to four times for a moment, as bytes, message, array and TensorFlow's own, and the allocators keep as much again:
# glibc in pages that are partly used, and TensorFlow, whose pool of tensors (oneDNN's) gives nothing back and grows in
# regions that double. Without it a batch of 1,000 images takes 1.6 times as long.
SHARE = 0.125
# What the buffers of connections in TLS may hold of it.
_TLS_SHARE = 0.25
_LEAST_BYTES = 32 * 2**20
# What a connection in TLS keeps beside its messages once it has sent much at a time: uvloop's buffers, as measured.
_TLS_BYTES = 280 * 2**10
# cgroup v2 and v1, as a container sees them: https://docs.kernel.org/admin-guide/cgroup-v2.html
_CGROUP_FILES = ("/sys/fs/cgroup/memory.max", "/sys/fs/cgroup/memory/memory.limit_in_bytes")
_PAGES = Path("/proc/self/statm")
_M_TRIM_THRESHOLD, _M_MMAP_THRESHOLD, _M_ARENA_MAX = -1, -3, -8
_LARGE_BLOCK_BYTES = 2**20
# What is freed and taken again for each batch of a thousand images is kept.
_KEPT_BYTES = 2**23
_HEAPS = 4
# Descriptors for files, sockets of siblings, what TensorFlow opens, and connections that were accepted a moment ago, or
# are about to be closed: 128 of each port in a turn of the event loop. Half of all, when that is less.
_RESERVED_DESCRIPTORS = 640


def default_budget(processes: int) -> int:
    """Bytes that the requests and answers of one of several processes may hold: a share of what memory is left."""
    return _share(processes, SHARE)


def tls_connections(processes: int) -> int:
    """How many connections in TLS one of several processes may have: what a share of it is enough for."""
    return _share(processes, _TLS_SHARE) // _TLS_BYTES


def _share(processes: int, share: float) -> int:
    return max(_LEAST_BYTES, int((memory_limit() // processes - resident_bytes()) * share))


def bound_allocator() -> None:
    """Makes glibc give large blocks back as they are freed, and keep less; to be called before threads begin.

    By itself it moves its thresholds up to 32 and 64 MiB with the blocks that are freed, and has eight heaps for each
    CPU, none of which shrinks while its end is in use: https://man7.org/linux/man-pages/man3/mallopt.3.html
    """
    with contextlib.suppress(AttributeError, OSError, TypeError):
        mallopt = ctypes.CDLL(None).mallopt
        mallopt(_M_TRIM_THRESHOLD, _KEPT_BYTES)
        mallopt(_M_MMAP_THRESHOLD, _LARGE_BLOCK_BYTES)
        mallopt(_M_ARENA_MAX, _HEAPS)


def memory_limit() -> int:
    """The memory that this process may use, in bytes: its cgroup's limit, or else the machine's."""
    texts = [Path(file).read_text().strip() for file in _CGROUP_FILES if Path(file).is_file()]
    return min([_machine_bytes(), *(int(text) for text in texts if text.isdigit())])


def raise_descriptor_limit() -> int:
    """Lets this process have as many descriptors as it may; gives how many connections that is enough for."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if soft != hard:
        # macOS says that there is no limit, and takes none beyond its own.
        with contextlib.suppress(OSError, ValueError):
            resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
            soft = hard
    return max(1, soft - min(_RESERVED_DESCRIPTORS, soft // 2)) if soft != resource.RLIM_INFINITY else 2**31 - 1


def _machine_bytes() -> int:
    return os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")


def resident_bytes() -> int:
    """The memory that this process holds; 0 where the system does not say."""
    return int(_PAGES.read_text().split()[1]) * resource.getpagesize() if _PAGES.is_file() else 0

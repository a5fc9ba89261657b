"""What this process has open, as Linux tells it: https://man7.org/linux/man-pages/man5/proc_pid_fd.5.html."""

from __future__ import annotations

from contextlib import suppress
from pathlib import Path


def open_below(directory: Path) -> list[str]:
    """What lies below a directory and is open, with its directories; a removed one has `(deleted)` behind its name.

    The number of all descriptors tells nothing where other tests' threads end at any time.
    """
    paths = []
    for descriptor in Path("/proc/self/fd").iterdir():
        # One that was open when the directory was listed, if only for that.
        with suppress(FileNotFoundError):
            paths.append(str(descriptor.readlink()))
    return sorted(path for path in paths if path.startswith(f"{directory}/"))

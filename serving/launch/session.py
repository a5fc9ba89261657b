"""Processes that outlive the command."""

from __future__ import annotations

import subprocess
from collections.abc import Sequence
from pathlib import Path
from typing import IO


def start_session(command: Sequence[str], lock: IO[bytes], log: Path) -> int:
    """Starts a process in a session of its own, which holds the lock; gives its id. Raises OSError.

    log: the file that its output goes to.
    """
    with log.open("wb") as output:
        process = subprocess.Popen(
            command,
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=output,
            start_new_session=True,
            pass_fds=[lock.fileno()],
        )
    # It is not waited for, the lock says whether it lives: a Popen with an exit code does not warn about that.
    process.returncode = 0
    return process.pid

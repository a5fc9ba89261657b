"""Processes that outlive the command."""

from __future__ import annotations

import subprocess
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import IO


def start_session(
    command: Sequence[str], lock: IO[bytes], log: Path, environment: Mapping[str, str] | None = None
) -> int:
    """Starts a process in a session of its own, which holds the lock; gives its id. Raises OSError.

    log: the file that its output goes to. environment: ours where it is None.
    """
    with log.open("wb") as output:
        process = subprocess.Popen(
            command,
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=output,
            start_new_session=True,
            env=environment,
            pass_fds=[lock.fileno()],
        )
    # It is not waited for, the lock says whether it lives: a Popen with an exit code does not warn about that.
    process.returncode = 0
    return process.pid

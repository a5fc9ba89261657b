"""The worker processes of a live server: --workers."""

from __future__ import annotations

from pathlib import Path

import psutil  # type: ignore[import-untyped]


def workers_of(pid: int) -> list[int]:
    """The processes that a process has started (proc(5))."""
    return [int(child) for child in Path(f"/proc/{pid}/task/{pid}/children").read_text().split()]


def is_listening(pid: int) -> bool:
    """Whether a process has its REST port open, which it opens last."""
    try:
        connections = psutil.Process(pid).net_connections("tcp")
    except psutil.Error:
        return False
    return bool(sum(connection.status == psutil.CONN_LISTEN for connection in connections) == 2)

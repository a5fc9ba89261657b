"""The whole road as tests walk it: the console command, and where what it left lies."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path
from typing import NamedTuple

FASHION = str(Path(sys.executable).with_name("fashion"))


class Road(NamedTuple):
    """Where everything lies, and where the server listens: `servers` by API, grpc and rest."""

    directory: Path
    run: Path
    servers: dict[str, str]


def fashion(*arguments: object, cwd: Path | None = None) -> subprocess.CompletedProcess[str]:
    """Runs the console command as a user does."""
    return subprocess.run(
        [FASHION, *map(str, arguments)], cwd=cwd, capture_output=True, text=True, check=False, timeout=120
    )

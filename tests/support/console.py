"""The console command `fashion`, in processes of its own as a user has it."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

FASHION = str(Path(sys.executable).with_name("fashion"))
# What an export and a self-test end with.
AGREEMENT = r"4 signatures answer as the trained model does, 2 of them on LiteRT too, within \d\.\de-\d\d\n"
PASSED = f"Self-test passed: {AGREEMENT}"


def fashion(*arguments: object, cwd: Path | None = None) -> subprocess.CompletedProcess[str]:
    """Runs the command to its end, whatever its exit code."""
    return subprocess.run(
        [FASHION, *map(str, arguments)], cwd=cwd, capture_output=True, text=True, check=False, timeout=120
    )


def unmeasured() -> dict[str, str]:
    """The environment without coverage's part, for processes whose time or memory is a test's subject."""
    return {name: value for name, value in os.environ.items() if not name.startswith("COVERAGE_")}

"""Where a result comes from: the versions of the packages and of this checkout."""

from __future__ import annotations

import platform
import subprocess
from importlib import metadata
from pathlib import Path

_PACKAGES = ("ai-edge-litert", "fashion-mnist-serving", "keras", "numpy", "pillow", "tensorflow")


def environment() -> dict[str, object]:
    """Python's version, each package's (None where it is not installed), and the git revision (None as below)."""
    return {
        "python": platform.python_version(),
        "packages": {name: _package_version(name) for name in _PACKAGES},
        "git_revision": git_revision(),
    }


def git_revision() -> str | None:
    """The commit of the checkout that this package is in, then `-dirty` when files differ; None outside of one."""
    command = ["git", "-C", str(Path(__file__).parent), "describe", "--always", "--abbrev=40", "--exclude=*", "--dirty"]
    try:
        process = subprocess.run(command, capture_output=True, text=True, timeout=10, check=True)
    except (OSError, subprocess.SubprocessError):
        return None
    return process.stdout.strip() or None


def _package_version(package: str) -> str | None:
    try:
        return metadata.version(package)
    except metadata.PackageNotFoundError:
        return None

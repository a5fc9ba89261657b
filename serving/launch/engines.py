"""Container engines: docker or podman, whichever runs here."""

from __future__ import annotations

import os
import platform
import shutil
import subprocess
from collections.abc import Sequence
from typing import NamedTuple

from fashion_common.errors import EXIT_USAGE, FashionError

ENGINES = ("docker", "podman")
_PROBE_SECONDS = 20
_PULL_SECONDS = 1800
# Where podman looks for catatonit, besides the PATH: containers.conf(5), helper_binaries_dir.
_HELPERS = ("/usr/local/libexec/podman", "/usr/local/lib/podman", "/usr/libexec/podman", "/usr/lib/podman")
_AMD64 = frozenset({"x86_64", "amd64"})


class EngineError(FashionError):
    """No container can be run here."""

    exit_code = EXIT_USAGE


class Engine(NamedTuple):
    """The engine that was found, or None; `reason` says why, either way."""

    name: str | None
    reason: str


def find_engine(wanted: str | None = None) -> Engine:
    """The first of docker and podman that runs, or the wanted one if it does: it is asked, not looked for only."""
    reasons = []
    for name in (wanted,) if wanted else ENGINES:
        if shutil.which(name) is None:
            reasons.append(f"{name} is not on the PATH")
        elif not _succeeds([name, "info"]):
            reasons.append(f"{name} is installed but does not run (`{name} info` fails)")
        else:
            return Engine(name, f"{name} runs")
    return Engine(None, ", ".join(reasons))


def has_init(engine: str) -> bool:
    """Whether `run --init` works: docker has its own init process, podman on Linux needs catatonit, a package."""
    if engine != "podman" or platform.system() != "Linux":
        return True
    places = os.pathsep.join([*_HELPERS, os.environ.get("PATH", os.defpath)])
    return shutil.which("catatonit", path=places) is not None


def is_amd64() -> bool:
    """Whether this machine can run the official images, which are built for amd64 only."""
    return platform.machine().lower() in _AMD64


def has_image(engine: str, image: str) -> bool:
    """Whether the image is on this machine."""
    return _succeeds([engine, "image", "inspect", image])


def pull(engine: str, image: str) -> None:
    """Fetches an image; the engine shows its progress. Raises EngineError with the engine's last words."""
    command = [engine, "pull", image]
    try:
        done = subprocess.run(command, stderr=subprocess.PIPE, text=True, check=False, timeout=_PULL_SECONDS)
    except subprocess.TimeoutExpired as error:
        raise EngineError(
            f"{image} could not be fetched within {_PULL_SECONDS} s: try `{engine} pull {image}`"
        ) from error
    if done.returncode:
        said = (done.stderr.strip().splitlines() or ["it said nothing"])[-1]
        raise EngineError(f"{image} could not be fetched by {engine}: {said}")


def _succeeds(command: Sequence[str]) -> bool:
    try:
        return subprocess.run(command, capture_output=True, check=False, timeout=_PROBE_SECONDS).returncode == 0
    except subprocess.TimeoutExpired:
        return False

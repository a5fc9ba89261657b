"""Which backend serves, and why: `fashion serve --backend auto`; which container engine runs here."""

from __future__ import annotations

import os
import platform
import shutil
import subprocess
from collections.abc import Sequence
from dataclasses import replace

from fashion_common.installation import install_command
from fashion_common.runtimes import TITLES, installed_runtimes
from serving.launch.backends import BACKENDS, MODEL_SERVER, ServeOptions
from serving.launch.errors import BackendUnavailableError, ServeUsageError
from serving.launch.log import last_line

AUTO = "auto"
ENGINES = ("docker", "podman")
_PROBE_SECONDS = 20
# Where podman looks for catatonit, besides the PATH: containers.conf(5), helper_binaries_dir.
_HELPERS = ("/usr/local/libexec/podman", "/usr/local/lib/podman", "/usr/libexec/podman", "/usr/lib/podman")


def choose(
    backend: str, options: ServeOptions, engine: str | None = None, *, only_show: bool = False
) -> tuple[ServeOptions, str]:
    """The options with the backend of that name, or for `auto` with the first that works here; and why that one.

    engine: docker or podman; None for the one that runs. only_show: nothing is to be started, so no image is pulled,
    and a backend without an alternative need not work here. The reason is empty for a backend that was named.
    Raises BackendUnavailableError with all reasons when none works; ServeUsageError for a GPU without a container.
    """
    if options.gpu and backend not in (AUTO, "container"):
        raise ServeUsageError(
            f"--gpu chooses TF Serving's GPU image: it needs --backend container, not {backend}. "
            "The others use a GPU by themselves where TensorFlow sees one"
        )
    candidates = list(BACKENDS) if backend == AUTO else [backend]
    if backend == AUTO and (options.token_file or options.tls_client_ca):
        candidates = ["embedded"]
    if options.gpu or options.image:
        candidates = candidates[:1]
    reasons: list[str] = []
    for candidate in candidates:
        try:
            name, reason = _check(candidate, options, engine, fetch=not only_show)
        except BackendUnavailableError as error:
            reasons.append(str(error))
        else:
            reason = "; ".join([*reasons, reason]) if backend == AUTO else ""
            return replace(options, backend=candidate, engine=name, init=has_init(name)), reason
    if only_show and len(candidates) == 1:
        name = engine or next(filter(shutil.which, ENGINES), ENGINES[0])
        return replace(options, backend=candidates[0], engine=name, init=has_init(name)), ""
    raise BackendUnavailableError("; ".join(reasons))


def find_engine(name: str | None = None) -> str:
    """The first of docker and podman that runs, or the one of that name if it does: `info` must succeed.

    Raises BackendUnavailableError with a reason for each.
    """
    reasons = []
    for engine in (name,) if name else ENGINES:
        if shutil.which(engine) is None:
            reasons.append(f"{engine} is not on the PATH")
        elif not _succeeds([engine, "info"]):
            reasons.append(f"{engine} is installed but does not run (`{engine} info` fails)")
        else:
            return engine
    raise BackendUnavailableError(f"no container engine: {', '.join(reasons)}")


def has_init(engine: str) -> bool:
    """Whether `run --init` works: docker has its own init process, podman on Linux needs catatonit, a package."""
    if engine != "podman" or platform.system() != "Linux":
        return True
    directories = os.pathsep.join([*_HELPERS, os.environ.get("PATH", os.defpath)])
    return shutil.which("catatonit", path=directories) is not None


def has_image(engine: str, image: str) -> bool:
    """Whether the image is on this machine."""
    return _succeeds([engine, "image", "inspect", image])


def pull(engine: str, image: str) -> None:
    """Fetches an image; the engine shows its progress. Raises BackendUnavailableError with the engine's last line."""
    process = subprocess.run([engine, "pull", image], stderr=subprocess.PIPE, text=True, check=False)
    if process.returncode:
        reason = last_line(process.stderr.strip().splitlines())
        raise BackendUnavailableError(f"{image} could not be fetched by {engine}: {reason}")


def _check(backend: str, options: ServeOptions, engine: str | None, *, fetch: bool) -> tuple[str, str]:
    """A container's engine, and what speaks for the backend. Raises BackendUnavailableError when it cannot run."""
    if backend == "container":
        if not options.image and platform.machine().lower() not in ("x86_64", "amd64"):
            raise BackendUnavailableError(
                "TF Serving's image is for amd64 only, which this machine is not (--image takes your own)"
            )
        name = find_engine(engine)
        if fetch and not has_image(name, options.image_name):
            pull(name, options.image_name)
        return name, f"{name} runs {options.image_name}"
    if backend == "binary":
        path = shutil.which(MODEL_SERVER)
        if path is None:
            raise BackendUnavailableError(f"{MODEL_SERVER} is not on the PATH")
        return "", f"{path} is there"
    for runtime in installed_runtimes():
        return "", f"{TITLES[runtime]} is installed"
    raise BackendUnavailableError(
        f"fashion serve needs the extra [embedded], or [light] without TensorFlow: {install_command('embedded')}"
    )


def _succeeds(command: Sequence[str]) -> bool:
    try:
        return subprocess.run(command, capture_output=True, check=False, timeout=_PROBE_SECONDS).returncode == 0
    except subprocess.TimeoutExpired:
        return False

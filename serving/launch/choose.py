"""Which backend serves, and why: `fashion serve --backend auto`; which container engine runs here."""

from __future__ import annotations

import importlib.util
import os
import platform
import shutil
import subprocess
from collections.abc import Callable, Sequence
from typing import NamedTuple

from serving.launch.backends import MODEL_SERVER, ServeOptions
from serving.launch.errors import BackendUnavailableError, ServeUsageError
from serving.launch.log import last_line

AUTO = "auto"
ENGINES = ("docker", "podman")
_PROBE_SECONDS = 20
_PULL_SECONDS = 1800
# Where podman looks for catatonit, besides the PATH: containers.conf(5), helper_binaries_dir.
_HELPERS = ("/usr/local/libexec/podman", "/usr/local/lib/podman", "/usr/libexec/podman", "/usr/lib/podman")
_AMD64 = frozenset({"x86_64", "amd64"})


class Choice(NamedTuple):
    """A backend, why it was chosen (empty when it was asked for by name), and a container's engine."""

    backend: str
    reason: str
    engine: str = ""


def choose(backend: str, options: ServeOptions, engine: str | None = None, *, only_show: bool = False) -> Choice:
    """The backend of that name, or for `auto` the first that works here: container, binary, embedded.

    engine: docker or podman; None for the one that runs. only_show: nothing is to be started, so no image is pulled,
    and a backend without an alternative need not work here.
    Raises BackendUnavailableError with all reasons when none works; ServeUsageError for a GPU without a container.
    """
    if options.gpu and backend not in (AUTO, "container"):
        raise ServeUsageError(
            f"--gpu chooses TF Serving's GPU image: it needs --backend container, not {backend}. "
            "The others use a GPU by themselves where TensorFlow sees one"
        )
    candidates = _candidates(backend, options)
    if only_show and len(candidates) == 1:
        return Choice(candidates[0], "", _engine_to_show(engine))
    reasons: list[str] = []
    for name in candidates:
        try:
            choice = _CHECKS[name](options, engine, not only_show)
        except BackendUnavailableError as error:
            reasons.append(str(error))
        else:
            return choice._replace(reason="; ".join([*reasons, choice.reason]) if backend == AUTO else "")
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


def _engine_to_show(name: str | None) -> str:
    try:
        return find_engine(name)
    except BackendUnavailableError:
        return name or next(filter(shutil.which, ENGINES), ENGINES[0])


def has_init(engine: str) -> bool:
    """Whether `run --init` works: docker has its own init process, podman on Linux needs catatonit, a package."""
    if engine != "podman" or platform.system() != "Linux":
        return True
    directories = os.pathsep.join([*_HELPERS, os.environ.get("PATH", os.defpath)])
    return shutil.which("catatonit", path=directories) is not None


def is_amd64() -> bool:
    """Whether this machine can run the official images, which are built for amd64 only."""
    return platform.machine().lower() in _AMD64


def has_image(engine: str, image: str) -> bool:
    """Whether the image is on this machine."""
    return _succeeds([engine, "image", "inspect", image])


def pull(engine: str, image: str) -> None:
    """Fetches an image; the engine shows its progress. Raises BackendUnavailableError with the engine's last line."""
    command = [engine, "pull", image]
    try:
        process = subprocess.run(command, stderr=subprocess.PIPE, text=True, check=False, timeout=_PULL_SECONDS)
    except subprocess.TimeoutExpired as error:
        raise BackendUnavailableError(
            f"{image} could not be fetched within {_PULL_SECONDS} s: try `{engine} pull {image}`"
        ) from error
    if process.returncode:
        reason = last_line(process.stderr.strip().splitlines())
        raise BackendUnavailableError(f"{image} could not be fetched by {engine}: {reason}")


def _candidates(backend: str, options: ServeOptions) -> Sequence[str]:
    if backend != AUTO:
        return [backend]
    return ["container"] if options.gpu or options.image else list(_CHECKS)


def _container(options: ServeOptions, engine: str | None, fetch: bool) -> Choice:
    if not options.image and not is_amd64():
        raise BackendUnavailableError(
            "TF Serving's image is for amd64 only, which this machine is not (--image takes your own)"
        )
    name = find_engine(engine)
    if fetch and not has_image(name, options.image_name):
        pull(name, options.image_name)
    return Choice("container", f"{name} runs {options.image_name}", name)


def _binary(_options: ServeOptions, _engine: str | None, _fetch: bool) -> Choice:
    path = shutil.which(MODEL_SERVER)
    if path is None:
        raise BackendUnavailableError(f"{MODEL_SERVER} is not on the PATH")
    return Choice("binary", f"{path} is there")


def _embedded(_options: ServeOptions, _engine: str | None, _fetch: bool) -> Choice:
    if importlib.util.find_spec("tensorflow") is None:
        raise BackendUnavailableError(
            "fashion serve needs the extra [embedded]: pip install 'fashion-mnist-serving[embedded]'"
        )
    return Choice("embedded", "TensorFlow is installed")


# In the order that `auto` tries them.
_CHECKS: dict[str, Callable[[ServeOptions, str | None, bool], Choice]] = {
    "container": _container,
    "binary": _binary,
    "embedded": _embedded,
}


def _succeeds(command: Sequence[str]) -> bool:
    try:
        return subprocess.run(command, capture_output=True, check=False, timeout=_PROBE_SECONDS).returncode == 0
    except subprocess.TimeoutExpired:
        return False

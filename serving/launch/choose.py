"""Which backend serves, and why: `fashion serve --backend auto`."""

from __future__ import annotations

import importlib.util
import shutil
from collections.abc import Callable
from typing import NamedTuple

from serving.launch.backends import MODEL_SERVER, ServeOptions
from serving.launch.engines import (
    EngineError,
    find_engine,
    has_image,
    is_amd64,
    pull,
)
from serving.launch.prepare import ServeUsageError

AUTO = "auto"


class Choice(NamedTuple):
    """A backend, the engine where it is a container, and why it was chosen: empty when it was asked for."""

    backend: str
    engine: str
    reason: str


# What a backend can be chosen for, or why not.
class _Refused(Exception):  # noqa: N818 - a reason, not an error of the user's
    pass


def choose(backend: str, options: ServeOptions, engine: str | None = None, *, fetch: bool = True) -> Choice:
    """The backend that was asked for, or the first that works here: container, binary, embedded.

    engine: docker or podman; found when None. fetch: whether an image that is not here may be pulled.
    Raises ServeUsageError with all reasons when there is none.
    """
    if options.gpu and backend not in (AUTO, "container"):
        raise ServeUsageError(
            f"--gpu chooses TF Serving's GPU image: it needs --backend container, not {backend}. "
            "The others use a GPU by themselves where TensorFlow sees one"
        )
    reasons = []
    for name in _order(backend, options):
        try:
            found, reason = _TRIES[name](options, engine, fetch)
        except _Refused as refusal:
            reasons.append(str(refusal))
        else:
            return Choice(name, found, "; ".join([*reasons, reason]) if backend == AUTO else "")
    raise ServeUsageError("; ".join(reasons))


def _order(backend: str, options: ServeOptions) -> list[str]:
    if backend != AUTO:
        return [backend]
    return ["container"] if options.gpu or options.image else ["container", "binary", "embedded"]


def _container(options: ServeOptions, engine: str | None, fetch: bool) -> tuple[str, str]:
    if not options.image and not is_amd64():
        raise _Refused("TF Serving's image is for amd64 only, which this machine is not (--image takes your own)")
    found = find_engine(engine)
    if found.name is None:
        raise _Refused(f"no container engine: {found.reason}")
    if fetch and not has_image(found.name, options.image_name):
        try:
            pull(found.name, options.image_name)
        except EngineError as error:
            raise _Refused(str(error)) from error
    return found.name, f"{found.reason} {options.image_name}"


def _binary(_options: ServeOptions, _engine: str | None, _fetch: bool) -> tuple[str, str]:
    found = shutil.which(MODEL_SERVER)
    if found is None:
        raise _Refused(f"{MODEL_SERVER} is not on the PATH")
    return "", f"{found} is there"


def _embedded(_options: ServeOptions, _engine: str | None, _fetch: bool) -> tuple[str, str]:
    if importlib.util.find_spec("tensorflow") is None:
        raise _Refused("fashion serve needs the extra [embedded]: pip install 'fashion-mnist-serving[embedded]'")
    return "", "TensorFlow is installed"


_TRIES: dict[str, Callable[[ServeOptions, str | None, bool], tuple[str, str]]] = {
    "container": _container,
    "binary": _binary,
    "embedded": _embedded,
}

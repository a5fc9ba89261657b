"""Which versions of each model there should be: those under its base path that its policy wants.

Follows TF Serving's FileSystemStoragePathSource.
https://www.tensorflow.org/tfx/serving/serving_config
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Collection, Mapping
from concurrent.futures import Future
from functools import partial
from typing import NamedTuple, TypeVar

from serving.apis.messages import ModelConfig
from serving.embedded.models import storage
from serving.embedded.models.arrivals import Arrivals
from serving.embedded.models.storage import VersionDirectory
from serving.embedded.models.threads import Caller, Overdue
from serving.errors import NotFound, ServingError, StillLoading, Unavailable, quoted

# Of the versions that are there, a line of the log names so many.
_MAX_LISTED = 100
# How long a look at a base path may take; less while another one hangs, which is likely to be on the same disk.
_LOOK_SECONDS = 5.0
_LATER_LOOK_SECONDS = 0.5

T = TypeVar("T")


class Aspired(NamedTuple):
    """What one model's base path asks for: directories by version, and why some or all are missing.

    `versions` is None when the base path cannot be read, or nothing under it is whole yet: what is loaded then stays.
    An emptied one unloads all. waits: whether a version is not whole yet.
    """

    versions: Mapping[int, VersionDirectory] | None
    error: ServingError | None = None
    waits: bool = False


def aspired(config: ModelConfig, arrivals: Arrivals, failed: Collection[int] = ()) -> Aspired:
    """The versions of one model that its policy wants: latest(n) by default latest(1), all, or specific ones.

    Only those that are whole count. failed: those that could not be loaded.
    """
    try:
        versions = storage.versions(config.name, config.base_path)
    except Unavailable as error:
        return Aspired(None, error)
    except ServingError as error:
        return Aspired({} if storage.is_readable(config.base_path) else None, error)
    arrivals.forget_all_but(versions.keys())
    policy = config.model_version_policy
    kind = policy.WhichOneof("policy_choice")
    specific = set(policy.specific.versions)
    numbers = versions.keys() & specific if kind == "specific" else versions.keys()
    count = len(numbers) if kind else 1
    if kind == "latest":
        count = max(1, policy.latest.num_versions)
    whole: dict[int, VersionDirectory] = {}
    arriving: list[int] = []
    for number in sorted(numbers, reverse=True):
        if len(whole) == count:
            break
        if arrivals.is_whole(number, versions[number], failed=number in failed):
            whole[number] = versions[number]
        else:
            arriving.append(number)
    if arriving:
        error_class = Unavailable if any(map(arrivals.grows, arriving)) else StillLoading
        text = f"Version {arriving[0]} of model {quoted(config.name)} is still being copied"
        return Aspired(whole or None, error_class(text), waits=True)
    if kind == "specific" and len(whole) < max(1, len(specific)):
        return Aspired(whole, _lacking(config, specific, versions.keys()))
    return Aspired(whole)


def _lacking(config: ModelConfig, wanted: set[int], there: Collection[int]) -> NotFound:
    """Says which version of a policy is not there."""
    if not wanted:
        return NotFound(f"The policy of model {quoted(config.name)} names no version")
    missing = min(wanted.difference(there))
    text = f"Version {missing} of {quoted(config.name)}, which its policy names, is not there"
    listed = ", ".join(map(str, sorted(there)[-_MAX_LISTED:]))
    return NotFound(text, log_text=f"{text}: under {config.base_path} there are {listed}")


class FileSystemSource:
    """Reports what the base path of each configured model asks for.

    failed: the versions of a model that could not be loaded. settle_seconds: how long the files of a new version must
    be at rest, as `Arrivals` has it. stopping: whether nothing is to be looked at any more.
    """

    def __init__(
        self,
        report: Callable[[str, Aspired], None],
        failed: Callable[[str], Collection[int]] = lambda _: (),
        *,
        settle_seconds: float = 1.0,
        stopping: Callable[[], bool] = lambda: False,
    ) -> None:
        self._report = report
        self._failed = failed
        self._settle_seconds = settle_seconds
        self._stopping = stopping
        self._configs: dict[str, ModelConfig] = {}
        self._arrivals: dict[tuple[str, str], Arrivals] = {}
        self._hanging: dict[str, Future[object]] = {}
        self._caller = Caller("look")
        self._lock = threading.Lock()
        # Whether a version waits for its next look.
        self.is_waiting = False

    def set_models(self, configs: Mapping[str, ModelConfig]) -> None:
        """Replaces the models that are watched, and looks at once; a model that is gone aspires to nothing."""
        with self._lock:
            gone = set(self._configs) - set(configs)
            self._configs = dict(configs)
            self._arrivals = {
                key: self._arrivals.get(key) or Arrivals(self._settle_seconds)
                for key in ((name, config.base_path) for name, config in configs.items())
            }
        for name in gone:
            self._report(name, Aspired({}))
        self.poll()

    def poll(self) -> float | None:
        """One look at every base path; gives the seconds after which to look again, when that should be soon."""
        with self._lock:
            waiting = False
            for name, config in self._configs.items():
                if self._stopping():
                    break
                result = self._looked(name, config)
                self._report(name, result)
                waiting = waiting or result.waits
            self.is_waiting = waiting
            return self._settle_seconds if waiting else None

    def bounded(self, work: Callable[[], T]) -> T:
        """What `work` gives, which reads below base paths. Raises what it raises, and Unavailable when it hangs."""
        try:
            return self._caller.call(work, _LOOK_SECONDS)
        except Overdue as error:
            raise Unavailable(f"The disk has not answered within {_LOOK_SECONDS:g} seconds") from error

    def _looked(self, name: str, config: ModelConfig) -> Aspired:
        """What a base path asks for; one that hangs is not looked at again until it answers."""
        path = config.base_path
        hanging = self._hanging.get(path)
        if hanging is None or hanging.done():
            self._hanging.pop(path, None)
            look = partial(aspired, config, self._arrivals[name, path], self._failed(name))
            try:
                return self._caller.call(look, _LATER_LOOK_SECONDS if self._hanging else _LOOK_SECONDS)
            except Overdue as error:
                self._hanging[path] = error.work
        text = f"The base path of model {quoted(name)} does not answer"
        return Aspired(None, Unavailable(text, log_text=f"{text}: {path}"))

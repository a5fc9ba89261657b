"""Which versions of each model there should be: those under its base path that its policy wants.

Follows TF Serving's FileSystemStoragePathSource.
https://www.tensorflow.org/tfx/serving/serving_config
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Mapping
from typing import NamedTuple

from serving.apis.messages import ModelConfig
from serving.embedded.models import storage
from serving.embedded.models.storage import VersionDirectory
from serving.errors import NotFound, ServingError, quoted

# Of the versions that are there, a line of the log names so many.
_MAX_LISTED = 100


class Aspired(NamedTuple):
    """What one model's base path asks for: directories by version, and why some or all are missing.

    `versions` is None when the base path cannot be read: what is loaded then stays. An emptied one unloads all.
    """

    versions: Mapping[int, VersionDirectory] | None
    error: ServingError | None = None


def aspired(config: ModelConfig) -> Aspired:
    """The versions of one model that its policy wants: latest(n) by default latest(1), all, or specific ones."""
    try:
        versions = storage.versions(config.name, config.base_path)
    except ServingError as error:
        return Aspired({} if storage.is_readable(config.base_path) else None, error)
    policy = config.model_version_policy
    kind = policy.WhichOneof("policy_choice")
    if kind == "all":
        return Aspired(versions)
    if kind != "specific":
        count = max(1, policy.latest.num_versions)
        return Aspired({number: versions[number] for number in sorted(versions)[-count:]})
    numbers = policy.specific.versions
    present = {number: versions[number] for number in numbers if number in versions}
    if numbers and len(present) == len(set(numbers)):
        return Aspired(present)
    if not numbers:
        return Aspired({}, NotFound(f"The policy of model {quoted(config.name)} names no version"))
    missing = min(set(numbers) - versions.keys())
    text = f"Version {missing} of {quoted(config.name)}, which its policy names, is not there"
    there = ", ".join(map(str, sorted(versions)[-_MAX_LISTED:]))
    return Aspired(present, NotFound(text, log_text=f"{text}: under {config.base_path} there are {there}"))


class FileSystemSource:
    """Reports what the base path of each configured model asks for."""

    def __init__(self, report: Callable[[str, Aspired], None]) -> None:
        self._report = report
        self._configs: dict[str, ModelConfig] = {}
        self._lock = threading.Lock()

    def set_models(self, configs: Mapping[str, ModelConfig]) -> None:
        """Replaces the models that are watched, and looks at once; a model that is gone aspires to nothing."""
        with self._lock:
            gone = set(self._configs) - set(configs)
            self._configs = dict(configs)
        for name in gone:
            self._report(name, Aspired({}))
        self.poll()

    def poll(self) -> None:
        """One look at every base path."""
        with self._lock:
            for name, config in self._configs.items():
                self._report(name, aspired(config))

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
from serving.errors import NotFound, ServingError


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
    if kind == "specific":
        return _specific(config, versions)
    count = max(1, policy.latest.num_versions)
    return Aspired({number: versions[number] for number in sorted(versions)[-count:]})


def _specific(config: ModelConfig, versions: Mapping[int, VersionDirectory]) -> Aspired:
    numbers = config.model_version_policy.specific.versions
    missing = sorted(set(numbers) - versions.keys())
    error = None
    if missing:
        error = NotFound(
            f"Version {missing[0]} of {config.name}, which its policy names, is not under {config.base_path}: "
            f"there are {', '.join(map(str, sorted(versions)))}"
        )
    return Aspired({number: versions[number] for number in numbers if number in versions}, error)


class FileSystemSource:
    """Polls the base paths of the configured models and reports what each of them asks for.

    poll_wait_seconds: between two looks; 0 for a single one.
    """

    def __init__(self, report: Callable[[str, Aspired], None], poll_wait_seconds: float) -> None:
        self._report = report
        self._poll_wait_seconds = poll_wait_seconds
        self._configs: dict[str, ModelConfig] = {}
        self._lock = threading.Lock()
        self._stop = threading.Event()
        self._thread: threading.Thread | None = None

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

    def start(self) -> None:
        """Polls in a thread from now on."""
        if self._poll_wait_seconds > 0:
            self._thread = threading.Thread(target=self._run, name="source", daemon=True)
            self._thread.start()

    def stop(self) -> None:
        """Ends the polling."""
        self._stop.set()
        if self._thread is not None:
            self._thread.join()

    def _run(self) -> None:
        while not self._stop.wait(self._poll_wait_seconds):
            self.poll()

"""What is on disk: which versions of each model there are, and which of them the policy wants.

Follows TF Serving's FileSystemStoragePathSource: a version is a child directory whose name is a number.
https://www.tensorflow.org/tfx/serving/serving_config
"""

from __future__ import annotations

import re
import threading
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import NamedTuple

from serving.apis.messages import ModelConfig
from serving.errors import FailedPrecondition, NotFound, ServingError

# 19 digits hold every int64, which versions are.
_NUMBER = re.compile(r"[0-9]{1,19}")
_MAX_VERSION = 2**63 - 1


class Aspired(NamedTuple):
    """What one model's base path asks for: directories by version, or why there are none.

    `versions` is None when the base path cannot be read: what is loaded then stays. An emptied one unloads all.
    """

    versions: Mapping[int, Path] | None
    error: ServingError | None = None


def versions_in(base_path: Path) -> dict[int, Path]:
    """The version directories under a base path. Raises NotFound when the path is not a directory."""
    try:
        children = sorted(base_path.iterdir())
    except OSError as error:
        raise NotFound(_no_base_path(base_path)) from error
    found = {}
    for child in children:
        if _NUMBER.fullmatch(child.name) and int(child.name) <= _MAX_VERSION and child.is_dir():
            found[int(child.name)] = child
    return found


def check_base_path(model_name: str, base_path: Path) -> dict[int, Path]:
    """The versions under a base path, at least one.

    Raises NotFound or FailedPrecondition with the fix in its text when there is none.
    """
    found = versions_in(base_path)
    if found:
        return found
    example = base_path / "1"
    if (base_path / "saved_model.pb").is_file():
        raise FailedPrecondition(
            f"{base_path} holds saved_model.pb itself: a base path holds numbered versions. "
            f"Move the model to {example}, or give the parent when {base_path.name} is the version"
        )
    raise NotFound(f"No versions of {model_name} under {base_path}: expected numeric folders such as {example}")


def aspired(config: ModelConfig) -> Aspired:
    """The versions of one model that its policy wants: latest(n) by default latest(1), all, or specific ones."""
    base_path = Path(config.base_path)
    try:
        found = check_base_path(config.name, base_path)
    except ServingError as error:
        return Aspired({} if base_path.is_dir() else None, error)
    policy = config.model_version_policy
    kind = policy.WhichOneof("policy_choice")
    if kind == "all":
        return Aspired(found)
    if kind == "specific":
        return _specific(config, found)
    count = max(1, policy.latest.num_versions)
    return Aspired({version: found[version] for version in sorted(found)[-count:]})


def _specific(config: ModelConfig, found: Mapping[int, Path]) -> Aspired:
    wanted = config.model_version_policy.specific.versions
    missing = sorted(set(wanted) - set(found))
    error = None
    if missing:
        error = NotFound(
            f"Version {missing[0]} of {config.name}, which its policy names, is not under {config.base_path}: "
            f"there are {', '.join(map(str, sorted(found)))}"
        )
    return Aspired({version: found[version] for version in wanted if version in found}, error)


class FileSystemSource:
    """Polls the base paths of the configured models and reports what each of them asks for."""

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
        """Polls in a thread from now on; a wait of 0 seconds means that the first look was the only one."""
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


def _no_base_path(base_path: Path) -> str:
    if base_path.exists():
        return f"{base_path} is not a directory: a base path is a directory of numbered versions"
    return f"Could not find base path {base_path}: create it, or correct the path"

"""The configured models, and the way from a ModelSpec to a loaded version.

TF Serving's ServerCore: https://github.com/tensorflow/serving/blob/master/tensorflow_serving/model_servers/server_core.h
"""

from __future__ import annotations

import os
import threading
import time
from collections.abc import Callable, Collection, Mapping
from functools import partial
from pathlib import Path
from typing import Generic

from serving.apis.messages import TENSORFLOW, ModelConfig, ModelServerConfig, ModelSpec
from serving.embedded.event_log import CONFIGURATION_RELOADED, LABEL_MOVED, log_event
from serving.embedded.models import storage
from serving.embedded.models.manager import Manager
from serving.embedded.models.request_logging import RequestLogs
from serving.embedded.models.source import FileSystemSource
from serving.embedded.models.versions import S, Version
from serving.errors import (
    DeadlineExceeded,
    FailedPrecondition,
    InvalidArgument,
    PermissionDenied,
    ServingError,
    quoted,
)

PLATFORM = "tensorflow"

# How often a version that is not whole is looked at while a reload, or the start, waits for it.
_LOOK_SECONDS = 0.2
# What a reload may ask for: checking it and looking at every base path takes time that grows with it.
_MAX_MODELS = 1000
_MAX_LABELS = 100
_MAX_VERSIONS = 1000
_MAX_NAME = 200
_MAX_PATH = 4095
# Of the line of the log that says what was taken over.
_MAX_SUMMARY = 10_000


class ServerCore(Generic[S]):
    """Holds what is configured, and gives requests the version that they ask for.

    labels_for_unavailable: whether a new label may name a version that is not AVAILABLE yet
    (https://www.tensorflow.org/tfx/serving/serving_config). reload_deadline_seconds: how long a reload waits for its
    models. request_logs: which requests are recorded.
    """

    def __init__(
        self,
        manager: Manager[S],
        source: FileSystemSource,
        *,
        labels_for_unavailable: bool = False,
        reload_deadline_seconds: float = 120.0,
        request_logs: RequestLogs | None = None,
    ) -> None:
        self.manager = manager
        self._source = source
        self.reload_deadline_seconds = reload_deadline_seconds
        self._models: dict[str, ModelConfig] = {}
        self._own_base_paths: frozenset[str] = frozenset()
        self._labels_for_unavailable = labels_for_unavailable
        self._request_logs = request_logs or RequestLogs()
        self._reloading = threading.Lock()

    @property
    def ready(self) -> bool:
        """Whether there is a model, and every one has a version that serves."""
        return bool(self._models) and not self.errors()

    @property
    def model_names(self) -> Collection[str]:
        """The names of the configured models."""
        return self._models.keys()

    def use(self, spec: ModelSpec) -> Version[S]:
        """The loaded version that a request asks for, counted as in use: leave it as a `with` block, or `release` it.

        Raises InvalidArgument for a spec without a name or with an unknown label, NotFound, or Unavailable.
        """
        if not spec.name:
            raise InvalidArgument("ModelSpec has no name specified.")
        choice = spec.WhichOneof("version_choice")
        if choice == "version":
            return self.manager.use(spec.name, spec.version.value)
        if choice == "version_label":
            version = self._labels(spec.name).get(spec.version_label)
            if version is None:
                raise InvalidArgument(f"Unrecognized servable version label: {quoted(spec.version_label)}")
            return self.manager.use(spec.name, version)
        return self.manager.use(spec.name)

    def configure(self, own: ModelServerConfig, reloaded: ModelServerConfig | None = None) -> None:
        """Takes the first configuration over, without waiting for its models; labels may name any version.

        own: the operator's; a reload by a caller reaches no further than the parents of its base paths. reloaded: what
        has replaced it since. Raises InvalidArgument for a configuration that cannot be.
        """
        models = _checked_models(reloaded or own)
        _check_supported(models)
        own_logging = self._request_logs.checked(_checked_models(own), own=True)
        self._request_logs.take_over(own_logging, own=True)
        if reloaded is not None:
            self._request_logs.take_over(self._request_logs.checked(models, own=False), own=False)
        self._own_base_paths = _base_paths(own)
        self._models = models
        self._source.set_models(models)

    def reload(
        self, config: ModelServerConfig, *, own: bool = False, before: Callable[[], None] = lambda: None
    ) -> None:
        """Replaces the configuration and waits until its models are available.

        own: whether it is the operator's own, and not a caller's. before: called when nothing speaks against it any
        more; what it raises does. Raises InvalidArgument, FailedPrecondition, NotFound
        or PermissionDenied, and changes nothing, for a configuration that cannot be, that names a new base path without
        versions, or, for a caller, one that is not below the parent of an own one, or a place of records that is not an
        own one; DeadlineExceeded, or UNKNOWN with TF Serving's text, when a model does not become available.
        """
        if config.WhichOneof("config") != "model_config_list":
            raise InvalidArgument(
                "ServerModelConfig type not supported by HandleReloadConfigRequest. "
                "Only ModelConfigList is currently supported"
            )
        if not own:
            _check_size(config)
        with self._reloading:
            models = _checked_models(config)
            self._check_platform_changes(models)
            self._check_labels(models)
            _check_supported(models)
            if not own:
                self._source.bounded(partial(self._check_base_paths, models))
            for name, model in models.items():
                if name not in self._models or self._models[name].base_path != model.base_path:
                    self._source.bounded(partial(storage.versions, name, model.base_path))
            logging = self._source.bounded(partial(self._request_logs.checked, models, own=own))
            before()
            self._request_logs.take_over(logging, own=own)
            if own:
                self._own_base_paths = _base_paths(config)
            before_models, self._models = self._models, models
            self._source.set_models(models)
            summary = "; ".join(map(_summary, models.values()))[:_MAX_SUMMARY]
            log_event(CONFIGURATION_RELOADED, models=summary)
            for name in models:
                _log_labels(name, before_models.get(name), models[name])
            if not self.wait_until_settled(self.reload_deadline_seconds):
                raise DeadlineExceeded(
                    f"The models had not become available after {self.reload_deadline_seconds:g} seconds: "
                    "they go on loading (--reload_deadline_seconds)"
                )
            errors = self.errors()
            if errors:
                texts = "".join(
                    f"{{{quoted(name)} due to error: {error.code.name}: {error}}}, " for name, error in errors.items()
                )
                raise ServingError(f"{len(errors)} model(s) did not become available: {{{texts}}}")

    def wait_until_settled(self, seconds: float) -> bool:
        """Waits until every model is AVAILABLE or has failed for now; whether that was within so many seconds."""
        end = time.monotonic() + seconds
        while not self.manager.wait_until_settled(self._models, max(0.0, min(_LOOK_SECONDS, end - time.monotonic()))):
            if self._source.is_waiting:
                self._source.poll()
            if time.monotonic() >= end:
                return False
        return True

    def errors(self) -> dict[str, ServingError]:
        """The models that have no version to serve, and why."""
        return {name: error for name in self._models if (error := self.manager.error(name)) is not None}

    def _labels(self, name: str) -> Mapping[str, int]:
        """The version that each label of a model names."""
        model = self._models.get(name)
        return model.version_labels if model is not None else {}

    def _check_labels(self, models: Mapping[str, ModelConfig]) -> None:
        """Raises FailedPrecondition for a label that must not be assigned now: its version is not AVAILABLE."""
        for name, model in models.items():
            for label, version in model.version_labels.items():
                early = self._labels_for_unavailable and self._labels(name).get(label, version) == version
                if not early and not self.manager.has_version(name, version):
                    raise FailedPrecondition(
                        f"Request to assign label to version {version} of model {quoted(name)}, "
                        "which is not currently available for inference"
                    )

    def _check_base_paths(self, models: Mapping[str, ModelConfig]) -> None:
        """Raises PermissionDenied for a base path that is not below the parent of an own one, links resolved."""
        roots = set(map(_root, self._own_base_paths))
        for name, model in models.items():
            path = model.base_path
            if path not in self._own_base_paths and roots.isdisjoint(Path(os.path.realpath(path)).parents):
                raise PermissionDenied(
                    f"Model {quoted(name)} has base_path {quoted(path)}: a reload may only name one that is below the "
                    "parent of a base path in the server's own configuration"
                )

    def _check_platform_changes(self, models: Mapping[str, ModelConfig]) -> None:
        for name in models.keys() & self._models.keys():
            old, new = _platform(self._models[name]), _platform(models[name])
            if old != new:
                raise InvalidArgument(
                    f"Illegal to change a model's platform. For model {quoted(name)} platform was {old} "
                    f"and new platform requested is {quoted(new)}"
                )


def _checked_models(config: ModelServerConfig) -> dict[str, ModelConfig]:
    """The models of a configuration by name. Raises InvalidArgument for one that TF Serving would refuse."""
    if config.WhichOneof("config") == "custom_model_config":
        raise InvalidArgument("ModelServer does not yet support custom model config.")
    models: dict[str, ModelConfig] = {}
    for model in config.model_config_list.config:
        if model.name in models:
            raise InvalidArgument(f"Illegal to list model {quoted(model.name)} multiple times in config list")
        models[model.name] = model
    for name, model in models.items():
        if not model.base_path.startswith("/"):
            raise InvalidArgument(
                f"Expected model {quoted(name)} to have an absolute path or URI; "
                f"got base_path()={quoted(model.base_path)}"
            )
    return models


def _check_size(config: ModelServerConfig) -> None:
    """Raises InvalidArgument for a configuration that is larger than a caller's may be."""
    models = config.model_config_list.config
    sizes = [("models", len(models), _MAX_MODELS)]
    for model in models[:_MAX_MODELS]:
        sizes += [
            ("labels of a model", len(model.version_labels), _MAX_LABELS),
            ("versions of a model", len(model.model_version_policy.specific.versions), _MAX_VERSIONS),
            ("characters of a model's name", len(model.name), _MAX_NAME),
            ("characters of a label", max(map(len, model.version_labels), default=0), _MAX_NAME),
            ("bytes of a base_path", len(model.base_path.encode()), _MAX_PATH),
        ]
        if "\0" in model.base_path:
            raise InvalidArgument(f"base_path of model {quoted(model.name)} has a NUL in it: no path has")
    for what, count, limit in sizes:
        if count > limit:
            raise InvalidArgument(
                f"{count} {what}: a reload takes {limit}; edit --model_config_file for more, which has no limit"
            )


def _log_labels(name: str, before: ModelConfig | None, model: ModelConfig) -> None:
    """Logs each label of a model that names another version than before."""
    labels, labels_before = model.version_labels, before.version_labels if before else {}
    for label in sorted(labels.keys() | labels_before.keys()):
        old, new = (each.get(label) for each in (labels_before, labels))
        if old != new:
            log_event(LABEL_MOVED, model=name, label=label, before=old, version=new)


def _summary(model: ModelConfig) -> str:
    """A model as a line of the log has it: name, base path and labels."""
    labels = ", ".join(f"{label}={version}" for label, version in sorted(model.version_labels.items()))
    text = f"{model.name} from {model.base_path}{f' ({labels})' if labels else ''}"
    return text if text.isprintable() else repr(text)


def _base_paths(config: ModelServerConfig) -> frozenset[str]:
    return frozenset(model.base_path for model in config.model_config_list.config)


def _root(base_path: str) -> Path:
    """Where a caller may have base paths because of one of the server's own: in its parent, unless that is the root."""
    parent = Path(os.path.realpath(Path(base_path).parent))
    return parent if parent.name else Path(os.path.realpath(base_path))


def _check_supported(models: Mapping[str, ModelConfig]) -> None:
    for name, model in models.items():
        platform = _platform(model)
        if platform != PLATFORM:
            raise InvalidArgument(f"Model {quoted(name)} requests unsupported platform {quoted(platform)}")


def _platform(model: ModelConfig) -> str:
    if not model.model_type:
        if not model.model_platform:
            raise InvalidArgument(
                "Illegal setting neither ModelServerConfig::model_type (deprecated) "
                "nor ModelServerConfig::model_platform."
            )
        return model.model_platform
    if model.model_platform:
        raise InvalidArgument(
            "Illegal setting both ModelServerConfig::model_type (deprecated) and ModelServerConfig::model_platform."
        )
    if model.model_type != TENSORFLOW:
        raise InvalidArgument(f"ModelServerConfig::model_type choice {model.model_type} not supported.")
    return PLATFORM

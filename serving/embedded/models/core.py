"""The configured models, and the way from a ModelSpec to a loaded version.

TF Serving's ServerCore: https://github.com/tensorflow/serving/blob/master/tensorflow_serving/model_servers/server_core.h
"""

from __future__ import annotations

import logging
import threading
from collections.abc import Mapping
from typing import Generic

from serving.apis.messages import TENSORFLOW, ModelConfig, ModelServerConfig, ModelSpec
from serving.embedded.models import storage
from serving.embedded.models.manager import Manager
from serving.embedded.models.source import FileSystemSource
from serving.embedded.models.versions import S, Version
from serving.errors import DeadlineExceeded, FailedPrecondition, InvalidArgument, ServingError

log = logging.getLogger(__name__)

PLATFORM = "tensorflow"


class ServerCore(Generic[S]):
    """Holds what is configured, and gives requests the version that they ask for.

    labels_for_unavailable: whether a new label may name a version that is not AVAILABLE yet
    (https://www.tensorflow.org/tfx/serving/serving_config). reload_deadline_seconds: how long a reload waits for its
    models.
    """

    def __init__(
        self,
        manager: Manager[S],
        source: FileSystemSource,
        *,
        labels_for_unavailable: bool = False,
        reload_deadline_seconds: float = 120.0,
    ) -> None:
        self.manager = manager
        self._source = source
        self._reload_deadline_seconds = reload_deadline_seconds
        self._models: dict[str, ModelConfig] = {}
        self._labels_for_unavailable = labels_for_unavailable
        self._reloading = threading.Lock()

    @property
    def model_names(self) -> list[str]:
        """The names of the configured models."""
        return list(self._models)

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
                raise InvalidArgument(f"Unrecognized servable version label: {spec.version_label}")
            return self.manager.use(spec.name, version)
        return self.manager.use(spec.name)

    def configure(self, config: ModelServerConfig) -> None:
        """Takes the first configuration over, without waiting for its models; labels may name any version.

        Raises InvalidArgument for a configuration that cannot be.
        """
        models = _checked_models(config)
        _check_supported(models)
        self._models = models
        self._source.set_models(models)

    def reload(self, config: ModelServerConfig) -> None:
        """Replaces the configuration and waits until its models are available.

        Raises InvalidArgument, FailedPrecondition or NotFound, and changes nothing, for a configuration that cannot be
        or that names a new base path without versions; DeadlineExceeded, or UNKNOWN with TF Serving's text, when a
        model does not become available.
        """
        if config.WhichOneof("config") != "model_config_list":
            raise InvalidArgument(
                "ServerModelConfig type not supported by HandleReloadConfigRequest. "
                "Only ModelConfigList is currently supported"
            )
        with self._reloading:
            models = _checked_models(config)
            self._check_platform_changes(models)
            self._check_labels(models)
            _check_supported(models)
            for name, model in models.items():
                if name not in self._models or self._models[name].base_path != model.base_path:
                    storage.versions(name, model.base_path)
            self._models = models
            self._source.set_models(models)
            log.info("Reloaded the configuration: %s", "; ".join(map(_summary, models.values())))
            if not self.manager.wait_until_settled(models, self._reload_deadline_seconds):
                raise DeadlineExceeded(
                    f"The models had not become available after {self._reload_deadline_seconds:g} seconds: "
                    "they go on loading (--reload_deadline_seconds)"
                )
            errors = self.errors()
            if errors:
                texts = "".join(
                    f"{{{name} due to error: {error.code.name}: {error}}}, " for name, error in errors.items()
                )
                raise ServingError(f"{len(errors)} model(s) did not become available: {{{texts}}}")

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
                        f"Request to assign label to version {version} of model {name}, "
                        "which is not currently available for inference"
                    )

    def _check_platform_changes(self, models: Mapping[str, ModelConfig]) -> None:
        for name in models.keys() & self._models.keys():
            old, new = _platform(self._models[name]), _platform(models[name])
            if old != new:
                raise InvalidArgument(
                    f"Illegal to change a model's platform. For model {name} platform was {old} "
                    f"and new platform requested is {new}"
                )


def _checked_models(config: ModelServerConfig) -> dict[str, ModelConfig]:
    """The models of a configuration by name. Raises InvalidArgument for one that TF Serving would refuse."""
    if config.WhichOneof("config") == "custom_model_config":
        raise InvalidArgument("ModelServer does not yet support custom model config.")
    models: dict[str, ModelConfig] = {}
    for model in config.model_config_list.config:
        if model.name in models:
            raise InvalidArgument(f"Illegal to list model {model.name} multiple times in config list")
        models[model.name] = model
    for name, model in models.items():
        if not model.base_path.startswith("/"):
            raise InvalidArgument(
                f"Expected model {name} to have an absolute path or URI; got base_path()={model.base_path}"
            )
    return models


def _summary(model: ModelConfig) -> str:
    """A model as a line of the log has it: name, base path and labels."""
    labels = ", ".join(f"{label}={version}" for label, version in sorted(model.version_labels.items()))
    return f"{model.name} from {model.base_path}{f' ({labels})' if labels else ''}"


def _check_supported(models: Mapping[str, ModelConfig]) -> None:
    for name, model in models.items():
        platform = _platform(model)
        if platform != PLATFORM:
            raise InvalidArgument(f"Model {name} requests unsupported platform {platform}")


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

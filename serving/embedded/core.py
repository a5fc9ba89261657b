"""The configured models: configuration, labels, and the way from a ModelSpec to a loaded version.

TF Serving's ServerCore: https://github.com/tensorflow/serving/blob/master/tensorflow_serving/model_servers/server_core.h
"""

from __future__ import annotations

import threading
from collections.abc import Mapping

from serving.apis.messages import ModelConfig, ModelServerConfig, ModelSpec
from serving.embedded.manager import Manager, Version
from serving.embedded.runner import Servable
from serving.embedded.source import FileSystemSource
from serving.errors import FailedPrecondition, InvalidArgument, ServingError, Unavailable

PLATFORM = "tensorflow"


class ServerCore:
    """Holds what is configured, and gives requests the version that they ask for."""

    def __init__(
        self,
        manager: Manager[Servable],
        source: FileSystemSource,
        *,
        labels_for_unavailable: bool = False,
        reload_deadline_seconds: float = 120.0,
    ) -> None:
        self.manager = manager
        self._source = source
        self._labels_for_unavailable = labels_for_unavailable
        self._reload_deadline_seconds = reload_deadline_seconds
        self._models: dict[str, ModelConfig] = {}
        self._labels: dict[str, dict[str, int]] = {}
        self._reloading = threading.Lock()

    @property
    def model_names(self) -> list[str]:
        """The names of the configured models."""
        return list(self._models)

    def use(self, spec: ModelSpec) -> Version[Servable]:
        """The loaded version that a request asks for, counted as in use: leave it as a `with` block, or `release` it.

        Raises InvalidArgument for a spec without a name or with an unknown label, NotFound, or Unavailable.
        """
        if not spec.name:
            raise InvalidArgument("ModelSpec has no name specified.")
        choice = spec.WhichOneof("version_choice")
        if choice == "version":
            return self.manager.use(spec.name, spec.version.value)
        if choice == "version_label":
            return self.manager.use(spec.name, self._labelled(spec.name, spec.version_label))
        return self.manager.use(spec.name)

    def configure(self, config: ModelServerConfig) -> None:
        """Takes a configuration over, without waiting for its models.

        Raises InvalidArgument or FailedPrecondition, and changes nothing then.
        """
        models = checked_models(config)
        self._check_platforms(models)
        self._models = models
        self._source.set_models(models)
        self._labels = {name: dict(model.version_labels) for name, model in models.items()}

    def reload(self, config: ModelServerConfig) -> None:
        """Replaces the configuration and waits until its models are available.

        Raises InvalidArgument or FailedPrecondition for a configuration that cannot be, and Unavailable when a model
        does not become available in time.
        """
        if config.WhichOneof("config") != "model_config_list":
            raise InvalidArgument(
                "ServerModelConfig type not supported by HandleReloadConfigRequest. "
                "Only ModelConfigList is currently supported"
            )
        with self._reloading:
            models = checked_models(config)
            self._check_platforms(models)
            self._check_labels(models)
            self._models = models
            self._source.set_models(models)
            settled = self.manager.wait_until_settled(models, self._reload_deadline_seconds)
            self._labels = {name: dict(model.version_labels) for name, model in models.items()}
            failed = [f"{name}: {error}" for name, error in self.errors().items()]
            if failed or not settled:
                raise Unavailable(f"Some models did not become available: {{{', '.join(failed or models)}}}")

    def errors(self) -> dict[str, ServingError]:
        """The models that have no version to serve, and why."""
        found = {name: self.manager.error(name) for name in self._models}
        return {name: error for name, error in found.items() if error is not None}

    def _labelled(self, name: str, label: str) -> int:
        version = self._labels.get(name, {}).get(label)
        if version is None:
            raise InvalidArgument(f"Unrecognized servable version label: {label}")
        return version

    def _check_platforms(self, models: Mapping[str, ModelConfig]) -> None:
        for name, model in models.items():
            if name in self._models and self._models[name].model_platform != model.model_platform:
                raise FailedPrecondition(f"Cannot change the platform of a model: {name}")

    def _check_labels(self, models: Mapping[str, ModelConfig]) -> None:
        if self._labels_for_unavailable:
            return
        for name, model in models.items():
            for label, version in model.version_labels.items():
                if not self.manager.has_version(name, version):
                    raise FailedPrecondition(
                        f"Request to assign label {label} to version {version} of model {name}, "
                        "which is not currently available for inference"
                    )


def checked_models(config: ModelServerConfig) -> dict[str, ModelConfig]:
    """The models of a configuration by name. Raises InvalidArgument for one that TF Serving would refuse."""
    models: dict[str, ModelConfig] = {}
    for model in config.model_config_list.config:
        if model.name in models:
            raise InvalidArgument(f"Illegal to list model {model.name} multiple times in config list")
        if not model.base_path.startswith("/") and "://" not in model.base_path:
            raise InvalidArgument(
                f"Expected model {model.name} to have an absolute path or URI; got base_path()={model.base_path}"
            )
        if not model.model_platform and not model.model_type:
            raise InvalidArgument(
                "Illegal setting neither ModelServerConfig::model_type (deprecated) nor model_platform."
            )
        models[model.name] = model
    return models

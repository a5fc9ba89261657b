"""Which version each label of a model names, as the configuration has it.

https://www.tensorflow.org/tfx/serving/serving_config#assigning_string_labels_to_model_versions_to_simplify_canary_and_rollback
"""

from __future__ import annotations

from collections.abc import Callable, Mapping

from serving.apis.messages import ModelConfig
from serving.errors import FailedPrecondition, InvalidArgument


class Labels:
    """The labels of all models. has_version: whether a version of a model is AVAILABLE.

    for_unavailable: whether a label that is new may name a version that is not AVAILABLE yet.
    """

    def __init__(self, has_version: Callable[[str, int], bool], *, for_unavailable: bool) -> None:
        self._has_version = has_version
        self._for_unavailable = for_unavailable
        self._versions: dict[str, dict[str, int]] = {}

    def version(self, model_name: str, label: str) -> int:
        """The version that a label names. Raises InvalidArgument for a label that the model does not have."""
        version = self._versions.get(model_name, {}).get(label)
        if version is None:
            raise InvalidArgument(f"Unrecognized servable version label: {label}")
        return version

    def assign(self, models: Mapping[str, ModelConfig]) -> None:
        """Replaces all labels by those of a configuration, whether or not their versions are there."""
        self._versions = {name: dict(model.version_labels) for name, model in models.items()}

    def check(self, models: Mapping[str, ModelConfig]) -> None:
        """Raises FailedPrecondition for a label that must not be assigned now: its version is not AVAILABLE."""
        for name, model in models.items():
            current = self._versions.get(name, {})
            for label, version in model.version_labels.items():
                early = self._for_unavailable and current.get(label, version) == version
                if not early and not self._has_version(name, version):
                    raise FailedPrecondition(
                        f"Request to assign label to version {version} of model {name}, "
                        "which is not currently available for inference"
                    )

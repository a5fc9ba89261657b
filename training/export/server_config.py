"""What a server's model configuration says of versions: read leniently, since the server is the one that checks it."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path

from training.export.serving_messages import read_text


@dataclass(frozen=True)
class NamedVersions:
    """The versions of a model that a server is told to serve. labels: label -> version; pinned: in its policy."""

    labels: dict[str, int] = field(default_factory=dict)
    pinned: frozenset[int] = frozenset()

    @property
    def in_use(self) -> frozenset[int]:
        """The versions that must stay."""
        return self.pinned | frozenset(self.labels.values())


def read_named_versions(model_config_file: Path, model_base_path: Path) -> NamedVersions:
    """The named versions of the model with this base path, or of its name: a container sees it under another parent.

    Raises TrainingUsageError when the file cannot be read as a ModelServerConfig in text protobuf.
    """
    labels: dict[str, int] = {}
    pinned: set[int] = set()
    for config in read_text(model_config_file, "ModelServerConfig").model_config_list.config:
        if config.name == model_base_path.name or Path(config.base_path) == model_base_path.resolve():
            labels.update(config.version_labels)
            pinned.update(config.model_version_policy.specific.versions)
    return NamedVersions(labels, frozenset(pinned))

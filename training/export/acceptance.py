"""Whether a model is good enough to be published: no worse than what it replaces."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from training.errors import NotAcceptedError
from training.export.manifest import Manifest, recorded_accuracy
from training.export.trained import TrainedModel
from training.export.versions import newest_with_manifest


@dataclass(frozen=True)
class Demands:
    """What a version must reach: accuracies from 0 to 1 on the test images. `force` publishes all the same."""

    min_accuracy: float | None = None
    max_regression: float = 0.01
    force: bool = False


def accept(trained: TrainedModel, model_base_path: Path, demands: Demands) -> list[str]:
    """Gives the objections that `force` overrode, for the manifest: none when the model is good enough.

    Raises NotAcceptedError with the figures.
    """
    objections = [
        objection
        for objection in (_below_minimum(trained, demands), _worse_than_newest(trained, model_base_path, demands))
        if objection
    ]
    if objections and not demands.force:
        raise NotAcceptedError(f"Not exported: {'; '.join(objections)} (--force exports it all the same)")
    return objections


def _below_minimum(trained: TrainedModel, demands: Demands) -> str | None:
    if demands.min_accuracy is None or (trained.accuracy is not None and trained.accuracy >= demands.min_accuracy):
        return None
    return f"accuracy {_figure(trained.accuracy)} is below --min-accuracy {demands.min_accuracy:g}"


def _worse_than_newest(trained: TrainedModel, model_base_path: Path, demands: Demands) -> str | None:
    replaced = newest_with_manifest(model_base_path)
    accuracy = recorded_accuracy(replaced[1]) if replaced else None
    if replaced is None or accuracy is None:
        return None
    version, manifest = replaced
    if trained.accuracy is None or _data(manifest) != trained.data.get("name"):
        mine = f"{_figure(trained.accuracy)} on {trained.data.get('name', 'unknown data')}"
        theirs = f"{accuracy:.4f} on {_data(manifest)}"
        return f"accuracy {mine} cannot be compared with version {version}'s {theirs}"
    if accuracy - trained.accuracy <= demands.max_regression:
        return None
    return (
        f"accuracy {trained.accuracy:.4f} is {accuracy - trained.accuracy:.4f} below version {version}'s "
        f"{accuracy:.4f}, more than --max-regression {demands.max_regression:g}"
    )


def _data(manifest: Manifest) -> str | None:
    return (manifest.get("data") or {}).get("name")


def _figure(accuracy: float | None) -> str:
    return "unknown" if accuracy is None else f"{accuracy:.4f}"

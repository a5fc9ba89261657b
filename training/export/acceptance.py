"""Whether a model is good enough to be published: no worse than what it replaces."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from training.errors import NotAcceptedError
from training.export.manifest import Manifest, recorded_accuracy
from training.export.trained import TrainedModel


@dataclass(frozen=True)
class Demands:
    """What a version must reach: accuracies from 0 to 1 on the test images. `force` publishes all the same."""

    min_accuracy: float | None = None
    max_regression: float = 0.01
    force: bool = False


def accept(trained: TrainedModel, replaced: tuple[int, Manifest] | None, demands: Demands) -> list[str]:
    """The objections that `force` overrode, for the manifest: none when the model is good enough.

    replaced: the number and the manifest of the version that this model replaces. Raises NotAcceptedError with the
    accuracies.
    """
    objections = [*_below_minimum(trained, demands), *_worse_than_replaced(trained, replaced, demands)]
    if objections and not demands.force:
        raise NotAcceptedError(f"Not exported: {'; '.join(objections)} (--force exports it all the same)")
    return objections


def _below_minimum(trained: TrainedModel, demands: Demands) -> Iterator[str]:
    if demands.min_accuracy is not None and (trained.accuracy is None or trained.accuracy < demands.min_accuracy):
        yield f"accuracy {_text(trained.accuracy)} is below --min-accuracy {demands.min_accuracy:g}"


def _worse_than_replaced(
    trained: TrainedModel, replaced: tuple[int, Manifest] | None, demands: Demands
) -> Iterator[str]:
    version, manifest = replaced or (0, {})
    accuracy = recorded_accuracy(manifest)
    if accuracy is None:
        return
    data = (manifest.get("data") or {}).get("name")
    if trained.accuracy is None or data != trained.data.get("name"):
        yield (
            f"accuracy {_text(trained.accuracy)} on {trained.data.get('name', 'unknown data')} cannot be compared with "
            f"version {version}'s {_text(accuracy)} on {data}"
        )
    elif accuracy - trained.accuracy > demands.max_regression:
        yield (
            f"accuracy {_text(trained.accuracy)} is {accuracy - trained.accuracy:.4f} below version {version}'s "
            f"{_text(accuracy)}, more than --max-regression {demands.max_regression:g}"
        )


def _text(accuracy: float | None) -> str:
    return "unknown" if accuracy is None else f"{accuracy:.4f}"

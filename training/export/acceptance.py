"""Whether a model is good enough to be published: no worse than what it replaces."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING

from training.errors import NotAcceptedError
from training.export.manifest import Manifest, recorded_accuracy

if TYPE_CHECKING:  # commands.export reads the defaults below, without Keras
    from training.export.trained import TrainedModel


@dataclass(frozen=True)
class Demands:
    """What a version must reach: accuracies from 0 to 1 on the test images. `force` publishes all the same."""

    min_accuracy: float | None = None
    max_regression: float = 0.01
    force: bool = False


def accept(candidate: TrainedModel, predecessor: tuple[int, Manifest] | None, demands: Demands) -> list[str]:
    """The objections that `force` overrode, for the manifest: none when the model is good enough.

    predecessor: the number and the manifest of the version that this model replaces. Raises NotAcceptedError with the
    accuracies.
    """
    objections = [*_below_minimum(candidate, demands), *_worse_than_predecessor(candidate, predecessor, demands)]
    if objections and not demands.force:
        raise NotAcceptedError(f"Not exported: {'; '.join(objections)} (--force exports it all the same)")
    return objections


def _below_minimum(candidate: TrainedModel, demands: Demands) -> Iterator[str]:
    if demands.min_accuracy is not None and (candidate.accuracy is None or candidate.accuracy < demands.min_accuracy):
        yield f"accuracy {_text(candidate.accuracy)} is below --min-accuracy {demands.min_accuracy:g}"


def _worse_than_predecessor(
    candidate: TrainedModel, predecessor: tuple[int, Manifest] | None, demands: Demands
) -> Iterator[str]:
    version, manifest = predecessor or (0, {})
    accuracy = recorded_accuracy(manifest)
    if accuracy is None:
        return
    data = (manifest.get("data") or {}).get("name")
    if candidate.accuracy is None or data != candidate.data.get("name"):
        yield (
            f"accuracy {_text(candidate.accuracy)} on {candidate.data.get('name', 'unknown data')} "
            f"cannot be compared with version {version}'s {_text(accuracy)} on {data}"
        )
    elif accuracy - candidate.accuracy > demands.max_regression:
        yield (
            f"accuracy {_text(candidate.accuracy)} is {accuracy - candidate.accuracy:.4f} below version {version}'s "
            f"{_text(accuracy)}, more than --max-regression {demands.max_regression:g}"
        )


def _text(accuracy: float | None) -> str:
    return "unknown" if accuracy is None else f"{accuracy:.4f}"

"""Whether a model may be published: it is no worse than what it replaces, as recordings have it, and called alike."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from fashion_common.evidence import Evidence
from fashion_common.thresholds import Thresholds
from training.errors import TrainingError
from training.export.manifest import Manifest, recorded_accuracy
from training.export.trained import TrainedModel

# The same recipe with another seed agrees on 96 of 100 inputs.
MIN_AGREEMENT = 0.9


def accept(
    candidate: TrainedModel,
    predecessor: tuple[int, Manifest] | None,
    *,
    min_accuracy: float | None,
    max_regression: float,
    force: bool,
    replayed: Evidence | None = None,
    min_agreement: float = MIN_AGREEMENT,
) -> list[str]:
    """The objections that `force` overrode, for the manifest: none when the model is good enough.

    predecessor: the number and the manifest of the version that this model replaces. Accuracies are shares of the test
    images, 0 to 1. replayed: the comparison with recordings, of which `min_agreement` is asked. Raises TrainingError
    with the figures.
    """
    objections = [*candidate.objections, *(Thresholds(min_agreement).objections(replayed) if replayed else ())]
    accuracy, text = candidate.accuracy, _text(candidate.accuracy)
    if min_accuracy is not None and (accuracy is None or accuracy < min_accuracy):
        objections.append(f"accuracy {text} is below --min-accuracy {min_accuracy:g}")
    version, manifest = predecessor or (0, {})
    if (bar := recorded_accuracy(manifest)) is not None:
        data, bar_data = candidate.data.get("name"), (manifest.get("data") or {}).get("name")
        if accuracy is None or data != bar_data:
            objections.append(
                f"accuracy {text} on {data or 'unknown data'} "
                f"cannot be compared with version {version}'s {_text(bar)} on {bar_data}"
            )
        elif bar - accuracy > max_regression:
            objections.append(
                f"accuracy {text} is {bar - accuracy:.4f} below version {version}'s {_text(bar)}, "
                f"more than --max-regression {max_regression:g}"
            )
    return _overridden(objections, force)


def accept_signatures(
    signatures: Mapping[str, Any], predecessor: tuple[int, Manifest] | None, *, force: bool
) -> list[str]:
    """As `accept`, for the signatures, as the manifest has them: what clients of the predecessor send and read stays.

    An input has its name, dtype and shape, an output its name. Raises TrainingError with the first that has not.
    """
    version, manifest = predecessor or (0, {})
    objections = []
    for name, before in (manifest.get("signatures") or {}).items():
        now = signatures.get(name, {"inputs": {}, "outputs": {}})
        if name not in signatures:
            objections.append(f"version {version} has the signature {name}, which this one lacks")
        elif now["inputs"] != before["inputs"]:
            objections.append(
                f"{name} takes {_listed(now['inputs'])}, and {_listed(before['inputs'])} in version {version}"
            )
        elif lacking := sorted(before["outputs"].keys() - now["outputs"].keys()):
            objections.append(f"{name} does not give {', '.join(lacking)}, as it does in version {version}")
    return _overridden(objections, force)


def _overridden(objections: list[str], force: bool) -> list[str]:
    if objections and not force:
        raise TrainingError(f"Not exported: {'; '.join(objections)} (--force exports it all the same)")
    return objections


def _listed(tensors: Mapping[str, Any]) -> str:
    return ", ".join(f"{name} {facts['dtype']} {facts['shape']}" for name, facts in tensors.items())


def _text(accuracy: float | None) -> str:
    return "unknown" if accuracy is None else f"{accuracy:.4f}"

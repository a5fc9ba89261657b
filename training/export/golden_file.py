"""Files that users give with their model: golden inputs and outputs, and class names."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path

import numpy as np
import tensorflow as tf

from serving.apis.self_test import Array, Case
from training.errors import TrainingUsageError

Specs = Mapping[str, tf.TensorSpec]


def read_golden(file: Path, inputs: Mapping[str, Specs], outputs: Mapping[str, Specs]) -> dict[str, Case]:
    """The cases in a NumPy archive, by signature.

    A key is the name of an input or output of `serving_default`; `inputs/NAME` or `outputs/NAME` where both have it;
    `SIGNATURE/inputs/NAME` for another signature. Arrays take the signature's dtype. Raises TrainingUsageError for a
    file that cannot be read, unknown names, missing inputs, no output, and arrays that do not fit.
    """
    cases: dict[str, Case] = {}
    try:
        with np.load(file, allow_pickle=False) as archive:
            arrays = dict(archive)
    except (OSError, ValueError, TypeError, EOFError, AttributeError) as error:
        raise TrainingUsageError(
            f"--golden {file} cannot be read ({error}): write it with numpy.savez, without objects"
        ) from error
    for key, array in arrays.items():
        *path, name = key.split("/")
        side = path.pop() if path else ""
        signature = path.pop() if path else "serving_default"
        sides = {"inputs": inputs.get(signature, {}), "outputs": outputs.get(signature, {})}
        side = side or next((candidate for candidate, specs in sides.items() if name in specs), "")
        if path or name not in sides.get(side, {}):
            names = ", ".join(f"{side}/{known}" for side, specs in sides.items() for known in specs)
            raise TrainingUsageError(
                f"--golden {file}: {key} is no input or output of {signature}: name "
                + (names or f"one of the signatures {', '.join(inputs)}")
            )
        case = cases.setdefault(signature, Case({}, {}))
        case._asdict()[side][name] = _fitting(f"--golden {file}: {key}", array, sides[side][name])
    for signature, case in cases.items():
        if missing := sorted(inputs[signature].keys() - case.inputs.keys()):
            raise TrainingUsageError(f"--golden {file} has no {missing[0]}, which {signature} takes")
        if not case.outputs:
            raise TrainingUsageError(f"--golden {file} has no output of {signature}: {', '.join(outputs[signature])}")
    return cases


def _fitting(what: str, array: Array, spec: tf.TensorSpec) -> Array:
    if not spec.shape.is_compatible_with(array.shape):
        raise TrainingUsageError(f"{what} has the shape {list(array.shape)}: expected {spec.shape}")
    if spec.dtype == tf.string:
        if array.dtype.kind not in "SU":
            raise TrainingUsageError(f"{what} is {array.dtype}: expected strings")
        strings = [value.encode() if isinstance(value, str) else value for value in array.ravel().tolist()]
        return np.array(strings, object).reshape(array.shape)
    dtype = np.dtype(spec.dtype.as_numpy_dtype)
    if not np.can_cast(array.dtype, dtype, "same_kind"):
        raise TrainingUsageError(f"{what} is {array.dtype}: expected {dtype}")
    return array.astype(dtype)


def read_class_names(file: Path) -> tuple[str, ...]:
    """The names in a file, in label order: a JSON list of strings, or one on each line.

    Raises TrainingUsageError for an unreadable file, fewer than two names, and one that is empty or there twice.
    """
    try:
        text = file.read_text(encoding="utf-8")
        names = json.loads(text) if text.lstrip().startswith("[") else text.rstrip("\n").splitlines()
    except (OSError, ValueError) as error:
        reason = getattr(error, "strerror", None) or error
        raise TrainingUsageError(f"--class-names {file} cannot be read: {reason}") from error
    if not all(isinstance(name, str) and name.strip() for name in names):
        raise TrainingUsageError(
            f"--class-names {file} has an empty name: give one on each line, or a JSON list of strings"
        )
    if len(names) < 2 or len(set(names)) < len(names):  # noqa: PLR2004 - one class is none
        raise TrainingUsageError(
            f"--class-names {file} has {len(names)} names: at least two, each once, in label order"
        )
    return tuple(name.strip() for name in names)

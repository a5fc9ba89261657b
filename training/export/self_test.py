"""The self-test of a version: golden inputs and outputs of every signature, and the run that compares them.

`assets.extra/self_test.npz` is a NumPy archive without pickled objects. Its keys are
`<signature>/inputs/<name>` and `<signature>/outputs/<name>`, one array a tensor. A string tensor is two arrays instead:
`<key>/bytes`, uint8, all elements one after another in row-major order, and `<key>/lengths`, int64, the tensor's shape,
each element's length in bytes (fixed-width bytes would lose zeros at the end of an element).

`python -m training.export.self_test` runs the test of the version whose path it reads, in a process that knows nothing
of the model but its files.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any
from zipfile import BadZipFile

import numpy as np
import numpy.typing as npt
import tensorflow as tf

from fashion_common.layout import SELF_TEST_FILE
from training.errors import SelfTestError

TOLERANCE = 1e-5  # absolute, of probabilities

Array = npt.NDArray[Any]
# (signature, "inputs" or "outputs", name) -> the tensor; strings are object arrays of bytes.
Tensors = dict[tuple[str, str, str], Array]


def write_tensors(path: Path, tensors: Tensors) -> None:
    """Writes the golden tensors; the same tensors give the same bytes. Raises OSError."""
    arrays: dict[str, Array] = {}
    for key, tensor in tensors.items():
        name = "/".join(key)
        if tensor.dtype == object:
            arrays[f"{name}/bytes"] = np.frombuffer(b"".join(tensor.flat), np.uint8)
            arrays[f"{name}/lengths"] = np.array([len(element) for element in tensor.flat], np.int64).reshape(
                tensor.shape
            )
        else:
            arrays[name] = tensor
    path.parent.mkdir(exist_ok=True)
    np.savez(path, allow_pickle=False, **arrays)


def read_tensors(path: Path) -> Tensors:
    """The golden tensors of an archive. Raises SelfTestError when there is none or it is damaged."""
    tensors: Tensors = {}
    try:
        with path.open("rb") as file, np.load(file, allow_pickle=False) as arrays:
            for key in arrays.files:
                signature, side, name, *form = key.split("/")
                if not form:
                    tensors[signature, side, name] = arrays[key]
                elif form == ["lengths"]:
                    flat = arrays[key.removesuffix("lengths") + "bytes"]
                    tensors[signature, side, name] = _strings(flat, arrays[key])
    except FileNotFoundError as error:
        raise SelfTestError(f"No self-test at {path}: only versions made by `fashion export` have one") from error
    except (OSError, ValueError, KeyError, BadZipFile) as error:
        raise SelfTestError(f"The self-test {path} is damaged ({error}): export the version again") from error
    return tensors


def run_self_test(version_path: Path) -> dict[str, float]:
    """Loads the SavedModel and compares every signature's answers with the golden outputs.

    Gives each signature's largest absolute difference. Floats must be within TOLERANCE, integers and strings equal.
    Raises SelfTestError when an answer differs, is missing, or the SavedModel cannot be loaded.
    """
    golden = read_tensors(version_path / SELF_TEST_FILE)
    try:
        loaded = tf.saved_model.load(str(version_path))
    except (OSError, ValueError, KeyError, tf.errors.OpError) as error:
        raise SelfTestError(f"TensorFlow cannot load {version_path}: {str(error).splitlines()[0]}") from error
    signatures = dict.fromkeys(signature for signature, _, _ in golden)
    return {signature: _largest_difference(loaded.signatures, signature, golden) for signature in signatures}


def _largest_difference(functions: Mapping[str, Any], signature: str, golden: Tensors) -> float:
    if signature not in functions:
        raise SelfTestError(f"Signature {signature} is missing: the version has {', '.join(functions)}")
    inputs = {
        name: tf.constant(value) for (of, side, name), value in golden.items() if (of, side) == (signature, "inputs")
    }
    try:
        answer = functions[signature](**inputs)
    except (TypeError, ValueError, tf.errors.OpError) as error:
        raise SelfTestError(f"Signature {signature} failed: {error}") from error
    differences = [0.0]
    for (of, side, name), expected in golden.items():
        if (of, side) == (signature, "outputs"):
            if name not in answer:
                raise SelfTestError(f"{signature} has no output {name}")
            differences.append(_difference(f"{signature}/{name}", answer[name].numpy(), expected))
    return max(differences)


def _difference(name: str, found: Array, expected: Array) -> float:
    if (found.dtype, found.shape) != (expected.dtype, expected.shape):
        raise SelfTestError(f"{name} is {found.dtype} {found.shape}, expected {expected.dtype} {expected.shape}")
    if not np.issubdtype(expected.dtype, np.floating):
        if not np.array_equal(found, expected):
            raise SelfTestError(f"{name} differs in {np.count_nonzero(found != expected)} of {expected.size} elements")
        return 0.0
    difference = float(np.abs(found - expected).max(initial=0.0))
    if not difference <= TOLERANCE:
        raise SelfTestError(f"{name} differs by up to {difference:.3g}: at most {TOLERANCE:g} is allowed")
    return difference


def _strings(flat: Array, lengths: Array) -> Array:
    ends = lengths.ravel().cumsum()
    strings = np.empty(lengths.size, object)
    strings[:] = [flat[end - length : end].tobytes() for end, length in zip(ends, lengths.flat, strict=True)]
    return strings.reshape(lengths.shape)


def main() -> None:
    """Tests the version named on stdin: each signature's difference as JSON on stdout, or what is wrong on stderr."""
    version_path = sys.stdin.readline().strip()
    if not version_path:
        return
    try:
        print(json.dumps(run_self_test(Path(version_path))))
    except SelfTestError as error:
        sys.exit(str(error))


if __name__ == "__main__":
    main()

"""The self-test of a version: golden inputs of its signatures, and the outputs that any server must give for them.

`assets.extra/self_test.npz` is a NumPy archive without pickled objects
(https://numpy.org/doc/stable/reference/generated/numpy.lib.format.html). Its keys are `<signature>/inputs/<name>` and
`<signature>/outputs/<name>`, one array a tensor. A string tensor is two arrays instead: `<key>/bytes`, uint8, all
elements one after another in row-major order, and `<key>/lengths`, int64, the tensor's shape, each element's length in
bytes (fixed-width bytes would lose zeros at the end of an element).
"""

from __future__ import annotations

import zipfile
import zlib
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

# Absolute, of probabilities; of an output with a greater number than 1, to that number.
TOLERANCE = 1e-5
# What zipfile and numpy raise for bytes that are no archive of arrays.
_DAMAGE = (OSError, EOFError, TypeError, ValueError, KeyError, NotImplementedError, zipfile.BadZipFile, zlib.error)

Array = npt.NDArray[Any]


class Case(NamedTuple):
    """A signature's golden inputs and outputs by the tensors' names; strings are object arrays of bytes."""

    inputs: dict[str, Array]
    outputs: dict[str, Array]


class ArchiveError(ValueError):
    """An archive that cannot be read."""


class MismatchError(ValueError):
    """A model that does not give the golden outputs; the text names the signature, the tensor and the difference."""


def write_archive(path: Path, cases: Mapping[str, Case]) -> None:
    """Writes the cases, by signature; the same cases give the same bytes. Raises OSError."""
    arrays: dict[str, Array] = {}
    for signature, case in cases.items():
        for side, tensors in case._asdict().items():
            for name, tensor in tensors.items():
                arrays.update(_arrays(f"{signature}/{side}/{name}", tensor))
    path.parent.mkdir(exist_ok=True)
    np.savez(path, allow_pickle=False, **arrays)


def read_archive(path: Path) -> dict[str, Case]:
    """The cases of an archive, by signature. Raises ArchiveError when there is none, or it is damaged."""
    cases: dict[str, Case] = {}
    try:
        with path.open("rb") as file, np.load(file, allow_pickle=False) as archive:
            for key in archive.files:
                signature, side, name, *form = key.split("/")
                if form != ["bytes"]:
                    tensors = cases.setdefault(signature, Case({}, {}))._asdict()[side]
                    array = archive[key]
                    tensors[name] = _strings(archive[f"{signature}/{side}/{name}/bytes"], array) if form else array
    except _DAMAGE as error:
        raise ArchiveError(str(error)) from error
    return cases


def largest_differences(
    cases: Mapping[str, Case], answer: Callable[[str, Case], Mapping[str, Array]]
) -> dict[str, float]:
    """Compares a model's outputs with the golden ones; gives each signature's largest absolute difference.

    Floats must be within the tolerance, or what their dtype can tell apart; everything else equal; NaN never passes.
    answer: gives a signature's outputs for the inputs of a case; what it raises passes through. Raises MismatchError.
    """
    return {name: max([0.0, *_differences(name, case.outputs, answer(name, case))]) for name, case in cases.items()}


def _differences(signature: str, golden: Mapping[str, Array], outputs: Mapping[str, Array]) -> Iterator[float]:
    for output, expected in golden.items():
        if output not in outputs:
            raise MismatchError(f"signature {signature} has no output {output}")
        value, name = outputs[output], f"output {output} of {signature}"
        if (value.dtype, value.shape) != (expected.dtype, expected.shape):
            raise MismatchError(
                f"{name} is {value.dtype} {list(value.shape)}: expected {expected.dtype} {list(expected.shape)}"
            )
        if expected.dtype.kind in "fc":
            difference = float(np.abs(value - expected).max(initial=0.0))
            greatest = max(1.0, float(np.abs(expected).max(initial=0.0)))
            tolerance = max(TOLERANCE, float(np.finfo(expected.dtype).eps)) * greatest
            if not difference <= tolerance:
                raise MismatchError(f"{name} differs by up to {difference:.3g}: at most {tolerance:g} is allowed")
            yield difference
        elif not np.array_equal(value, expected):
            different = np.count_nonzero(value != expected)
            raise MismatchError(f"{name} differs in {different} of {expected.size} elements")


def _arrays(key: str, tensor: Array) -> dict[str, Array]:
    if tensor.dtype != object:
        return {key: tensor}
    lengths = np.array([len(element) for element in tensor.flat], np.int64).reshape(tensor.shape)
    return {f"{key}/bytes": np.frombuffer(b"".join(tensor.flat), np.uint8), f"{key}/lengths": lengths}


def _strings(joined: Array, lengths: Array) -> Array:
    ends = lengths.ravel().cumsum()
    strings = [joined[end - length : end].tobytes() for end, length in zip(ends, lengths.flat, strict=True)]
    return np.array(strings, object).reshape(lengths.shape)

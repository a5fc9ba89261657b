"""The self-test of a version: golden inputs must give golden outputs before it becomes AVAILABLE.

The archive is `assets.extra/self_test.npz`: arrays under `<signature>/inputs/<name>` and `<signature>/outputs/<name>`;
strings as two arrays, `.../bytes` (all elements joined) and `.../lengths` (of each, in the tensor's shape). A model
without one, made elsewhere, has nothing to test.
"""

from __future__ import annotations

import zipfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from fashion_common.layout import SELF_TEST_FILE
from serving.apis.messages import SignatureDef
from serving.embedded.inference.servable import Servable
from serving.errors import FailedPrecondition

Array = npt.NDArray[Any]

TOLERANCE = 1e-5


def self_test(path: Path, servable: Servable) -> list[str]:
    """Runs every signature in a version's archive once; gives their names, none without an archive.

    Floating point must agree within 1e-5, everything else exactly. Raises FailedPrecondition with what differs.
    """
    file = path / SELF_TEST_FILE
    if not file.is_file():
        return []
    golden = _read(file)
    for name, sides in golden.items():
        signature = servable.signatures.get(name)
        if signature is None:
            raise FailedPrecondition(f"Self-test {file}: the model has no signature {name}")
        _test(file, name, signature, sides, servable)
    return list(golden)


def _test(
    file: Path, name: str, signature: SignatureDef, sides: Mapping[str, Mapping[str, Array]], servable: Servable
) -> None:
    inputs, expected = sides.get("inputs", {}), sides.get("outputs", {})
    unknown = [*(inputs.keys() - signature.inputs.keys()), *(expected.keys() - signature.outputs.keys())]
    if unknown:
        raise FailedPrecondition(f"Self-test {file}: signature {name} has no tensor {unknown[0]}")
    feeds = {signature.inputs[key].name: inputs[key] for key in sorted(inputs)}
    values = servable.run(feeds, [signature.outputs[key].name for key in expected])
    for (key, wanted), value in zip(expected.items(), values, strict=True):
        difference = _difference(wanted, value)
        if difference:
            raise FailedPrecondition(f"Self-test {file}: output {key} of {name} {difference}")


def _difference(wanted: Array, value: Array) -> str:
    if (wanted.dtype, wanted.shape) != (value.dtype, value.shape):
        return f"is {value.dtype} {list(value.shape)}: expected {wanted.dtype} {list(wanted.shape)}"
    if wanted.dtype.kind in "fc":
        # NaN never passes: it compares false.
        if np.all(np.abs(wanted - value) <= TOLERANCE):
            return ""
        return f"differs by {np.max(np.abs(wanted - value)):g}: the limit is {TOLERANCE:g}"
    return "" if np.array_equal(wanted, value) else "is not equal to the golden one"


def _read(file: Path) -> dict[str, dict[str, dict[str, Array]]]:
    """Signature -> inputs or outputs -> tensor -> array."""
    golden: dict[str, dict[str, dict[str, Array]]] = {}
    try:
        with np.load(file, allow_pickle=False) as archive:
            for key in archive.files:
                signature, side, tensor, *form = key.split("/")
                if form == ["bytes"]:
                    continue
                array = _strings(archive[f"{signature}/{side}/{tensor}/bytes"], archive[key]) if form else archive[key]
                golden.setdefault(signature, {}).setdefault(side, {})[tensor] = array
    except (OSError, ValueError, KeyError, zipfile.BadZipFile) as error:
        raise FailedPrecondition(f"Self-test {file} cannot be read: {error}") from error
    return golden


def _strings(joined: Array, lengths: Array) -> Array:
    strings = np.empty(lengths.size, object)
    ends = lengths.ravel().cumsum()
    strings[:] = [joined[end - length : end].tobytes() for end, length in zip(ends, lengths.ravel(), strict=True)]
    return strings.reshape(lengths.shape)

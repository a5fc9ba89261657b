"""Inputs to measure a signature with: noise as its metadata has it, or a file's rows, in batches."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np

from client.errors import ClientUsageError
from client.input_files import content
from client.inputs import declared, fits, input_array, numpy_dtype
from client.types import Signature, TensorInfo
from serving.apis.tensors import Array

Shapes = Mapping[str, tuple[int, ...]]
# Noise of whole numbers is below it: they may be pixels, or indices of a small table.
_MAX_WHOLE = 10
_STRING = b"sample"


def noise(signature: Signature, rows: int, shapes: Shapes) -> dict[str, Array]:
    """One batch: floats from 0 to 1, whole numbers from 0 to 9, both values of bool, the string `sample`.

    rows: the size of a first dimension that is free. shapes: of inputs by name, instead of what the metadata says.
    Raises ClientUsageError for an input whose other sizes nobody gave, and for shapes that do not fit.
    """
    for unknown in shapes.keys() - signature.inputs.keys():
        raise ClientUsageError(f"--shape {unknown}: the signature's inputs are {', '.join(signature.inputs)}")
    values = np.random.default_rng(0)
    inputs = {}
    for name, info in signature.inputs.items():
        shape = _shape(name, info, rows, shapes.get(name))
        dtype = numpy_dtype(name, info)
        if dtype.kind == "O":
            array: Array = np.full(shape, _STRING, object)
        elif dtype.kind == "b":
            array = values.integers(0, 2, shape).astype(bool)
        else:
            array = (values.integers(0, _MAX_WHOLE, shape) if dtype.kind in "iu" else values.random(shape)).astype(
                dtype
            )
        inputs[name] = array
    return inputs


def file_inputs(path: Path, signature: Signature) -> dict[str, Array]:
    """The inputs in a file: .npz or JSON by name, .npy of the only input. Raises ClientUsageError."""
    loaded = content(path)
    if not isinstance(loaded, dict):
        loaded = dict.fromkeys(signature.inputs, loaded) if len(signature.inputs) == 1 else {}
    if loaded.keys() != signature.inputs.keys():
        names = ", ".join(signature.inputs)
        raise ClientUsageError(f"{path} has {', '.join(loaded) or 'no names'}: the signature's inputs are {names}")
    return {name: input_array(name, loaded[name], info) for name, info in signature.inputs.items()}


def batches(inputs: Mapping[str, Array], signature: Signature, rows: int) -> list[dict[str, Array]]:
    """Inputs in parts of so many rows, where all of them have rows; the last part may have fewer."""
    count = row_count(inputs, signature)
    if not count:
        return [dict(inputs)]
    return [{name: array[begin : begin + rows] for name, array in inputs.items()} for begin in range(0, count, rows)]


def row_count(inputs: Mapping[str, Array], signature: Signature) -> int:
    """How many rows the inputs have; 0 where they do not go by rows."""
    counts = {len(array) if array.ndim else 0 for array in inputs.values()}
    by_rows = all(info.shape is None or info.shape[:1] == (-1,) for info in signature.inputs.values())
    return counts.pop() if by_rows and len(counts) == 1 else 0


def _shape(name: str, info: TensorInfo, rows: int, given: tuple[int, ...] | None) -> tuple[int, ...]:
    if given is not None:
        sizes: Sequence[int] = given
    elif info.shape is None:
        raise ClientUsageError(f"`{name}` takes {declared(info)}: give its shape, as --shape {name}=8,28,28")
    else:
        sizes = [rows if size < 0 else size for size in info.shape[:1]] + list(info.shape[1:])
        if min(sizes, default=0) < 0:
            example = ",".join(str(224 if size < 0 else size) for size in sizes)
            raise ClientUsageError(f"`{name}` takes {declared(info)}: give all its sizes, as --shape {name}={example}")
    if not fits(sizes, info.shape):
        raise ClientUsageError(f"`{name}` takes {declared(info)}, not {list(sizes)} (--shape)")
    if not all(size > 0 for size in sizes):
        raise ClientUsageError(f"--shape {name}={','.join(map(str, sizes))}: sizes are above 0")
    return tuple(sizes)

"""Inputs of any signature: arrays, lists and scalars by name, checked against the metadata, as a call."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from contextlib import suppress
from typing import Any

import numpy as np

from client.calls import signature_of
from client.errors import ClientUsageError
from client.limits import PROTO_BYTES
from client.types import Call, Metadata, Signature, Tensor, TensorInfo
from serving.apis import messages, tensors
from serving.apis.tensors import Array

_DATA_TYPES = messages.POOL.FindEnumTypeByName("tensorflow.DataType").values_by_name
# numpy's kinds of numbers; V are those of ml_dtypes.
_NUMBERS = "fiucV"
# An error quotes so many characters of a value.
_QUOTED = 100


def call(
    inputs: Mapping[str, Any], metadata: Metadata, signature_name: str | None = None, output_filter: Sequence[str] = ()
) -> tuple[Call, Signature]:
    """The call of a signature, by default `serving_default`, with these inputs, and the signature.

    inputs: by name, an array of the input's dtype, or a list or scalar that takes the dtype without loss.
    output_filter: names of outputs, all by default.
    Raises ClientUsageError for what the signature does not take or have, and for more bytes than a message carries.
    """
    name, signature = signature_of(metadata, signature_name)
    if not isinstance(inputs, Mapping):
        raise ClientUsageError(f"inputs go by their names: {{{next(iter(signature.inputs), 'x')!r}: ...}}")
    for unknown in inputs.keys() - signature.inputs.keys():
        raise ClientUsageError(f"`{unknown}` is no input of {name}: it takes {_declared(signature.inputs)}")
    for missing in signature.inputs.keys() - inputs.keys():
        raise ClientUsageError(f"`{missing}` is missing: {name} takes {_declared(signature.inputs)}")
    for unknown in set(output_filter) - signature.outputs.keys():
        raise ClientUsageError(f"`{unknown}` is no output of {name}: it has {_declared(signature.outputs)}")
    for output in output_filter or signature.outputs:
        numpy_dtype(output, signature.outputs[output])
    arrays = {key: input_array(key, inputs[key], info) for key, info in signature.inputs.items()}
    size = sum(map(tensors.array_bytes, arrays.values()))
    if size > PROTO_BYTES:
        raise ClientUsageError(
            f"the inputs have {size} bytes: a message carries {PROTO_BYTES} at most: send fewer rows at a time"
        )
    return Call(name, {key: _tensor(arrays[key], info) for key, info in signature.inputs.items()}, output_filter), (
        signature
    )


def input_array(name: str, value: Any, info: TensorInfo) -> Array:
    """The array of an input: of its dtype, strings as objects of bytes. Raises ClientUsageError as `call`."""
    dtype = numpy_dtype(name, info)
    is_array = hasattr(value, "dtype") and hasattr(value, "shape")
    try:
        array = np.asarray(value, object if dtype.kind == "O" and not is_array else None)
    except (TypeError, ValueError, OverflowError) as error:
        raise ClientUsageError(
            f"`{name}` takes {declared(info)}, got what is no array, such as a ragged list: {error}"
        ) from error
    if dtype == np.uint64 and array.dtype.kind == "f" and not is_array:
        array = _exact(value, array)
    if dtype.kind == "O":
        converted = _strings(array)
    elif array.dtype.newbyteorder("=") == dtype or not (is_array or array.size):
        converted = array.astype(dtype, copy=False)
    else:
        converted = None if is_array else _lossless(array, dtype)
    if converted is not None and fits(array.shape, info.shape):
        return converted
    if is_array:
        got, fix = f"{array.dtype.name} {list(array.shape)}", _array_fix(name, array, dtype, info)
    elif converted is None:
        got, fix = _wrong_value(array, dtype), ""
    else:
        got = f"a list {list(array.shape)}" if array.ndim else "a scalar"
        # Lists in a list have one size more.
        is_row = fits((1, *array.shape), info.shape)
        fix = (
            f"[{_code(name)}]"
            if is_row
            else _shape_fix(array.shape, info.shape, f"np.array({_code(name)}, {dtype.name!r})")
        )
    raise ClientUsageError(f"`{name}` takes {declared(info)}, got {got}" + (f": {fix}" if fix else ""))


def declared(info: TensorInfo) -> str:
    """An input or output as numpy calls it: `float32 [N, 4]`; strings are `string`."""
    try:
        name = tensors.numpy_dtype(_DATA_TYPES[info.dtype].number).name
    except (tensors.TensorError, KeyError):
        name = info.dtype.removeprefix("DT_").lower()
    return f"{'string' if name == 'object' else name} {info}"


def _declared(infos: Mapping[str, TensorInfo]) -> str:
    return ", ".join(f"`{name}` {declared(info)}" for name, info in infos.items()) or "none"


def numpy_dtype(name: str, info: TensorInfo) -> np.dtype[Any]:
    """numpy's dtype of an input or output. Raises ClientUsageError where it has none."""
    try:
        return tensors.numpy_dtype(_DATA_TYPES[info.dtype].number)
    except (tensors.TensorError, KeyError) as error:
        raise ClientUsageError(f"`{name}` is {info.dtype}, which has no array: {error}") from error


def _strings(array: Array) -> Array | None:
    """Objects of bytes, or None where an element is neither text nor bytes."""
    values = [value.encode() if isinstance(value, str) else value for value in array.ravel().tolist()]
    if not all(isinstance(value, bytes) for value in values):
        return None
    converted = np.empty(len(values), object)
    converted[:] = values
    return converted.reshape(array.shape)


def _exact(value: Any, array: Array) -> Array:
    """uint64 where numpy made floats of whole numbers below and above 2**63."""
    values = np.asarray(value, object)
    if set(map(type, values.ravel().tolist())) == {int}:
        with suppress(OverflowError):
            return values.astype(np.uint64)
    return array


def _lossless(array: Array, dtype: np.dtype[Any]) -> Array | None:
    """Numbers of Python in another dtype, or None where they lose something or are none."""
    if not _are_numbers(array, dtype):
        return None
    with np.errstate(all="ignore"):
        converted = array.astype(dtype)
    return converted if bool(_is_same(array, converted).all()) else None


def _are_numbers(array: Array, dtype: np.dtype[Any]) -> bool:
    """Whether both are numbers, of which a bool is none, and an imaginary part has a place."""
    return {array.dtype.kind, dtype.kind} <= set(_NUMBERS) and (array.dtype.kind != "c" or dtype.kind == "c")


def _is_same(array: Array, converted: Array) -> Array:
    """Where a number came through: fractions are rounded, whole numbers come back, and nothing leaves the range."""
    with np.errstate(all="ignore"):
        if converted.dtype.kind != "c" and (array.dtype.kind in "iu" or "int" in converted.dtype.name):
            # The sign tells a wrapped int64 from a uint64.
            same: Array = (converted.astype(array.dtype) == array) & ((converted < 0) == (array < 0))
        else:
            same = np.isfinite(converted) | ~np.isfinite(array)
    return same


def _wrong_value(array: Array, dtype: np.dtype[Any]) -> str:
    """The first value of a list that does not become one of the dtype."""
    values = array.ravel()
    if _are_numbers(array, dtype):
        with np.errstate(all="ignore"):
            values = values[~_is_same(values, values.astype(dtype))]
    elif dtype.kind == "O":
        values = np.array([*(value for value in values.tolist() if not isinstance(value, str | bytes)), None], object)
    value = values[:1].tolist()[0]
    if isinstance(value, list):
        return "a ragged list: the lists at one level must have one length"
    return f"{type(value).__name__} {repr(value)[:_QUOTED]}"


def _tensor(array: Array, info: TensorInfo) -> Tensor:
    if array.dtype.kind == "O":
        return Tensor(info.dtype, array.shape, array.ravel().tolist())
    return Tensor(info.dtype, array.shape, array.astype(array.dtype.newbyteorder("<"), copy=False).tobytes())


def _code(name: str) -> str:
    return name if name.isidentifier() else "array"


def fits(shape: Sequence[int], expected: Sequence[int] | None) -> bool:
    """Whether an array of this shape is one that was declared so: -1 for a free size, None for any rank."""
    return expected is None or (
        len(shape) == len(expected) and all(size in (-1, actual) for actual, size in zip(shape, expected, strict=True))
    )


def _array_fix(name: str, array: Array, dtype: np.dtype[Any], info: TensorInfo) -> str:
    """The code that makes an array fit, or nothing."""
    code = _shape_fix(array.shape, info.shape, _code(name))
    if not code and not fits(array.shape, info.shape):
        return ""
    if array.dtype.newbyteorder("=") == dtype:
        return code
    return f"{code or _code(name)}.astype({dtype.name!r})" if array.dtype.kind in "fiubV" and dtype.kind != "O" else ""


def _shape_fix(shape: tuple[int, ...], expected: tuple[int, ...] | None, code: str) -> str:
    """The code that makes an array of this shape fit, or nothing."""
    return next((fix for candidate, fix in _candidates(shape, expected or (), code) if fits(candidate, expected)), "")


def _candidates(shape: tuple[int, ...], expected: tuple[int, ...], code: str) -> Iterator[tuple[tuple[int, ...], str]]:
    """Shapes that the same values can have, and the code that makes them."""
    yield shape, ""
    yield (1, *shape), f"{code}[None]"
    yield (*shape, 1), f"{code}[..., None]"
    if shape[:1] == (1,):
        yield shape[1:], f"{code}[0]"
    if shape[-1:] == (1,):
        yield shape[:-1], f"{code}[..., 0]"
    free, fixed = expected.count(-1), math.prod(axis for axis in expected if axis != -1)
    size = math.prod(shape)
    # A free size takes what the others leave.
    if size and ((free == 1 and fixed and size % fixed == 0) or (free == 0 and size == fixed)):
        yield tuple(map(abs, expected)), f"{code}.reshape({', '.join(map(str, expected))})"

"""REST request bodies as the inputs of a request: `instances` or `inputs` for Predict, `examples` for the others.

A body of plain numbers is converted by numpy at once. Any other is converted element by element, with TF Serving's
checks in its order and its error texts.
"""

from __future__ import annotations

import functools
import operator
from collections.abc import Mapping
from typing import Any

import numpy as np

from serving.apis import tensors
from serving.apis.tensors import Array
from serving.embedded.rest.json import values
from serving.embedded.rest.json.columns import Column, integer_range, is_base64
from serving.embedded.rest.json.values import Value, format_error
from serving.errors import InvalidArgument, Unimplemented

# The DataType of each input, by name.
Types = Mapping[str, int]


def signature_name(document: Mapping[str, Value]) -> str:
    """The body's `signature_name`, or an empty text. Raises InvalidArgument when it is no text."""
    name = document.get("signature_name", "")
    if not isinstance(name, str):
        raise format_error(document, "not formatted correctly. 'signature_name' key must be a string value.")
    return name


def predict_inputs(
    document: Mapping[str, Value], types: Types, requested_name: str, *, no_booleans: bool = False
) -> dict[str, Array]:
    """The inputs in a Predict body, by name. Raises InvalidArgument.

    types: of the signature's inputs. requested_name: the signature's as the request has it, for the error. no_booleans:
    the body is known to hold neither `true` nor `false`, which numpy would take for 1 and 0.
    """
    if not types:
        raise InvalidArgument(f"Failed to get input map for signature: {requested_name or 'DEFAULT'}")
    if "instances" in document and "inputs" in document:
        raise format_error(
            document, "Not formatted correctly expecting only one of 'inputs' or 'instances' keys to exist "
        )
    if "instances" in document:
        instances = document["instances"]
        if not isinstance(instances, list):
            raise format_error(document, "Expecting 'instances' to be an list/array")
        if not instances:
            raise format_error(document, "No values in 'instances' array")
        return _rows(instances, types, no_booleans=no_booleans)
    if "inputs" in document:
        return _columns(document["inputs"], types, no_booleans=no_booleans)
    raise InvalidArgument("Missing 'inputs' or 'instances' key")


def _columns(value: Value, types: Types, *, no_booleans: bool) -> dict[str, Array]:
    if not _is_object(value):
        if len(types) > 1:
            raise InvalidArgument(
                "inputs is a plain value/list, but expecting an object as multiple "
                "input tensors required as per tensorinfo_map"
            )
        name, data_type = next(iter(types.items()))
        return {name: _array(value, data_type, no_booleans=no_booleans)}
    arrays = {}
    for name in sorted(types):
        if name not in value:
            raise InvalidArgument(f"Missing named input: {name} in 'inputs' object.")
        arrays[name] = _array(value[name], types[name], no_booleans=no_booleans)
    return arrays


def _rows(instances: list[Value], types: Types, *, no_booleans: bool) -> dict[str, Array]:
    if not isinstance(instances[0], dict) and len(types) > 1:
        raise InvalidArgument(
            "instances is a plain list, but expecting list of objects as multiple "
            "input tensors required as per tensorinfo_map"
        )
    arrays = _fast_rows(instances, types) if no_booleans else None
    return _exact_rows(instances, types) if arrays is None else arrays


def _fast_rows(instances: list[Value], types: Types) -> dict[str, Array] | None:
    """The inputs of rows of plain numbers that are all unnamed, or have exactly the signature's names; else None."""
    names = types.keys()
    if not isinstance(instances[0], dict):
        name = next(iter(names))
        array = _fast_array(instances, types[name])
        return None if array is None else {name: array}
    if all(isinstance(row, dict) and row.keys() == names for row in instances):
        arrays = {name: _fast_array([row[name] for row in instances], types[name]) for name in names}
        return None if any(array is None for array in arrays.values()) else arrays  # type: ignore[return-value]
    return None


def _exact_rows(instances: list[Value], types: Types) -> dict[str, Array]:
    named = _is_object(instances[0])
    columns: dict[str, Column] = {}
    for position, row in enumerate(instances):
        if named != _is_object(row):
            kinds = "object but got list" if named else "value/list but got object"
            raise InvalidArgument(f"Expecting {kinds} at item {position} of input list")
        items = row if named else {next(iter(types)): row}
        for name, item in items.items():
            _add_item(columns, types, name, item, f"{position} key: {name}" if named else f"{position}")
        if named and row.keys() != types.keys():
            raise InvalidArgument(
                f"Failed to process element: {position} of 'instances' list. JSON object: {values.text(row)} "
                f"keys must be equal to: {','.join(sorted(types))}"
            )
    return {name: column.array((len(instances), *column.shape)) for name, column in columns.items()}


def _add_item(columns: dict[str, Column], types: Types, name: str, item: Value, where: str) -> None:
    try:
        if name in columns:
            columns[name].add(item)
        else:
            columns[name] = Column(item, _data_type(types, name))
    except (InvalidArgument, Unimplemented) as error:
        raise InvalidArgument(
            f"Failed to process element: {where} of 'instances' list. Error: {error.code.name}: {error}"
        ) from error


def _data_type(types: Types, name: str) -> int:
    if name not in types:
        raise InvalidArgument(f"JSON object: does not have named input: {name}")
    return types[name]


def _array(value: Value, data_type: int, *, no_booleans: bool) -> Array:
    fast = _fast_array(value, data_type) if no_booleans else None
    if fast is not None:
        return fast
    column = Column(value, data_type)
    return column.array(column.shape)


def _fast_array(value: Value, data_type: int) -> Array | None:
    """The array of a value that numpy reads as its type, else None, whatever the reason."""
    dtype = tensors.numpy_dtype(data_type)
    if dtype.kind not in "fiu":
        return None
    if dtype == np.uint8 and (pixels := _pixels(value)) is not None:
        return pixels
    return _numbers(value, dtype)


def _numbers(value: Value, dtype: np.dtype[Any]) -> Array | None:
    try:
        array = np.asarray(value)
    except (ValueError, OverflowError, RecursionError):
        return None
    if array.dtype.kind not in ("fi" if dtype.kind == "f" else "i"):
        return None
    if dtype.kind == "f":
        with np.errstate(over="ignore"):
            return array.astype(dtype, copy=False)
    low, high = integer_range(dtype)
    if array.size and (array.min() < low or array.max() > high):
        return None
    return array.astype(dtype, copy=False)


def _pixels(value: Value) -> Array | None:
    """Lists of one length at each level that hold whole numbers from 0 to 255, in a third of the time; else None."""
    if type(value) is not list or not value:
        return None
    shape = [len(value)]
    while type(value[0]) is list:
        size = len(value[0])
        if not size or set(map(type, value)) != {list} or set(map(len, value)) != {size}:
            return None
        shape.append(size)
        # A third of the time of itertools.chain.
        value = functools.reduce(operator.iconcat, value, [])
    try:
        return np.frombuffer(bytes(value), np.uint8).reshape(shape)
    except (TypeError, ValueError):
        # Something else than whole numbers, one beyond the range, more levels than numpy has.
        return None


def _is_object(value: Value) -> bool:
    return isinstance(value, dict) and not is_base64(value)

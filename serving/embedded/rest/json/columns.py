"""JSON values of one input as one array, element by element, with TF Serving's checks and its error texts."""

from __future__ import annotations

import base64
import binascii
from typing import Any

import numpy as np

from serving.apis import tensors
from serving.apis.tensors import Array
from serving.embedded.inference.predict import shape_text, type_name
from serving.embedded.rest.json import values
from serving.embedded.rest.json.values import Value, format_error
from serving.errors import InvalidArgument, Unimplemented

# numpy's largest rank; a body that is nested deeper is a mistake or an attack.
MAX_RANK = 64
# JSON integers must be in these ranges; those of the small types need only be an int32 and wrap, as in TF Serving.
_RANGES = {"int64": (-(2**63), 2**63 - 1), "uint32": (0, 2**32 - 1), "uint64": (0, 2**64 - 1)}
_INT32_RANGE = (-(2**31), 2**31 - 1)
# What JSON may give for each kind of dtype; V is that of the small types, which numpy does not know itself.
_TYPES = {"O": (str, dict), "b": (bool,), "f": (int, float), "V": (int, float), "i": (int,), "u": (int,)}


def integer_range(dtype: np.dtype[Any]) -> tuple[int, int]:
    """The JSON integers that an input of a dtype takes."""
    return _RANGES.get(dtype.name, _INT32_RANGE)


class Column:
    """One input while it is read, item by item, all of the same shape."""

    def __init__(self, item: Value, data_type: int) -> None:
        self._data_type = data_type
        self._dtype = tensors.numpy_dtype(data_type)
        if self._dtype.kind not in _TYPES:
            raise Unimplemented(f"Conversion of JSON Value to type: {type_name(data_type)}")
        self._values: list[Any] = []
        self.shape = _dense_shape(item)
        self._fill(item, 0, self.shape)
        self._size = len(self._values)

    def add(self, item: Value) -> None:
        """Adds an item. Raises InvalidArgument when it is not like the first one."""
        shape, start = _dense_shape(item), len(self._values)
        self._fill(item, 0, shape)
        size = len(self._values) - start
        if size != self._size:
            raise InvalidArgument(f"Expecting tensor size: {self._size} but got: {size}")
        if shape != self.shape:
            raise InvalidArgument(f"Expecting shape {shape_text(self.shape)} but got: {shape_text(shape)}")

    def array(self, shape: tuple[int, ...]) -> Array:
        """All items in one array of this shape."""
        dtype = self._dtype
        if dtype.kind == "O":
            array = np.empty(len(self._values), object)
            array[:] = self._values
        elif dtype.kind in "iu" and dtype.name not in _RANGES:
            array = np.array(self._values, np.int32).astype(dtype)
        else:
            with np.errstate(over="ignore"):
                array = np.array(self._values, np.float64 if dtype.kind == "f" else dtype).astype(dtype, copy=False)
        return array.reshape(shape)

    def _fill(self, value: Value, level: int, shape: tuple[int, ...]) -> None:
        if not isinstance(value, list):
            if level != len(shape):
                raise InvalidArgument(
                    f"JSON Value: {values.text(value)} found at incorrect level: {level + 1} "
                    f"in the JSON DOM. Expected at level: {len(shape)}"
                )
            self._values.append(self._element(value))
            return
        if level >= len(shape):
            raise InvalidArgument(f"Encountered list at unexpected level: {level} expected < {len(shape)}")
        if len(value) != shape[level]:
            raise InvalidArgument(
                f"Encountered list at unexpected size: {len(value)} at level: {level} expected size: {shape[level]}"
            )
        if level + 1 == len(shape) and self._take_numbers(value):
            return
        for element in value:
            self._fill(element, level + 1, shape)

    def _take_numbers(self, value: list[Value]) -> bool:
        """Takes a list of numbers that all fit at once; whether it did. One by one they take twenty times as long."""
        kind = self._dtype.kind
        if not value or kind not in "fiuV" or not {int, float}.issuperset(types := set(map(type, value))):
            return False
        if kind in "fV":
            self._values.extend(map(float, value))
            return True
        low, high = integer_range(self._dtype)
        if float in types or min(value) < low or max(value) > high:
            return False
        self._values.extend(value)
        return True

    def _element(self, value: Value) -> Any:  # as numpy takes it for the dtype
        kind = self._dtype.kind
        # JSON gives these very types: a bool is no int here.
        fits = type(value) in _TYPES[kind]
        if fits and kind in "iu":
            low, high = integer_range(self._dtype)
            fits = low <= value <= high
        if not fits:
            expected = type_name(self._data_type)
            raise format_error(value, f"Type: {values.type_name(value)} is not of expected type: {expected}")
        if isinstance(value, dict):
            return decoded(value)
        if isinstance(value, str):
            return value.encode("utf-8", "surrogateescape")
        return float(value) if kind in "fV" else value


def is_base64(value: Value) -> bool:
    """Whether a value is `{"b64": "..."}`, with no other key."""
    return isinstance(value, dict) and len(value) == 1 and isinstance(value.get("b64"), str)


def decoded(value: Value) -> bytes:
    """The bytes of `{"b64": "..."}`. Raises InvalidArgument."""
    if not is_base64(value):
        raise format_error(value, "not formatted correctly for base64 data")
    # Padding may be missing, and white space is skipped, as in TF Serving's decoder.
    digits = "".join(value["b64"].split()).rstrip("=")
    try:
        return base64.b64decode(digits + "=" * (-len(digits) % 4), validate=True)
    except (binascii.Error, ValueError) as error:
        raise InvalidArgument("Unable to base64 decode") from error


def _dense_shape(value: Value) -> tuple[int, ...]:
    """The shape that the first element of each level has; the others are checked as they are read."""
    shape: list[int] = []
    while isinstance(value, list):
        shape.append(len(value))
        if len(shape) > MAX_RANK:
            raise InvalidArgument(f"JSON lists are nested deeper than {MAX_RANK} levels, the largest rank")
        if not value:
            break
        value = value[0]
    return tuple(shape)

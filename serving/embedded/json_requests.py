"""REST request bodies as the inputs of a request: `instances` or `inputs` for Predict, `examples` for the others.

Clean numeric bodies take a fast way through numpy; whatever is not clean takes the exact one, element by element, which
checks in TF Serving's order and answers with its texts.
"""

from __future__ import annotations

import base64
import binascii
from collections.abc import Mapping
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

from serving.apis import tensors
from serving.apis.messages import DT_BOOL, DT_STRING, SignatureDef, TensorInfo
from serving.embedded import json_values
from serving.embedded.json_values import Value, format_error
from serving.embedded.predict import type_name
from serving.errors import InvalidArgument, Unimplemented

Array = npt.NDArray[Any]
Infos = Mapping[str, TensorInfo]

# TensorFlow's largest rank; a body that is nested deeper is a mistake or an attack.
MAX_RANK = 254
# JSON integers are held against these ranges; the small types wrap, as in TF Serving.
_RANGES = {
    "int64": (-(2**63), 2**63 - 1),
    "uint32": (0, 2**32 - 1),
    "uint64": (0, 2**64 - 1),
}
_INT32_RANGE = (-(2**31), 2**31 - 1)


class JsonInputs(NamedTuple):
    """The inputs of a Predict request by name, and whether they came in row format."""

    arrays: dict[str, Array]
    row_format: bool


def signature_name(document: Mapping[str, Value]) -> str:
    """The body's `signature_name`, or an empty text. Raises InvalidArgument when it is no text."""
    name = document.get("signature_name", "")
    if not isinstance(name, str):
        raise format_error(document, "not formatted correctly. 'signature_name' key must be a string value.")
    return name


def predict_inputs(
    document: Mapping[str, Value], signature: SignatureDef, asked_name: str, *, clean: bool = False
) -> JsonInputs:
    """The inputs in a Predict body. Raises InvalidArgument.

    clean: the body is known to hold neither `true` nor `false`, which numpy would take for 1 and 0.
    """
    infos = signature.inputs
    if not infos:
        raise InvalidArgument(f"Failed to get input map for signature: {asked_name or 'DEFAULT'}")
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
        return JsonInputs(_rows(instances, infos, clean=clean), row_format=True)
    if "inputs" in document:
        return JsonInputs(_columns(document["inputs"], infos, clean=clean), row_format=False)
    raise InvalidArgument("Missing 'inputs' or 'instances' key")


def _columns(value: Value, infos: Infos, *, clean: bool) -> dict[str, Array]:
    if not _is_object(value):
        if len(infos) > 1:
            raise InvalidArgument(
                "inputs is a plain value/list, but expecting an object as multiple "
                "input tensors required as per tensorinfo_map"
            )
        name, info = next(iter(infos.items()))
        return {name: _array(value, info.dtype, clean=clean)}
    arrays = {}
    for name in sorted(infos):
        if name not in value:
            raise InvalidArgument(f"Missing named input: {name} in 'inputs' object.")
        arrays[name] = _array(value[name], infos[name].dtype, clean=clean)
    return arrays


def _rows(instances: list[Value], infos: Infos, *, clean: bool) -> dict[str, Array]:
    if not isinstance(instances[0], dict) and len(infos) > 1:
        raise InvalidArgument(
            "instances is a plain list, but expecting list of objects as multiple "
            "input tensors required as per tensorinfo_map"
        )
    if not _is_object(instances[0]):
        name, info = next(iter(infos.items()))
        fast = _fast_array(instances, info.dtype) if clean else None
        if fast is not None:
            return {name: fast}
    elif clean:
        arrays = _fast_named_rows(instances, infos)
        if arrays is not None:
            return arrays
    return _exact_rows(instances, infos)


def _fast_named_rows(instances: list[Value], infos: Infos) -> dict[str, Array] | None:
    """The columns of rows that all have exactly the signature's names and plain numbers, else None."""
    names = infos.keys()
    if any(not isinstance(row, dict) or row.keys() != names for row in instances):
        return None
    arrays = {name: _fast_array([row[name] for row in instances], info.dtype) for name, info in infos.items()}
    return None if any(array is None for array in arrays.values()) else arrays  # type: ignore[return-value]


def _exact_rows(instances: list[Value], infos: Infos) -> dict[str, Array]:
    named = _is_object(instances[0])
    columns: dict[str, _Column] = {}
    for position, row in enumerate(instances):
        if named != _is_object(row):
            kinds = "object but got list" if named else "value/list but got object"
            raise InvalidArgument(f"Expecting {kinds} at item {position} of input list")
        items = row if named else {next(iter(infos)): row}
        for name, item in items.items():
            _add_item(columns, infos, name, item, f"{position} key: {name}" if named else f"{position}")
        if named and row.keys() != infos.keys():
            raise InvalidArgument(
                f"Failed to process element: {position} of 'instances' list. JSON object: {json_values.text(row)} "
                f"keys must be equal to: {','.join(sorted(infos))}"
            )
    return {name: column.array((len(instances), *column.shape)) for name, column in columns.items()}


def _add_item(columns: dict[str, _Column], infos: Infos, name: str, item: Value, where: str) -> None:
    try:
        if name in columns:
            columns[name].add(item)
        else:
            columns[name] = _Column(item, _info(infos, name).dtype)
    except (InvalidArgument, Unimplemented) as error:
        raise InvalidArgument(
            f"Failed to process element: {where} of 'instances' list. Error: {error.code.name}: {error}"
        ) from error


def _info(infos: Infos, name: str) -> TensorInfo:
    if name not in infos:
        raise InvalidArgument(f"JSON object: does not have named input: {name}")
    return infos[name]


def _array(value: Value, data_type: int, *, clean: bool) -> Array:
    fast = _fast_array(value, data_type) if clean else None
    if fast is not None:
        return fast
    column = _Column(value, data_type)
    return column.array(column.shape)


def _fast_array(value: Value, data_type: int) -> Array | None:
    """The array of a value that is plainly of its type, else None: the exact way has the last word."""
    wanted = tensors.numpy_dtype(data_type)
    if wanted.kind not in "fiu":
        return None
    try:
        made = np.asarray(value)
    except (ValueError, OverflowError, RecursionError):
        return None
    if made.dtype.kind not in ("fi" if wanted.kind == "f" else "i"):
        return None
    if wanted.kind == "f":
        with np.errstate(over="ignore"):
            return made.astype(wanted, copy=False)
    low, high = _RANGES.get(wanted.name, _INT32_RANGE)
    if made.size and (made.min() < low or made.max() > high):
        return None
    return made.astype(wanted, copy=False)


class _Column:
    """One input being filled, item by item of the same shape."""

    def __init__(self, item: Value, data_type: int) -> None:
        self._data_type = data_type
        self._convert = _converter(data_type)
        self._values: list[Any] = []
        self.shape = _dense_shape(item)
        self._fill(item, 0, self.shape)
        self._size = len(self._values)

    def add(self, item: Value) -> None:
        """Adds an item. Raises InvalidArgument when it is not like the first one."""
        shape, before = _dense_shape(item), len(self._values)
        self._fill(item, 0, shape)
        size = len(self._values) - before
        if size != self._size:
            raise InvalidArgument(f"Expecting tensor size: {self._size} but got: {size}")
        if shape != self.shape:
            raise InvalidArgument(f"Expecting shape {_listed(self.shape)} but got: {_listed(shape)}")

    def array(self, shape: tuple[int, ...]) -> Array:
        """All items in one array of this shape."""
        wanted = tensors.numpy_dtype(self._data_type)
        if self._data_type == DT_STRING:
            made = np.empty(len(self._values), object)
            made[:] = self._values
        elif wanted.kind in "iu" and wanted.name not in _RANGES:
            made = np.array(self._values, np.int32).astype(wanted)
        else:
            with np.errstate(over="ignore"):
                made = np.array(self._values, np.float64 if wanted.kind == "f" else wanted).astype(wanted, copy=False)
        return made.reshape(shape)

    def _fill(self, value: Value, level: int, shape: tuple[int, ...]) -> None:
        if not isinstance(value, list):
            if level != len(shape):
                raise InvalidArgument(
                    f"JSON Value: {json_values.text(value)} found at incorrect level: {level + 1} "
                    f"in the JSON DOM. Expected at level: {len(shape)}"
                )
            self._values.append(self._convert(value))
            return
        if level >= len(shape):
            raise InvalidArgument(f"Encountered list at unexpected level: {level} expected < {len(shape)}")
        if len(value) != shape[level]:
            raise InvalidArgument(
                f"Encountered list at unexpected size: {len(value)} at level: {level} expected size: {shape[level]}"
            )
        for one in value:
            self._fill(one, level + 1, shape)


def _converter(data_type: int) -> Any:  # one of the functions below, each from a JSON value to its own type
    kind = tensors.numpy_dtype(data_type).kind
    if data_type == DT_STRING:
        return _string
    if data_type == DT_BOOL:
        return lambda value: value if isinstance(value, bool) else _raise_type(value, data_type)
    if kind in "fV":
        return lambda value: _number(value, data_type)
    if kind in "iu":
        return lambda value: _integer(value, data_type)
    raise Unimplemented(f"Conversion of JSON Value to type: {type_name(data_type)}")


def _number(value: Value, data_type: int) -> float:
    if isinstance(value, bool) or not isinstance(value, int | float):
        _raise_type(value, data_type)
    return float(value)


def _integer(value: Value, data_type: int) -> int:
    low, high = _RANGES.get(tensors.numpy_dtype(data_type).name, _INT32_RANGE)
    if isinstance(value, bool) or not isinstance(value, int) or not low <= value <= high:
        _raise_type(value, data_type)
    return int(value)


def _string(value: Value) -> bytes:
    if isinstance(value, dict):
        return decoded(value)
    if not isinstance(value, str):
        _raise_type(value, DT_STRING)
    return str(value).encode("utf-8", "surrogateescape")


def _raise_type(value: Value, data_type: int) -> Any:
    raise format_error(value, f"Type: {json_values.type_name(value)} is not of expected type: {type_name(data_type)}")


def is_base64(value: Value) -> bool:
    """Whether a value is `{"b64": "..."}`, with no other key."""
    return isinstance(value, dict) and len(value) == 1 and isinstance(value.get("b64"), str)


def decoded(value: Value) -> bytes:
    """The bytes of `{"b64": "..."}`. Raises InvalidArgument."""
    if not is_base64(value):
        raise format_error(value, "not formatted correctly for base64 data")
    # Padding may be missing, and white space is skipped, as in TF Serving's decoder.
    packed = "".join(value["b64"].split()).rstrip("=")
    try:
        return base64.b64decode(packed + "=" * (-len(packed) % 4), validate=True)
    except (binascii.Error, ValueError) as error:
        raise InvalidArgument("Unable to base64 decode") from error


def _is_object(value: Value) -> bool:
    return isinstance(value, dict) and not is_base64(value)


def _dense_shape(value: Value) -> tuple[int, ...]:
    """The shape that the first elements promise; whether all keep it is checked while filling."""
    shape: list[int] = []
    while isinstance(value, list):
        shape.append(len(value))
        if len(shape) > MAX_RANK:
            raise InvalidArgument(f"JSON lists are nested deeper than {MAX_RANK} levels, TensorFlow's largest rank")
        if not value:
            break
        value = value[0]
    return tuple(shape)


def _listed(shape: tuple[int, ...]) -> str:
    return f"[{','.join(map(str, shape))}]"

"""The answers of `fashion call`: an object in one line of JSON, or a file of arrays."""

from __future__ import annotations

import base64
import json
from collections.abc import Mapping
from typing import Any, BinaryIO

import numpy as np

from client.errors import ClientUsageError
from serving.apis.tensors import Array

# Floats that JSON's would print with digits that they do not have.
_SHORT = ("float32", "float16", "bfloat16")


def text(answer: Any) -> str:
    """One line: outputs by name, or `results` as TF Serving's REST API has them.

    Strings are text where they are UTF-8, else `{"b64": "..."}`; NaN and the infinities are bare, as TF Serving's.
    Raises ClientUsageError for complex numbers.
    """
    if isinstance(answer, dict):
        return json.dumps({name: _values(name, array) for name, array in answer.items()}) + "\n"
    results = [
        [(label, _short(score)) for label, score in row] if isinstance(row, list) else _short(row) for row in answer
    ]
    return json.dumps({"results": results}) + "\n"


def write_arrays(answer: Any, file: BinaryIO) -> None:
    """Writes outputs by name as .npz, without pickle: strings of numpy's own type, bfloat16 and its like as float32.

    Raises ClientUsageError for strings that numpy would cut, and for what is no arrays.
    """
    if not isinstance(answer, dict):
        raise ClientUsageError("results of classify and regress are no arrays: --output FILE.json")
    np.savez(file, **{name: _plain(name, array) for name, array in answer.items()})  # type: ignore[arg-type]


def _plain(name: str, array: Array) -> Array:
    if array.dtype.kind == "V":
        return array.astype(np.float32)
    if array.dtype.kind != "O":
        return array
    if any(value.endswith(b"\0") for value in array.ravel().tolist()):
        raise ClientUsageError(
            f"`{name}` has a string that ends in a zero byte, which .npz would lose: --output FILE.json"
        )
    return array.astype(bytes)


def _values(name: str, array: Array) -> Any:
    if array.dtype.kind == "c":
        raise ClientUsageError(f"`{name}` is {array.dtype}, which has no JSON form: --output FILE.npz")
    if array.dtype.kind == "O":
        return _strings(array.tolist())
    if array.dtype.name in _SHORT:
        wide = array.astype(np.float32) if array.dtype.kind == "V" else array
        return wide.astype(str).astype(np.float64).tolist()
    return (array.astype(np.float32) if array.dtype.kind == "V" else array).tolist()


def _short(value: float) -> float:
    return float(str(np.float32(value)))


def _strings(value: Any) -> str | list[Any] | Mapping[str, str]:
    if isinstance(value, list):
        return [_strings(item) for item in value]
    try:
        decoded: str = value.decode()
    except UnicodeDecodeError:
        return {"b64": base64.b64encode(value).decode()}
    return decoded

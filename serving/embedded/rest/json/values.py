"""JSON as TF Serving reads and prints it.

It reads NaN, Infinity and -Infinity, and prints as RapidJSON's PrettyWriter does: four spaces, arrays on one line where
asked. Numbers are printed as the shortest text that gives the same number back.
"""

from __future__ import annotations

import json
import math
from collections.abc import Iterator
from typing import Any

import orjson

from serving.errors import MAX_QUOTED, InvalidArgument

# What JSON gives in Python: None, bool, int, float, str, list and dict; its nesting cannot be typed.
Value = Any

_TYPES = {type(None): "Null", str: "String", list: "Array", dict: "Object", int: "Number", float: "Number"}
_INT64_MIN, _UINT64_MAX = -(2**63), 2**64 - 1
_MAX_FLOAT32 = 3.4028234663852886e38


def parse_object(body: bytes | bytearray) -> dict[str, Value]:
    """The JSON object in a request's body. Raises InvalidArgument for anything else."""
    if not body:
        raise InvalidArgument("JSON Parse error: The document is empty")
    try:
        value = _parse(body)
    except json.JSONDecodeError as error:
        raise InvalidArgument(f"JSON Parse error: {error.msg} at offset: {error.pos}") from error
    except ValueError as error:
        raise InvalidArgument(f"JSON Parse error: {error}") from error
    except RecursionError as error:
        raise InvalidArgument("JSON Parse error: nested too deep") from error
    if not isinstance(value, dict):
        raise format_error(value, "Is not object")
    return value


def _parse(body: bytes | bytearray) -> Value:
    try:
        return orjson.loads(body)
    except orjson.JSONDecodeError:
        # orjson keeps to the standard; TF Serving takes NaN and the infinities too.
        if b"NaN" not in body and b"Infinity" not in body:
            raise
        return json.loads(body, parse_int=_integer, parse_float=_double)


def _integer(text: str) -> float:
    """A whole number as RapidJSON and orjson take it: one that 64 bits cannot hold is a double."""
    value = int(text)
    return value if _INT64_MIN <= value <= _UINT64_MAX else _double(text)


def _double(text: str) -> float:
    value = float(text)
    if math.isinf(value):
        raise ValueError("number is infinity when parsed as double")
    return value


def type_name(value: Value) -> str:
    """RapidJSON's name of a value's type: Null, True, False, String, Number, Array or Object."""
    if isinstance(value, bool):
        return str(value)
    return _TYPES[type(value)]


def format_error(value: Value, rule: str) -> InvalidArgument:
    """TF Serving's error about a JSON value that breaks a rule."""
    return InvalidArgument(f"JSON Value: {text(value)} {rule}")


def text(value: Value) -> str:
    """A value as it appears in an error message, its beginning when it is long.

    A float is as C++ prints it: six digits if they suffice, else all.
    """
    if isinstance(value, float) and math.isfinite(value):
        digits = f"{value:.6g}"
        if float(digits) != value:
            digits = f"{value:.9g}" if abs(value) <= _MAX_FLOAT32 else f"{value:.17g}"
        return digits if "." in digits or "e" in digits else f"{digits}.0"
    result = ""
    for piece in _pieces(value, 0):
        result += piece
        if len(result) > MAX_QUOTED:
            return f"{result[:MAX_QUOTED]}..."
    return result


def non_finite(value: float) -> str:
    """`NaN`, `Infinity` or `-Infinity`: bare tokens, as TF Serving prints them."""
    if math.isnan(value):
        return "NaN"
    return "Infinity" if value > 0 else "-Infinity"


def _pieces(value: Value, level: int) -> Iterator[str]:
    """A value with objects over several lines and arrays on one, piece by piece; of a long string, the beginning."""
    if isinstance(value, dict):
        indent = "    " * (level + 1)
        separator = "{\n"
        for name, member in value.items():
            yield f"{separator}{indent}{_quoted_beginning(name)}: "
            yield from _pieces(member, level + 1)
            separator = ",\n"
        yield f"\n{'    ' * level}}}" if value else "{}"
    elif isinstance(value, list):
        separator = "["
        for element in value:
            yield separator
            yield from _pieces(element, level + 1)
            separator = ", "
        yield "]" if value else "[]"
    elif isinstance(value, str):
        yield _quoted_beginning(value)
    elif isinstance(value, float):
        yield orjson.dumps(value).decode() if math.isfinite(value) else non_finite(value)
    else:
        yield json.dumps(value)


def _quoted_beginning(value: str) -> str:
    return quoted(value[: MAX_QUOTED + 1])


def pretty_object(members: dict[str, str], level: int) -> str:
    """An object whose values are JSON already, one member a line."""
    if not members:
        return "{}"
    indent = "    " * (level + 1)
    lines = ",\n".join(f"{indent}{quoted(key)}: {member}" for key, member in members.items())
    return f"{{\n{lines}\n{'    ' * level}}}"


def quoted(value: str) -> str:
    """A JSON string; only what JSON must have escaped is."""
    try:
        return orjson.dumps(value).decode()
    except orjson.JSONEncodeError:
        # Half of a surrogate pair, which orjson does not print.
        return json.dumps(value, ensure_ascii=False)

"""Answers as JSON, laid out as TF Serving lays them out: outputs by rows or by columns, and whole messages."""

from __future__ import annotations

import base64
import json
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import orjson
from google.protobuf import json_format
from google.protobuf.message import Message

from serving.apis import tensors
from serving.apis.messages import GetModelMetadataResponse, SignatureDefMap
from serving.apis.tensors import Array
from serving.embedded.api import SIGNATURE_DEF
from serving.embedded.inference.predict import type_name
from serving.embedded.rest.json.values import non_finite, pretty_object, quoted
from serving.errors import InvalidArgument

# Outputs whose names end so are bytes, not text.
BYTES_SUFFIX = "_bytes"


def outputs_json(outputs: Mapping[str, Array], *, row_format: bool) -> str:
    """The body of a Predict answer. Raises InvalidArgument for outputs that the format cannot hold."""
    if not outputs:
        raise InvalidArgument("Cannot convert empty tensor map to JSON")
    if row_format:
        return f'{{\n    "predictions": {_predictions(outputs)}\n}}'
    if len(outputs) == 1:
        ((name, array),) = outputs.items()
        return f'{{\n    "outputs": {_column(_texts(name, array, 1 + array.ndim), array.shape, 1)}\n}}'
    members = {name: _column(_texts(name, array, 2 + array.ndim), array.shape, 2) for name, array in outputs.items()}
    return f'{{\n    "outputs": {pretty_object(members, 1)}\n}}'


def message_json(message: Message) -> str:
    """The fields of a message under their own names, those with their default value too."""
    fields = json_format.MessageToDict(
        message, preserving_proto_field_name=True, always_print_fields_with_no_presence=True
    )
    return json.dumps(fields, indent=1) + "\n"


def metadata_json(response: GetModelMetadataResponse) -> str:
    """The metadata of a model: two messages in a frame of their own."""
    signatures = SignatureDefMap()
    response.metadata[SIGNATURE_DEF].Unpack(signatures)
    return (
        f'{{\n"model_spec":{message_json(response.model_spec)},\n'
        f'"metadata": {{"signature_def": {message_json(signatures)}}}\n}}\n'
    )


def float_texts(values: Sequence[float]) -> list[str]:
    """float32 values as texts."""
    return _numbers(np.asarray(values, np.float32))


def _predictions(outputs: Mapping[str, Array]) -> str:
    size = _batch_size(outputs)
    if size == 0:
        return "[]"
    columns = {name: _rows(name, array, 2 if len(outputs) == 1 else 3) for name, array in outputs.items()}
    if len(columns) == 1:
        return f"[{', '.join(next(iter(columns.values())))}\n    ]"
    rows = (dict(zip(columns, values, strict=True)) for values in zip(*columns.values(), strict=True))
    lines = ",\n".join(f"        {pretty_object(row, 2)}" for row in rows)
    return f"[\n{lines}\n    ]"


def _batch_size(outputs: Mapping[str, Array]) -> int:
    size = -1
    for name, array in outputs.items():
        if array.ndim == 0:
            raise InvalidArgument(f"Tensor name: {name} has no shape information ")
        if size not in (-1, len(array)):
            raise InvalidArgument(f"Tensor name: {name} has inconsistent batch size: {len(array)} expecting: {size}")
        size = len(array)
    return size


def _rows(name: str, array: Array, level: int) -> list[str]:
    """The text of each row: nested arrays on one line."""
    texts = _texts(name, array, level + array.ndim - 1)
    inner = array.shape[1:]
    size = len(texts) // len(array)
    return [_line(texts[row * size : (row + 1) * size], inner) for row in range(len(array))]


def _line(texts: list[str], shape: tuple[int, ...]) -> str:
    if not shape:
        return texts[0]
    return f"[{', '.join(_split(texts, shape, _line))}]"


def _column(texts: list[str], shape: tuple[int, ...], level: int) -> str:
    """An array over several lines, one element a line."""
    if not shape:
        return texts[0]
    if shape[0] == 0:
        return "[]"
    indent = "    " * (level + 1)
    elements = _split(texts, shape, lambda part, inner: _column(part, inner, level + 1))
    return f"[\n{indent}" + f",\n{indent}".join(elements) + f"\n{'    ' * level}]"


def _split(texts: list[str], shape: tuple[int, ...], form: Any) -> list[str]:  # form: _line or a bound _column
    if len(shape) == 1:
        return texts
    size = len(texts) // shape[0] if shape[0] else 0
    return [form(texts[index * size : (index + 1) * size], shape[1:]) for index in range(shape[0])]


def _texts(name: str, array: Array, level: int) -> list[str]:
    """Every element as JSON, in order."""
    if array.dtype.kind == "O":
        if name.endswith(BYTES_SUFFIX):
            return [pretty_object({"b64": quoted(base64.b64encode(value).decode())}, level) for value in array.ravel()]
        return [quoted(value.decode("utf-8", "surrogateescape")) for value in array.ravel()]
    if array.dtype.kind not in "fiub":
        if array.dtype.kind == "c" or array.dtype.names:
            data_type = type_name(tensors.data_type(array.dtype))
            raise InvalidArgument(f"Failed to write JSON value for tensor type: {data_type}")
        array = array.astype(np.float32)
    return _numbers(array)


def _numbers(array: Array) -> list[str]:
    flat = np.ascontiguousarray(array).ravel()
    if not flat.size:
        return []
    texts = orjson.dumps(flat, option=orjson.OPT_SERIALIZE_NUMPY)[1:-1].decode().split(",")
    if flat.dtype.kind == "f" and not np.isfinite(flat).all():
        for position in np.flatnonzero(~np.isfinite(flat)):
            texts[position] = non_finite(float(flat[position]))
    return texts

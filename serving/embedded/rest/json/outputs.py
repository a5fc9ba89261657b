"""Answers as JSON, laid out as TF Serving lays them out: outputs by rows or by columns, and whole messages."""

from __future__ import annotations

import base64
import functools
import itertools
import json
import math
from collections.abc import Callable, Iterator, Mapping, Sequence

import numpy as np
import orjson
from google.protobuf import json_format
from google.protobuf.message import Message

from serving.apis import tensors
from serving.apis.messages import GetModelMetadataResponse, SignatureDefMap
from serving.apis.signatures import BYTES_SUFFIX
from serving.apis.tensors import Array
from serving.embedded.api import SIGNATURE_DEF
from serving.embedded.inference.predict import type_name
from serving.embedded.rest.json.values import non_finite, pretty_object, quoted
from serving.errors import InvalidArgument

_NUMPY = orjson.OPT_SERIALIZE_NUMPY
_INDENT = "    "
# So many elements are printed at a time, or one row of the first dimensions.
_PIECE = 2**14
# What is before the rows, between two and after them, of one output and of several.
_ROW_FRAMES = (("[", ", ", "\n    ]"), ("[\n", "\n        },\n", "\n        }\n    ]"))
# The longest text of a number by its bytes; of a string, how many times longer than itself it may become.
_TEXT_BYTES = {1: 7, 2: 12, 4: 16, 8: 26}
_STRING_FACTOR = 6
# What is around a row of one output, beside its name.
_ROW_BYTES = 32


def outputs_json(outputs: Mapping[str, Array], *, row_format: bool) -> str:
    """The body of a Predict answer. Raises InvalidArgument for outputs that the format cannot hold."""
    if not outputs:
        raise InvalidArgument("Cannot convert empty tensor map to JSON")
    if row_format:
        return f'{{\n    "predictions": {_predictions(outputs)}\n}}'
    level = 1 if len(outputs) == 1 else 2
    columns = {name: _column(name, array, level) for name, array in outputs.items()}
    text = next(iter(columns.values())) if len(columns) == 1 else pretty_object(columns, 1)
    return f'{{\n    "outputs": {text}\n}}'


def outputs_pieces(outputs: Mapping[str, Array], *, row_format: bool) -> Iterator[str]:
    """What `outputs_json` gives, piece by piece: the texts of all elements take several times more than the body.

    Raises InvalidArgument as it does.
    """
    if row_format:
        yield '{\n    "predictions": '
        yield from _row_pieces(outputs)
    elif len(outputs) == 1:
        ((name, array),) = outputs.items()
        yield '{\n    "outputs": '
        yield from _column_pieces(name, array, 1)
    else:
        head = '{\n    "outputs": {'
        for name, array in outputs.items():
            yield f"{head}\n        {quoted(name)}: "
            yield from _column_pieces(name, array, 2)
            head = ","
        yield "\n    }"
    yield "\n}"


def outputs_bytes(outputs: Mapping[str, Array], *, row_format: bool) -> int:
    """About the most bytes that `outputs_pieces` gives in all."""
    size = 0
    for name, array in outputs.items():
        # Brackets; or as many lines for an element as it may have arrays to itself.
        around = (2 if row_format else len(_INDENT) * (2 + array.ndim)) * array.ndim
        size += array.size * around + (_ROW_BYTES + len(name)) * (len(array) if array.ndim else 1)
        if array.dtype.kind == "O":
            size += _STRING_FACTOR * tensors.array_bytes(array)
        else:
            size += array.size * _TEXT_BYTES.get(array.itemsize, _TEXT_BYTES[8])
    return size


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
    if _batch_size(outputs) == 0:
        return "[]"
    level = 1 if len(outputs) == 1 else 2
    columns = [_rows(name, array, level + array.ndim) for name, array in outputs.items()]
    if len(columns) == 1:
        return f"[{', '.join(columns[0])}\n    ]"
    heads = _row_heads(tuple(outputs))
    rows = ["".join(itertools.chain.from_iterable(zip(heads, row))) for row in zip(*columns)]  # noqa: B905 - checked
    return "[\n" + "\n        },\n".join(rows) + "\n        }\n    ]"


def _row_pieces(outputs: Mapping[str, Array]) -> Iterator[str]:
    count = _batch_size(outputs)
    if count == 0:
        yield "[]"
        return
    is_one = len(outputs) == 1
    separator, between, end = _ROW_FRAMES[not is_one]
    begin, row_size = len(separator), sum(array.size for array in outputs.values()) // count
    step = max(1, _PIECE // max(1, row_size))
    for start in range(0, count, step):
        yield separator
        separator = between
        if row_size > _PIECE:
            heads = [""] if is_one else _row_heads(tuple(outputs))
            for head, (name, array) in zip(heads, outputs.items(), strict=True):
                yield head
                yield from _line_pieces(name, array[start, ...], array.ndim + (1 if is_one else 2))
        else:
            rows = {name: array[start : start + step] for name, array in outputs.items()}
            yield _predictions(rows)[begin : -len(end)]
    yield end


def _line_pieces(name: str, array: Array, level: int) -> Iterator[str]:
    """An array on one line."""
    if not array.ndim or array.size <= _PIECE:
        yield from _rows(name, array[np.newaxis], level)
        return
    step = max(1, _PIECE * len(array) // array.size)
    separator = "["
    for start in range(0, len(array), step):
        yield separator
        separator = ", "
        if step == 1:
            yield from _line_pieces(name, array[start, ...], level)
        else:
            yield ", ".join(_rows(name, array[start : start + step], level))
    yield "]"


def _column_pieces(name: str, array: Array, level: int) -> Iterator[str]:
    """An array over several lines, one element a line."""
    if not array.ndim or array.size <= _PIECE:
        yield _column(name, array, level)
        return
    indent = _INDENT * (level + 1)
    separator = "[\n"
    for start in range(0, len(array), 1 if array.ndim > 1 else _PIECE):
        yield f"{separator}{indent}"
        separator = ",\n"
        if array.ndim > 1:
            yield from _column_pieces(name, array[start, ...], level + 1)
        else:
            yield f",\n{indent}".join(_texts(name, array[start : start + _PIECE], level + 1))
    yield f"\n{_INDENT * level}]"


@functools.lru_cache(256)
def _row_heads(names: tuple[str, ...]) -> list[str]:
    """What comes before each output of a row."""
    heads = [f",\n            {quoted(name)}: " for name in names]
    heads[0] = f"        {{{heads[0][1:]}"
    return heads


def _rows(name: str, array: Array, level: int) -> list[str]:
    """Each row of an array as JSON on one line."""
    if array.ndim > 1 and array.dtype.kind in "fiub":
        rows = [_spaced(orjson.dumps(row, option=_NUMPY)) for row in np.ascontiguousarray(array)]
        # orjson writes null for what is no number.
        if array.dtype.kind != "f" or "null" not in "".join(rows):
            return rows
    texts = _texts(name, array, level)
    return texts if array.ndim == 1 else _folded(texts, array.shape, _line, kept=1)


def _spaced(row: bytes) -> str:
    return row.replace(b",", b", ").decode()


def _batch_size(outputs: Mapping[str, Array]) -> int:
    size = -1
    for name, array in outputs.items():
        if array.ndim == 0:
            raise InvalidArgument(f"Tensor name: {name} has no shape information ")
        if size not in (-1, len(array)):
            raise InvalidArgument(f"Tensor name: {name} has inconsistent batch size: {len(array)} expecting: {size}")
        size = len(array)
    return size


def _column(name: str, array: Array, level: int) -> str:
    """An array over several lines, one element a line."""

    def lines(texts: list[str], depth: int) -> str:
        indent = "    " * (level + depth)
        return "[\n" + ",\n".join(f"{indent}    {text}" for text in texts) + f"\n{indent}]" if texts else "[]"

    return _folded(_texts(name, array, level + array.ndim), array.shape, lines, kept=0)[0]


def _line(texts: list[str], _depth: int) -> str:
    return f"[{', '.join(texts)}]"


def _folded(
    texts: list[str], shape: tuple[int, ...], array_text: Callable[[list[str], int], str], *, kept: int
) -> list[str]:
    """The elements as the texts of arrays, one for each index of the first `kept` dimensions.

    array_text: makes one of its elements; it is told how many dimensions are around it.
    """
    for depth in reversed(range(kept, len(shape))):
        size = shape[depth]
        count = math.prod(shape[:depth])
        texts = [array_text(texts[index * size : (index + 1) * size], depth) for index in range(count)]
    return texts


def _texts(name: str, array: Array, level: int) -> list[str]:
    """Every element as JSON, in order."""
    if array.dtype.kind == "O":
        if name.endswith(BYTES_SUFFIX):
            return [pretty_object({"b64": quoted(base64.b64encode(value).decode())}, level) for value in array.ravel()]
        return [quoted(value.decode("utf-8", "surrogateescape")) for value in array.ravel().tolist()]
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
    texts = orjson.dumps(flat, option=_NUMPY)[1:-1].decode().split(",")
    if flat.dtype.kind == "f" and not np.isfinite(flat).all():
        for position in np.flatnonzero(~np.isfinite(flat)):
            texts[position] = non_finite(float(flat[position]))
    return texts

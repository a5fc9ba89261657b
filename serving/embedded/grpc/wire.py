"""What a serialized message will cost to parse, found out before it is.

protobuf's parser holds the interpreter from a message's first byte to its last, and makes up to 300 bytes of two that
were sent. Its wire format: https://protobuf.dev/programming-guides/encoding/
"""

from __future__ import annotations

import functools
from collections.abc import Generator, Mapping
from typing import NamedTuple

from google.protobuf.descriptor import Descriptor, FieldDescriptor
from google.protobuf.message import DecodeError

from serving.embedded.inference.predict import STRING_COST
from serving.errors import ResourceExhausted

_VARINT, _FIXED64, _BYTES, _GROUP, _GROUP_END, _FIXED32 = range(6)
# How many elements of --max_request_elements something counts as, by the time that it takes: what is within the default
# is parsed in a twentieth of a second.
_MAP_ENTRY_COST = 12
_PACKED_COST = 1 / 6
# The memory that something takes when it is parsed, in bytes: measured, and rounded up.
_FIELD_BYTES = 72
_MAP_ENTRY_BYTES = 300
_VARINT_BYTES = 8
_LONGEST_VARINT = 10
# A tenth of a millisecond's work, and a few milliseconds'.
_FIRST_FIELDS = 100
_STEP_FIELDS = 4096
_LENGTHS = {_FIXED64: 8, _FIXED32: 4, _GROUP: 0, _GROUP_END: 0}
_VARINTS = frozenset((
    FieldDescriptor.TYPE_INT32, FieldDescriptor.TYPE_INT64, FieldDescriptor.TYPE_UINT32, FieldDescriptor.TYPE_UINT64,
    FieldDescriptor.TYPE_SINT32, FieldDescriptor.TYPE_SINT64, FieldDescriptor.TYPE_BOOL, FieldDescriptor.TYPE_ENUM,
))  # fmt: skip


class _Field(NamedTuple):
    """A field whose length means more than bytes. message: its type, or None for packed varints."""

    message: Descriptor | None = None
    is_map: bool = False


class Cost(NamedTuple):
    """What it costs to parse a message: bytes of memory, and elements of --max_request_elements."""

    nbytes: int
    elements: int


def cost(data: bytes | bytearray, descriptor: Descriptor, max_elements: int) -> Generator[None, None, Cost]:
    """What a message will cost, about. Found out in steps, the first of them short.

    Raises ResourceExhausted when it has more elements than --max_request_elements, or DecodeError when it is broken.
    """
    fields = _fields(descriptor)
    position, end, size, elements = 0, len(data), len(data), 0.0
    # Where the messages end that this one is in, and their fields.
    outer: list[tuple[int, Mapping[int, _Field]]] = []
    step = -_FIRST_FIELDS
    while True:
        if not step % _STEP_FIELDS:
            yield
        step += 1
        if elements > max_elements:
            raise ResourceExhausted(
                f"The request has more elements than --max_request_elements={max_elements}: a string counts as "
                f"{STRING_COST}, an entry of a map as {_MAP_ENTRY_COST}, a packed integer as 1/6. Send fewer at a "
                "time, or tensor_content"
            )
        while position == end:
            if not outer:
                return Cost(size, round(elements))
            end, fields = outer.pop()
        tag, position = _varint(data, position)
        length, position = _extent(data, position, tag & 7, end)
        elements += 1
        size += _FIELD_BYTES
        if tag & 7 != _BYTES:
            position += length
            continue
        field = fields.get(tag >> 3)
        if field is None:
            elements += STRING_COST - 1
        elif field.message is None:
            elements += length * _PACKED_COST
            size += length * _VARINT_BYTES
        else:
            outer.append((end, fields))
            end, fields = position + length, _fields(field.message)
            if field.is_map:
                elements += _MAP_ENTRY_COST - 1
                size += _MAP_ENTRY_BYTES
            continue
        position += length


def _varint(data: bytes | bytearray, position: int) -> tuple[int, int]:
    """A number, and where it ends."""
    try:
        byte = data[position]
        if byte < 0x80:  # noqa: PLR2004 - seven bits
            return byte, position + 1
        value = 0
        for shift in range(0, 7 * _LONGEST_VARINT, 7):
            byte = data[position]
            position += 1
            value |= (byte & 0x7F) << shift
            if byte < 0x80:  # noqa: PLR2004 - seven bits
                return value, position
    except IndexError:
        pass
    raise DecodeError("a number is too long")


def _extent(data: bytes | bytearray, position: int, kind: int, end: int) -> tuple[int, int]:
    """The length of a field's contents, and where they begin. end: of the message that the field is in."""
    if kind == _BYTES:
        length, position = _varint(data, position)
    elif kind == _VARINT:
        length, position = 0, _varint(data, position)[1]
    elif kind in _LENGTHS:
        length = _LENGTHS[kind]
    else:
        raise DecodeError(f"a field has the wire type {kind}")
    if position + length > end:
        raise DecodeError("a field is longer than its message")
    return length, position


@functools.cache
def _fields(descriptor: Descriptor) -> Mapping[int, _Field]:
    """The fields of a message whose length means more than bytes, by number."""
    result = {}
    for field in descriptor.fields:
        message = field.message_type
        if message is not None:
            result[field.number] = _Field(message, bool(message.GetOptions().map_entry))
        elif field.type in _VARINTS:
            result[field.number] = _Field()
    return result

"""What a JSON body takes once it is parsed, told from its bytes."""

from __future__ import annotations

from typing import NamedTuple

# Looked at at a time: the interpreter is free between two pieces.
_PIECE_BYTES = 2**20
# What CPython 3.11 takes for a list and its place in the list around it; for a dict, which has places for five members;
# for a number or a short string beside what it has in the body, and its place. `sys.getsizeof` says so.
_LIST_BYTES = 64
_DICT_BYTES = 232
_VALUE_BYTES = 57
# The same in units of four bytes.
_WIDE_VALUE_BYTES = 84


class Size(NamedTuple):
    """elements: values and names, or a few more. parsed_bytes: of memory, more than the body can take."""

    elements: int
    parsed_bytes: int


def json_size(body: bytes | bytearray, most: int) -> Size:
    """The size of a JSON body; of one of more than `most` elements, whatever was counted until they were too many."""
    lists = dicts = others = position = 0
    while position < len(body) and lists + dicts + others <= most:
        piece = body[position : position + _PIECE_BYTES]
        position += _PIECE_BYTES
        lists += piece.count(b"[")
        dicts += piece.count(b"{")
        others += piece.count(b",") + piece.count(b":")
    # Python keeps a string in units of its widest character, up to four bytes.
    is_narrow = body.isascii() and b"\\u" not in body
    width, value_bytes = (1, _VALUE_BYTES) if is_narrow else (4, _WIDE_VALUE_BYTES)
    parsed_bytes = lists * _LIST_BYTES + dicts * _DICT_BYTES + others * value_bytes + width * len(body)
    return Size(1 + lists + dicts + others, parsed_bytes)

"""What a JSON body takes once it is parsed, told before it is."""

from __future__ import annotations

import itertools
import json
import random
import sys

import orjson
import pytest

from serving.embedded.rest.json.size import json_size
from serving.embedded.rest.json.values import Value

BODIES = {
    "empty lists": [[]] * 20_000,
    "empty objects": [{}] * 20_000,
    "objects of one": [{"a": 1}] * 20_000,
    "objects of six": [dict.fromkeys("abcdef", 1.5)] * 5_000,
    "distinct names": {f"k{number}": number for number in range(20_000)},
    "floats": [random.Random(0).random()] * 20_000,
    "small numbers": [7] * 20_000,
    "large numbers": [2**60] * 20_000,
    "short strings": [f"{number:02}" for number in range(100)] * 200,
    "distinct strings": [str(number) for number in range(20_000)],
    "one string": "a" * 200_000,
    "wide strings": ["\U0001f600aaa"] * 20_000,
    "one wide string": "a" * 200_000 + "\U0001f600",
    "nested lists": [[[1, 2], [3, 4]]] * 5_000,
}


@pytest.mark.parametrize("name", BODIES)
@pytest.mark.parametrize("ascii_only", [False, True], ids=["utf-8", "escaped"])
def test_no_body_takes_more_memory_than_is_told(name: str, *, ascii_only: bool) -> None:
    """For each kind of value, at its worst; nor is it told to take ten times what it does."""
    body = json.dumps({"instances": BODIES[name]}, separators=(",", ":"), ensure_ascii=ascii_only).encode()
    told = json_size(body, sys.maxsize).parsed_bytes
    taken = _bytes_of(orjson.loads(body), set())
    assert taken <= told < 10 * taken


def _bytes_of(value: Value, known: set[int]) -> int:
    """What a value takes with all that is in it, each object once."""
    if id(value) in known:
        return 0
    known.add(id(value))
    parts = itertools.chain(*value.items()) if isinstance(value, dict) else value if isinstance(value, list) else ()
    return sys.getsizeof(value) + sum(_bytes_of(part, known) for part in parts)


def test_every_value_counts_and_names_too() -> None:
    """However it is nested; what comes after too many is not looked at."""
    assert 8 <= json_size(b'{"a":[1,2,[]],"b":{}}', sys.maxsize).elements <= 10
    many = b"[" * 3_000_000
    assert 1000 < json_size(many, 1000).elements < 2_000_000


def test_what_a_small_body_is_told_to_take() -> None:
    """For each list, object, and other value, and for its bytes; four times as many where one is wider than ASCII."""
    assert json_size(b'{"a":[1,2,3]}', 100) == (6, 64 + 232 + 3 * 57 + 13)
    assert json_size(b'{"a":"\xc3\xa4"}', 100) == (3, 232 + 84 + 4 * 10)
    assert json_size(b'{"a":"\\u00e4"}', 100) == (3, 232 + 84 + 4 * 14)
    assert json_size(bytearray(b"[[],{}]"), 100) == (5, 2 * 64 + 232 + 57 + 7)
    assert json_size(b"", 100) == (1, 0)


def test_a_large_body_is_looked_at_whole_until_there_are_too_many_values() -> None:
    """In pieces of a mebibyte."""
    body = b"[" * 3 * 2**20
    assert json_size(body, 3 * 2**20).elements == 1 + 3 * 2**20
    assert json_size(body, 2**20).elements == 1 + 2 * 2**20
    assert json_size(body, 2**20 - 1).elements == 1 + 2**20
    assert json_size(body, 0).elements == 1 + 2**20
    assert json_size(b"{" * 3 * 2**20, 2**20).elements == 1 + 2 * 2**20
    assert json_size(b"," * 3 * 2**20, 2**20).elements == 1 + 2 * 2**20

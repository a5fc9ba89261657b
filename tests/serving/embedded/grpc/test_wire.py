"""What a serialized message will cost to parse: exactly, field by field, and what is none."""

from __future__ import annotations

from typing import Any

import pytest
from google.protobuf.message import DecodeError

from serving.apis.messages import ClassificationRequest, PredictRequest
from serving.embedded.grpc.wire import Cost, cost
from serving.errors import ResourceExhausted


def field(number: int, data: bytes) -> bytes:
    """A field with a length, of less than 2 MiB."""
    size = len(data)
    return bytes((number << 3 | 2, size & 0x7F | 0x80, size >> 7 & 0x7F | 0x80, size >> 14)) + data


def measured(data: bytes | bytearray, request_class: Any = PredictRequest, most: int = 1000) -> Cost:
    """What a message will cost."""
    measure = cost(data, request_class.DESCRIPTOR, most)
    while True:
        try:
            next(measure)
        except StopIteration as end:
            result: Cost = end.value
            return result


FIELD, ENTRY, VARINT = 72, 300, 8
NAME = field(1, b"x")
UNKNOWN = b"\xf8\x07"  # the tag of a number in a field that no message has


@pytest.mark.parametrize(
    ("data", "memory", "elements"),
    [
        pytest.param(b"", 0, 0, id="nothing"),
        pytest.param(UNKNOWN + b"\1", FIELD, 1, id="a number"),
        pytest.param(UNKNOWN + b"\xff" * 9 + b"\1", FIELD, 1, id="the longest number"),
        pytest.param(b"\xf9\x07" + bytes(8), FIELD, 1, id="8 bytes"),
        pytest.param(b"\xfd\x07" + bytes(4), FIELD, 1, id="4 bytes"),
        pytest.param(b"\xfb\x07\xfc\x07", 2 * FIELD, 2, id="a group and its end"),
        pytest.param(field(3, b"name") * 3, 3 * FIELD, 12, id="strings"),
        pytest.param(b"\x1a\0", FIELD, 4, id="an empty string"),
        pytest.param(field(2, b""), FIELD + ENTRY, 12, id="an empty map entry"),
        pytest.param(field(2, NAME), 2 * FIELD + ENTRY, 16, id="a map entry with its key"),
        pytest.param(
            field(2, field(2, field(7, bytes(60)))), 3 * FIELD + ENTRY + 60 * VARINT, 12 + 1 + 1 + 10, id="packed"
        ),
        pytest.param(
            field(2, field(2, field(7, bytes(4)))), 3 * FIELD + ENTRY + 4 * VARINT, 12 + 1 + 2, id="two thirds"
        ),
        pytest.param(field(2, field(2, field(5, bytes(60)))), 3 * FIELD + ENTRY, 12 + 1 + 4, id="floats"),
        pytest.param(field(1, field(1, b"m") + field(3, b"s")) + field(3, b"x"), 4 * FIELD, 13, id="one after another"),
    ],
)
def test_each_field_costs_its_bytes_and_what_it_becomes(data: bytes, memory: int, elements: int) -> None:
    """Of a message's bytes, what it takes beside them, and how many elements it counts as."""
    assert measured(data) == Cost(len(data) + memory, elements)
    assert measured(bytearray(data)) == Cost(len(data) + memory, elements)


def test_examples_are_maps_of_features() -> None:
    """As any message in a message."""
    feature = field(1, b"a") + field(2, field(3, field(1, bytes(12))))
    data = field(2, field(1, field(1, field(1, field(1, feature)))))
    assert measured(data, ClassificationRequest) == Cost(len(data) + 9 * FIELD + ENTRY + 12 * VARINT, 25)


def test_as_many_elements_as_may_be_are_measured_and_one_more_says_what_counts() -> None:
    """Whole, as clients see it."""
    names = field(3, b"x") * 5
    assert measured(names, most=20).elements == 20
    with pytest.raises(ResourceExhausted) as raised:
        measured(names, most=19)
    assert str(raised.value) == (
        "The request has more elements than --max_request_elements=19: a string counts as 4, an entry of a map as 12, "
        "a packed integer as 1/6. Send fewer at a time, or tensor_content"
    )


@pytest.mark.parametrize(
    ("data", "reason"),
    [
        (UNKNOWN + b"\xff" * 10 + b"\1", "a number is too long"),
        (UNKNOWN + b"\xff", "a number is too long"),
        (UNKNOWN, "a number is too long"),
        (b"\xf8", "a number is too long"),
        (b"\xfe\x07", "a field has the wire type 6"),
        (b"\xff\x07", "a field has the wire type 7"),
        (b"\xf9\x07" + bytes(7), "a field is longer than its message"),
        (b"\xfd\x07" + bytes(3), "a field is longer than its message"),
        (field(3, b"name")[:-1], "a field is longer than its message"),
        (field(2, b"\x0a\x02x") + b"y", "a field is longer than its message"),
    ],
)
def test_what_is_no_message_says_why(data: bytes, reason: str) -> None:
    """A field may not go beyond the message that it is in, though there are more bytes."""
    with pytest.raises(DecodeError) as raised:
        measured(data)
    assert str(raised.value) == reason

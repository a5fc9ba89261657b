"""JSON values as they are read, and as error messages and answers have them."""

from __future__ import annotations

import math
from typing import Any

import pytest

from serving.embedded.rest.json import values
from serving.errors import InvalidArgument


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (1.5, "1.5"),
        (2.0, "2.0"),
        (-0.0, "-0.0"),
        (123456.0, "123456.0"),
        (1234567.0, "1234567.0"),
        (0.1234567891, "0.123456789"),
        (1e20, "1e+20"),
        (1e-7, "1e-07"),
        (3.4028234663852886e38, "3.40282347e+38"),
        (-3.4028234663852886e38, "-3.40282347e+38"),
        (3.402823466385289e38, "3.402823466385289e+38"),
        (-1.2345678901234567e300, "-1.2345678901234567e+300"),
        (math.nan, "NaN"),
        (math.inf, "Infinity"),
        (-math.inf, "-Infinity"),
        ([math.nan, math.inf, -math.inf, 0.1, 2.0], "[NaN, Infinity, -Infinity, 0.1, 2.0]"),
        (None, "null"),
        (True, "true"),
        (7, "7"),
        ([], "[]"),
        ({}, "{}"),
        ('a\n"b', '"a\\n\\"b"'),
        (
            {"a": {"b": [1, "x", None, False, [2]], "c": {}}, "d": []},
            '{\n    "a": {\n        "b": [1, "x", null, false, [2]],\n        "c": {}\n    },\n    "d": []\n}',
        ),
        ([{"a": 1}, {"b": 2}], '[{\n        "a": 1\n    }, {\n        "b": 2\n    }]'),
    ],
)
def test_a_value_in_an_error_message(value: Any, text: str) -> None:
    """As RapidJSON prints it; a decimal alone as C++ does."""
    assert values.text(value) == text
    error = values.format_error(value, "is wrong")
    assert (type(error), str(error)) == (InvalidArgument, f"JSON Value: {text} is wrong")


def test_of_a_long_value_the_beginning_is_told() -> None:
    """200 characters, with all that is around them; what is as long is told whole."""
    assert values.text("x" * 198) == '"' + "x" * 198 + '"'
    assert values.text("x" * 199) == '"' + "x" * 199 + "..."
    assert values.text("x" * 10_000) == '"' + "x" * 199 + "..."
    assert values.text({"x" * 10_000: 1}) == '{\n    "' + "x" * 193 + "..."
    assert values.text([1] * 66 + [10]) == "[" + "1, " * 66 + "1..."
    assert values.text([1] * 65 + [100]) == "[" + "1, " * 65 + "100]"
    assert values.text([1] * 65 + [1000]) == "[" + "1, " * 65 + "1000..."


@pytest.mark.parametrize(
    ("value", "name"),
    [
        (None, "Null"),
        (True, "True"),
        (False, "False"),
        ("x", "String"),
        (1, "Number"),
        (1.5, "Number"),
        ([], "Array"),
        ({}, "Object"),
    ],
)
def test_names_of_types(value: Any, name: str) -> None:
    """RapidJSON's."""
    assert values.type_name(value) == name


@pytest.mark.parametrize(
    ("body", "text"),
    [
        (b"", "JSON Parse error: The document is empty"),
        (b'{"a": 1,}', "JSON Parse error: trailing comma is not allowed at offset: 7"),
        (b'{"a": NaN,}', "JSON Parse error: Expecting property name enclosed in double quotes at offset: 10"),
        (b'{"a": Infinity', "JSON Parse error: Expecting ',' delimiter at offset: 14"),
        (b'{"a": NaN, "b": ' + b"[" * 100_000, "JSON Parse error: nested too deep"),
        (b"[1]", "JSON Value: [1] Is not object"),
    ],
)
def test_bodies_that_are_no_object(body: bytes, text: str) -> None:
    """With the place of what is wrong."""
    with pytest.raises(InvalidArgument) as raised:
        values.parse_object(body)
    assert str(raised.value) == text


@pytest.mark.parametrize(("token", "value"), [(b"Infinity", math.inf), (b"-Infinity", -math.inf)])
def test_infinities_are_read(token: bytes, value: float) -> None:
    """Beside no NaN, too; as bytes or as what was unpacked."""
    assert values.parse_object(b'{"a": %s}' % token) == {"a": value}
    assert values.parse_object(bytearray(b'{"a": %s}' % token)) == {"a": value}
    assert math.isnan(values.parse_object(b'{"a": NaN}')["a"])


def test_objects_and_strings_as_answers_have_them() -> None:
    """One member a line; half of a surrogate pair as it is."""
    assert values.pretty_object({}, 3) == "{}"
    assert values.pretty_object({"a": "1", '"': "[]"}, 1) == '{\n        "a": 1,\n        "\\"": []\n    }'
    assert values.quoted('a"\\\n\u20ac\udc80') == '"a\\"\\\\\\n\u20ac\udc80"'

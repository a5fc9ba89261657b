"""JSON in and out, beyond the recordings: exact layout, numbers, and the text of every error."""

# ruff: noqa: E501, ISC004 - expected texts stand as they are printed

from __future__ import annotations

import itertools
import math
from typing import Any

import numpy as np
import pytest

from serving.apis import tensors
from serving.apis.messages import (
    DT_BFLOAT16,
    DT_BOOL,
    DT_COMPLEX64,
    DT_DOUBLE,
    DT_FLOAT,
    DT_HALF,
    DT_INT8,
    DT_INT16,
    DT_INT32,
    DT_INT64,
    DT_STRING,
    DT_UINT8,
    DT_UINT16,
    DT_UINT32,
    DT_UINT64,
    ClassificationResult,
    GetModelMetadataResponse,
    RegressionResult,
    SignatureDefMap,
)  # fmt: skip
from serving.apis.tensors import Array
from serving.embedded.rest.json import columns, examples, requests, values
from serving.embedded.rest.json import outputs as json_tensors
from serving.errors import InvalidArgument, Unimplemented

TYPES = {"x": DT_FLOAT}
PAIR_TYPES = {"n": DT_INT64, "s": DT_STRING}


@pytest.mark.parametrize(
    ("body", "shape"),
    [
        (b'{"inputs": []}', (0,)),
        (b'{"inputs": [[], []]}', (2, 0)),
        (b'{"inputs": {"x": [[[]]]}}', (1, 1, 0)),
        (b'{"instances": [[], [], []]}', (3, 0)),
        (b'{"instances": [{"x": []}]}', (1, 0)),
    ],
)
def test_empty_lists_have_a_shape(body: bytes, shape: tuple[int, ...]) -> None:
    """However deep they are, whichever way they are read."""
    for data_type, no_booleans in itertools.product((DT_FLOAT, DT_UINT8), (False, True)):
        document = values.parse_object(body)
        inputs = requests.predict_inputs(document, {"x": data_type}, "", no_booleans=no_booleans)
        assert inputs["x"].shape == shape


@pytest.mark.parametrize("no_booleans", [False, True])
@pytest.mark.parametrize("data_type", [DT_FLOAT, DT_UINT8, DT_STRING])
def test_lists_as_deep_as_they_may_be(data_type: int, *, no_booleans: bool) -> None:
    """numpy's 64 levels."""
    leaf = '"x"' if data_type == DT_STRING else "1"

    def read(levels: int) -> Array:
        document = values.parse_object(b'{"inputs": %b}' % ("[" * levels + leaf + "]" * levels).encode())
        return requests.predict_inputs(document, {"x": data_type}, "", no_booleans=no_booleans)["x"]

    assert read(64).shape == (1,) * 64
    with pytest.raises(InvalidArgument, match="nested deeper than 64 levels, the largest rank"):
        read(65)


@pytest.mark.parametrize("no_booleans", [False, True])
@pytest.mark.parametrize("data_type", [DT_FLOAT, DT_UINT8])
@pytest.mark.parametrize("rows", ["[[1], 2]", "[1, [2]]", "[[1, 2], [3]]", "[[[1], [2]], [[3], 4]]", "[[1], {}]"])
def test_uneven_lists_are_refused(rows: str, data_type: int, *, no_booleans: bool) -> None:
    """Whichever way they are read."""
    document = values.parse_object(f'{{"instances": {rows}}}'.encode())
    with pytest.raises(InvalidArgument):
        requests.predict_inputs(document, {"x": data_type}, "", no_booleans=no_booleans)


@pytest.mark.parametrize(
    ("outputs", "row_format", "text"),
    [
        ({"y": np.array([3.5, 4.0], np.float32)}, True, '{\n    "predictions": [3.5, 4.0\n    ]\n}'),
        ({"y": np.array([[1, 3], [2, 4]])}, True, '{\n    "predictions": [[1, 3], [2, 4]\n    ]\n}'),
        ({"y": np.zeros((0, 2))}, True, '{\n    "predictions": []\n}'),
        ({"y": np.zeros((2, 0))}, True, '{\n    "predictions": [[], []\n    ]\n}'),
        (
            {"a": np.array([1]), "b": np.array([[True, False]])},
            True,
            '{\n    "predictions": [\n        {\n            "a": 1,\n            "b": [true, false]\n        }\n    ]\n}',
        ),
        ({"y": np.array([1.0, 2.0])}, False, '{\n    "outputs": [\n        1.0,\n        2.0\n    ]\n}'),
        ({"y": np.array(7.0)}, False, '{\n    "outputs": 7.0\n}'),
        (
            {"a": np.array([[1]]), "b": np.array([b"x"], object)},
            False,
            '{\n    "outputs": {\n        "a": [\n            [\n                1\n            ]\n        ],\n'
            '        "b": [\n            "x"\n        ]\n    }\n}',
        ),
        (
            {"y_bytes": np.array([b"hi"], object)},
            True,
            '{\n    "predictions": [{\n            "b64": "aGk="\n        }\n    ]\n}',
        ),
    ],
)
def test_layout(outputs: dict[str, Any], row_format: bool, text: str) -> None:
    """RapidJSON's pretty layout, arrays of a row on one line."""
    assert json_tensors.outputs_json(outputs, row_format=row_format) == text


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (np.float32(0.1), "0.1"),
        (np.float32(1 / 3), "0.33333334"),
        (np.float32(16777216), "16777216.0"),
        (np.float64(1 / 3), "0.3333333333333333"),
        (np.float32(np.nan), "NaN"),
        (np.float32(-np.inf), "-Infinity"),
        (np.float16(0.5), "0.5"),
        (np.uint64(2**64 - 1), "18446744073709551615"),
        (np.bool_(True), "true"),
    ],
)
def test_numbers(value: Any, text: str) -> None:
    """The shortest text that gives the number back, `.0` on whole ones, bare tokens for the others."""
    assert json_tensors.outputs_json({"y": np.array(value)}, row_format=False) == f'{{\n    "outputs": {text}\n}}'


def test_texts_are_escaped_as_rapidjson_does() -> None:
    """Quotes, backslashes and control characters; everything else as it is."""
    text = '"\\\b\f\n\r\t\x01/ä€'.encode()

    body = json_tensors.outputs_json({"y": np.array(text, object)}, row_format=False)

    assert values.parse_object(body.encode())["outputs"] == text.decode()
    assert "/ä€" in body


@pytest.mark.parametrize("row_format", [True, False])
@pytest.mark.parametrize(
    "array",
    [
        np.arange(12),
        np.arange(24.0, dtype=np.float32).reshape(2, 3, 4),
        np.array([[1.5, np.nan], [np.inf, 2.5], [0.0, 1.0]], np.float32),
        np.array([[b"a", b"b"], [b"c", b"d"]], object),
        np.zeros((2, 0), np.int64),
        np.zeros((1, 7), np.uint8),
    ],
)
def test_pieces_make_the_same_body(array: Array, row_format: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    """However many elements are printed at a time, alone and beside another output."""
    for outputs in ({"y_bytes": array}, {"y_bytes": array, "z": array}):
        body = json_tensors.outputs_json(outputs, row_format=row_format)
        assert len(body) <= json_tensors.outputs_bytes(outputs, row_format=row_format) + 100
        for size in (1, 2, 3, 5, 2**14):
            monkeypatch.setattr(json_tensors, "_PIECE", size)
            assert "".join(json_tensors.outputs_pieces(outputs, row_format=row_format)) == body


def test_outputs_that_rows_cannot_hold() -> None:
    """No first dimension, or different ones."""
    with pytest.raises(InvalidArgument, match="Tensor name: y has no shape information "):
        json_tensors.outputs_json({"y": np.array(1)}, row_format=True)
    with pytest.raises(InvalidArgument, match="Tensor name: b has inconsistent batch size: 2 expecting: 1"):
        json_tensors.outputs_json({"a": np.zeros(1), "b": np.zeros(2)}, row_format=True)


@pytest.mark.parametrize(
    ("body", "message"),
    [
        (b"", "JSON Parse error: The document is empty"),
        (b"null", "JSON Value: null Is not object"),
        (b"1.5", "JSON Value: 1.5 Is not object"),
        (b'{"instances": [1], "inputs": [1]}', "only one of 'inputs' or 'instances' keys to exist "),
        (b'{"instances": [true]}', "JSON Value: true Type: True is not of expected type: float"),
        (b'{"instances": [1, [2]]}', "Failed to process element: 1 of 'instances' list. Error: INVALID_ARGUMENT: "
         "Expecting shape [] but got: [1]"),
        (b'{"instances": [[[1], [2]], [[1, 2]]]}', "Expecting shape [2,1] but got: [1,2]"),
        (b'{"instances": [[1, [2]]]}', "Encountered list at unexpected level: 1 expected < 1"),
        (b'{"instances": [[[1], 2]]}', "JSON Value: 2 found at incorrect level: 2 in the JSON DOM. Expected at level: 2"),
        (b'{"instances": [[[1, 2], [3]]]}', "Encountered list at unexpected size: 1 at level: 1 expected size: 2"),
        (b'{"instances": [1, {"x": 2}]}', "Expecting value/list but got object at item 1 of input list"),
        (b'{"instances": [{"x": 1}, {}]}', "list. JSON object: {} keys must be equal to: x"),
        (b'{"inputs": {"y": 1}}', "Missing named input: x in 'inputs' object."),
        (b'{"inputs": {"b64": "aGk="}}', "is not of expected type: float"),
        (b'{"inputs": [0, {"a": [1]}]}', 'JSON Value: {\n    "a": [1]\n} Type: Object is not of expected type: float'),
    ],
)  # fmt: skip
def test_refusals(body: bytes, message: str) -> None:
    """TF Serving's texts."""
    with pytest.raises(InvalidArgument) as raised:
        requests.predict_inputs(values.parse_object(body), TYPES, "")
    assert message in str(raised.value)


@pytest.mark.parametrize("no_booleans", [True, False])
def test_both_conversions_give_the_same(no_booleans: bool) -> None:
    """By numpy at once, and element by element."""
    bodies = [b'{"instances": [[1, 2.5], [3, 4]]}', b'{"instances": [{"x": 1}, {"x": 2}]}', b'{"inputs": [[1]]}']

    arrays = [
        requests.predict_inputs(values.parse_object(body), TYPES, "", no_booleans=no_booleans)["x"] for body in bodies
    ]

    assert [array.dtype for array in arrays] == [np.float32] * 3
    assert [array.tolist() for array in arrays] == [[[1, 2.5], [3, 4]], [1, 2], [[1]]]


def test_named_rows_of_several_types() -> None:
    """Texts and bytes, integers to their limits."""
    body = b'{"instances": [{"n": 9223372036854775807, "s": "\xc3\xa4"}, {"n": -1, "s": {"b64": "AP8"}}]}'

    arrays = requests.predict_inputs(values.parse_object(body), PAIR_TYPES, "", no_booleans=True)

    assert arrays["n"].tolist() == [2**63 - 1, -1]
    assert arrays["s"].tolist() == ["ä".encode(), b"\0\xff"]


# The least and the greatest JSON integer that an input takes; small types wrap, as in TF Serving.
INTEGERS = [
    (DT_INT32, -(2**31), 2**31 - 1, "int32"),
    (DT_INT64, -(2**63), 2**63 - 1, "int64"),
    (DT_INT8, -(2**31), 2**31 - 1, "int8"),
    (DT_INT16, -(2**31), 2**31 - 1, "int16"),
    (DT_UINT8, -(2**31), 2**31 - 1, "uint8"),
    (DT_UINT16, -(2**31), 2**31 - 1, "uint16"),
    (DT_UINT32, 0, 2**32 - 1, "uint32"),
    (DT_UINT64, 0, 2**64 - 1, "uint64"),
]


@pytest.mark.parametrize("no_booleans", [True, False])
@pytest.mark.parametrize("form", ['{"instances": %s}', '{"inputs": %s}', '{"inputs": {"x": %s}}'])
@pytest.mark.parametrize(("data_type", "least", "greatest", "name"), INTEGERS, ids=[each[-1] for each in INTEGERS])
def test_integers_to_their_limits(
    data_type: int, least: int, greatest: int, name: str, form: str, no_booleans: bool
) -> None:
    """The last that fits is taken and the next is refused, whichever conversion reads it, alone or beside others."""

    def read(number: int, beside: str) -> Array:
        body = (form % f"[{number}, {beside}]").encode()
        return requests.predict_inputs(values.parse_object(body), {"x": data_type}, "", no_booleans=no_booleans)["x"]

    bits = 8 * tensors.numpy_dtype(data_type).itemsize
    for number in (least, greatest):
        array = read(number, "1")
        assert array.dtype.name == name
        assert (int(array[0]) - number) % 2**bits == 0
        assert int(array[1]) == 1
    for number in (least - 1, greatest + 1, 10**19 * (-1 if least < 0 else 1), -3_000_000_000):
        if least <= number <= greatest:
            continue
        with pytest.raises(InvalidArgument, match=f"is not of expected type: {name}$"):
            read(number, "1")


def test_3_000_000_000_is_no_int32() -> None:
    """It would be -1294967296."""
    for body in (b'{"instances": [3000000000]}', b'{"inputs": 3000000000}', b'{"instances": [{"x": 3000000000}]}'):
        for no_booleans in (True, False):
            with pytest.raises(InvalidArgument, match="3000000000 Type: Number is not of expected type: int32"):
                requests.predict_inputs(values.parse_object(body), {"x": DT_INT32}, "", no_booleans=no_booleans)


@pytest.mark.parametrize(
    ("body", "message"),
    [
        (b'{"examples": 1}', "Expecting 'examples' value to be an list/array"),
        (b'{"examples": [1]}', "Example must be JSON object but got JSON Number"),
        (b'{"examples": [{"a": null}]}', "Feature: a has element with unexpected JSON type: Null"),
        (b'{"examples": [{"a": [[1]]}]}', "Feature: a has element with unexpected JSON type: Array"),
        (b'{"examples": [{"a": {"x": 1}}]}', "Feature: a has element with unexpected JSON type: Object"),
        (b'{"examples": [{"a": [1, 2.5]}]}', "Unexpected element type in feature: a expecting type: int64"),
        (b'{"examples": [{"a": 18446744073709551615}]}', "Feature: a has uint64 element. Only int64 is supported."),
    ],
)
def test_examples_that_are_none(body: bytes, message: str) -> None:
    """TF Serving's texts."""
    with pytest.raises(InvalidArgument) as raised:
        examples.examples_input(values.parse_object(body))
    assert message in str(raised.value)


def test_features_by_type() -> None:
    """Whole numbers and booleans are int64, decimals float, texts and base64 bytes."""
    body = b'{"examples": [{"i": [1, true], "f": 1.0, "b": ["x", {"b64": "AA=="}], "none": []}]}'

    feature = examples.examples_input(values.parse_object(body)).example_list.examples[0].features.feature

    assert list(feature["i"].int64_list.value) == [1, 1]
    assert list(feature["f"].float_list.value) == [1.0]
    assert list(feature["b"].bytes_list.value) == [b"x", b"\0"]
    assert feature["none"].WhichOneof("kind") is None


@pytest.mark.parametrize("beside", ["0", "NaN"])
@pytest.mark.parametrize(
    ("number", "value"),
    [
        ("-9223372036854775808", -(2**63)),
        ("-9223372036854775809", -9223372036854775809.0),
        ("18446744073709551615", 2**64 - 1),
        ("18446744073709551616", 18446744073709551616.0),
    ],
)
def test_integers_that_64_bits_cannot_hold(number: str, value: float, beside: str) -> None:
    """They are doubles, whichever parser the document needs."""
    element = values.parse_object(f'{{"a": [{number}, {beside}]}}'.encode())["a"][0]

    assert (element, type(element)) == (value, type(value))


@pytest.mark.parametrize("beside", ["0", "NaN"])
@pytest.mark.parametrize("number", ["1e999", "-1" + "0" * 400])
def test_numbers_beyond_double(number: str, beside: str) -> None:
    """Refused, whichever parser the document needs."""
    with pytest.raises(InvalidArgument, match="number is infinity when parsed as double"):
        values.parse_object(f'{{"a": [{number}, {beside}]}}'.encode())


def read(body: bytes, types: dict[str, int], *, no_booleans: bool = False) -> dict[str, Array]:
    """The inputs in a body."""
    return requests.predict_inputs(values.parse_object(body), types, "", no_booleans=no_booleans)


@pytest.mark.parametrize(
    ("body", "types", "message"),
    [
        (b"{}", TYPES, "Missing 'inputs' or 'instances' key"),
        (b'{"instances": 1}', TYPES, 'JSON Value: {\n    "instances": 1\n} Expecting \'instances\' to be an list/array'),
        (b'{"instances": []}', TYPES, "JSON Value: {\n    \"instances\": []\n} No values in 'instances' array"),
        (b'{"instances": [1]}', {}, "Failed to get input map for signature: DEFAULT"),
        (
            b'{"instances": [1]}', PAIR_TYPES,
            "instances is a plain list, but expecting list of objects as multiple input tensors required as per "
            "tensorinfo_map",
        ),
        (
            b'{"inputs": [1]}', PAIR_TYPES,
            "inputs is a plain value/list, but expecting an object as multiple input tensors required as per "
            "tensorinfo_map",
        ),
        (
            b'{"inputs": {"b64": "AA=="}}', PAIR_TYPES,
            "inputs is a plain value/list, but expecting an object as multiple input tensors required as per "
            "tensorinfo_map",
        ),
        (b'{"inputs": {"n": 1}}', PAIR_TYPES, "Missing named input: s in 'inputs' object."),
        (b'{"instances": [{"x": 1}, 2]}', TYPES, "Expecting object but got list at item 1 of input list"),
        (
            b'{"instances": [{"x": 1}, {"y": 1}]}', TYPES,
            "Failed to process element: 1 key: y of 'instances' list. Error: INVALID_ARGUMENT: JSON object: does not "
            "have named input: y",
        ),
        (
            b'{"instances": [{"n": 1, "s": "a"}, {"n": 1}]}', PAIR_TYPES,
            "Failed to process element: 1 of 'instances' list. JSON object: {\n    \"n\": 1\n} keys must be equal to: "
            "n,s",
        ),
        (
            b'{"instances": [{"x": 1}, {"x": [1, 2]}]}', TYPES,
            "Failed to process element: 1 key: x of 'instances' list. Error: INVALID_ARGUMENT: Expecting tensor size: "
            "1 but got: 2",
        ),
        (
            b'{"instances": [1]}', {"x": DT_COMPLEX64},
            "Failed to process element: 0 of 'instances' list. Error: UNIMPLEMENTED: Conversion of JSON Value to type: "
            "complex64",
        ),
        (b'{"inputs": [[1, 2], [3]]}', TYPES, "Encountered list at unexpected size: 1 at level: 1 expected size: 2"),
        (b'{"inputs": [1, [2]]}', TYPES, "Encountered list at unexpected level: 1 expected < 1"),
        (
            b'{"inputs": [[1], 2]}', TYPES,
            "JSON Value: 2 found at incorrect level: 2 in the JSON DOM. Expected at level: 2",
        ),
        (b'{"inputs": 1.5}', {"x": DT_INT32}, "JSON Value: 1.5 Type: Number is not of expected type: int32"),
        (b'{"inputs": "a"}', TYPES, 'JSON Value: "a" Type: String is not of expected type: float'),
        (b'{"inputs": 1}', {"x": DT_STRING}, "JSON Value: 1 Type: Number is not of expected type: string"),
        (b'{"inputs": 1}', {"x": DT_BOOL}, "JSON Value: 1 Type: Number is not of expected type: bool"),
    ],
)  # fmt: skip
@pytest.mark.parametrize("no_booleans", [True, False])
def test_refusals_of_requests_whole(body: bytes, types: dict[str, int], message: str, no_booleans: bool) -> None:
    """TF Serving's texts, whichever conversion reads them."""
    with pytest.raises((InvalidArgument, Unimplemented)) as raised:
        read(body, types, no_booleans=no_booleans)
    assert str(raised.value) == message


def test_the_signature_that_a_body_names() -> None:
    """Its name, or none; the error names the signature that was asked for."""
    assert requests.signature_name({}) == ""
    assert requests.signature_name({"signature_name": "s"}) == "s"
    with pytest.raises(InvalidArgument) as raised:
        requests.signature_name({"signature_name": 1})
    assert str(raised.value) == (
        "JSON Value: {\n    \"signature_name\": 1\n} not formatted correctly. 'signature_name' key must be a string "
        "value."
    )
    with pytest.raises(InvalidArgument, match="Failed to get input map for signature: s"):
        requests.predict_inputs({"inputs": 1}, {}, "s")


@pytest.mark.parametrize("no_booleans", [True, False])
@pytest.mark.parametrize(
    ("data_type", "body", "dtype", "expected"),
    [
        (DT_FLOAT, b"[1e300, -1e300, 0.1]", "float32", [np.inf, -np.inf, float(np.float32(0.1))]),
        (DT_FLOAT, b"[[1, 2.5], [18446744073709551615, 0]]", "float32", [[1, 2.5], [2.0**64, 0]]),
        (DT_HALF, b"[1e6, 0.5]", "float16", [np.inf, 0.5]),
        (DT_BFLOAT16, b"[1, 0.5]", "bfloat16", [1, 0.5]),
        (DT_DOUBLE, b"[0.1, 1]", "float64", [0.1, 1]),
        (DT_INT8, b"[300, -1]", "int8", [44, -1]),
        (DT_UINT8, b"[[0, 255], [1, 2]]", "uint8", [[0, 255], [1, 2]]),
        (DT_UINT8, b"[256, -1]", "uint8", [0, 255]),
        (DT_UINT8, b"[[[1, 2, 3]], [[4, 5, 6]]]", "uint8", [[[1, 2, 3]], [[4, 5, 6]]]),
        (DT_UINT8, b"7", "uint8", 7),
        (DT_UINT64, b"[9223372036854775808, 0]", "uint64", [2**63, 0]),
        (DT_STRING, b'["a", {"b64": "AP8="}]', "object", [b"a", b"\0\xff"]),
    ],
)
def test_inputs_of_every_type(data_type: int, body: bytes, dtype: str, expected: Any, no_booleans: bool) -> None:
    """Whichever conversion reads them; a number that is too large for its type is infinite, without a warning."""
    for form in (b'{"inputs": %s}', b'{"inputs": {"x": %s}}', b'{"instances": [%s]}', b'{"instances": [{"x": %s}]}'):
        array = read(form % body, {"x": data_type}, no_booleans=no_booleans)["x"]
        assert array.dtype.name == dtype
        rows = [expected] if b"instances" in form else expected
        np.testing.assert_array_equal(np.array(array.tolist(), object), np.array(rows, object))
        assert array.shape == np.array(rows, object).shape


def test_booleans_are_read_as_such_alone() -> None:
    """They are no numbers, nor numbers booleans."""
    assert read(b'{"inputs": [true, false]}', {"x": DT_BOOL})["x"].tolist() == [True, False]
    for data_type in (DT_FLOAT, DT_UINT8, DT_INT32):
        with pytest.raises(InvalidArgument, match="JSON Value: true Type: True is not of expected type"):
            read(b'{"inputs": [1, true]}', {"x": data_type})


@pytest.mark.parametrize(
    ("text", "data"),
    [
        ("", b""),
        ("AA==", b"\0"),
        ("AA", b"\0"),
        ("A\nA=\t=", b"\0"),
        ("aGk=", b"hi"),
        ("aGkh", b"hi!"),
        ("+/+/", b"\xfb\xff\xbf"),
    ],
)
def test_base64_with_and_without_its_padding(text: str, data: bytes) -> None:
    """White space in it is passed over."""
    assert columns.decoded({"b64": text}) == data


@pytest.mark.parametrize(
    ("value", "message"),
    [
        ({"b64": "A"}, "Unable to base64 decode"),
        ({"b64": "A-__"}, "Unable to base64 decode"),
        ({"b64": "\u00e4"}, "Unable to base64 decode"),
        ({"b64": 1}, 'JSON Value: {\n    "b64": 1\n} not formatted correctly for base64 data'),
        (
            {"b64": "", "a": 1},
            'JSON Value: {\n    "b64": "",\n    "a": 1\n} not formatted correctly for base64 data',
        ),
        ({}, "JSON Value: {} not formatted correctly for base64 data"),
    ],
)
def test_what_is_no_base64(value: dict[str, Any], message: str) -> None:
    """TF Serving's texts."""
    with pytest.raises(InvalidArgument) as raised:
        columns.decoded(value)
    assert str(raised.value) == message


@pytest.mark.parametrize(
    ("body", "message"),
    [
        (
            b"{}",
            "JSON Value: {} When method is classify, key 'examples' is expected and was not found",
        ),
        (b'{"examples": []}', "JSON Value: {\n    \"examples\": []\n} 'examples' value is an empty array"),
        (b'{"context": 1, "examples": [{}]}', "Example must be JSON object but got JSON Number"),
        (b'{"examples": [{"a": ["x", 1]}]}', "Unexpected element type in feature: a expecting type: bytes"),
        (b'{"examples": [{"a": 9223372036854775808}]}', "Feature: a has uint64 element. Only int64 is supported."),
    ],
)
def test_refusals_of_examples_whole(body: bytes, message: str) -> None:
    """TF Serving's texts."""
    with pytest.raises(InvalidArgument) as raised:
        examples.examples_input(values.parse_object(body))
    assert str(raised.value) == message


def test_examples_with_and_without_a_context() -> None:
    """The largest whole number is taken."""
    body = b'{"examples": [{"a": 9223372036854775807}, {"a": 2}]%s}'
    plain = examples.examples_input(values.parse_object(body % b""))
    assert plain.WhichOneof("kind") == "example_list"
    assert [each.features.feature["a"].int64_list.value[0] for each in plain.example_list.examples] == [2**63 - 1, 2]
    both = examples.examples_input(values.parse_object(body % b', "context": {"c": 0.5}'))
    assert both.WhichOneof("kind") == "example_list_with_context"
    assert both.example_list_with_context.context.features.feature["c"].float_list.value[0] == 0.5
    assert list(both.example_list_with_context.examples) == list(plain.example_list.examples)


def test_results_of_examples() -> None:
    """Whole, as TF Serving lays them out; none is an error."""
    result = ClassificationResult()
    for labels in (("a", "b\n"), ()):
        row = result.classifications.add()
        for number, label in enumerate(labels):
            row.classes.add(label=label, score=0.1 + number)
    assert examples.classification_json(result) == '{\n    "results": [[["a", 0.1], ["b\\n", 1.1]], []\n    ]\n}'
    regression = RegressionResult()
    for value in (0.1, float("nan")):
        regression.regressions.add(value=value)
    assert examples.regression_json(regression) == '{\n    "results": [0.1, NaN]\n}'
    with pytest.raises(InvalidArgument, match="Cannot convert empty ClassificationResults to JSON"):
        examples.classification_json(ClassificationResult())
    with pytest.raises(InvalidArgument, match="Cannot convert empty RegressionResults to JSON"):
        examples.regression_json(RegressionResult())


@pytest.mark.parametrize(
    ("outputs", "by_rows", "by_columns"),
    [
        ({"y": np.zeros((3, 4), np.uint8)}, 3 * 33 + 12 * (4 + 7), 3 * 33 + 12 * (2 * 16 + 7)),
        ({"yy": np.zeros(3, np.float16)}, 3 * 34 + 3 * (2 + 12), 3 * 34 + 3 * (12 + 12)),
        ({"y": np.zeros(3, np.int32)}, 3 * 33 + 3 * (2 + 16), 3 * 33 + 3 * (12 + 16)),
        ({"y": np.zeros(3, np.float64)}, 3 * 33 + 3 * (2 + 26), 3 * 33 + 3 * (12 + 26)),
        ({"y": np.zeros(3, np.complex128)}, 3 * 33 + 3 * (2 + 26), 3 * 33 + 3 * (12 + 26)),
        ({"y": np.zeros((), np.float64)}, 33 + 26, 33 + 26),
        ({"y": np.array([b"ab", b""], object)}, 2 * 33 + 2 * 2 + 6 * (2 * 64 + 2), 2 * 33 + 2 * 12 + 6 * (2 * 64 + 2)),
        (
            {"y": np.zeros(1, np.uint8), "z": np.zeros(1, np.uint8)},
            2 * (33 + 2 + 7),
            2 * (33 + 12 + 7),
        ),
    ],
)
def test_about_how_large_an_answer_becomes(outputs: dict[str, Array], by_rows: int, by_columns: int) -> None:
    """By its elements' longest texts, and what is around them."""
    assert json_tensors.outputs_bytes(outputs, row_format=True) == by_rows
    assert json_tensors.outputs_bytes(outputs, row_format=False) == by_columns


@pytest.mark.parametrize("row_format", [True, False])
@pytest.mark.parametrize("shape", [(12,), (5, 2), (2, 3, 4), (1, 7), (3, 1, 5)])
def test_a_large_answer_is_made_of_pieces_that_are_as_small_as_may_be(
    shape: tuple[int, ...], row_format: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    """So many elements at a time at most, and no more pieces than that takes."""
    for outputs in ({"y": np.ones(shape, int)}, {"y": np.ones(shape, int), "z": np.ones(shape, int)}):
        for size in (1, 2, 3, 4, 5, 100):
            monkeypatch.setattr(json_tensors, "_PIECE", size)
            counts = [piece.count("1") for piece in json_tensors.outputs_pieces(outputs, row_format=row_format)]
            assert sum(counts) == len(outputs) * math.prod(shape)
            # A row of several outputs is one piece where each of them is small enough.
            assert max(counts) <= max(size, len(outputs) if row_format else 1)
    monkeypatch.setattr(json_tensors, "_PIECE", 4)
    pieces = json_tensors.outputs_pieces({"y": np.ones((1, 6, 2), int)}, row_format=True)
    assert [piece.count("1") for piece in pieces if "1" in piece] == [4, 4, 4]


def test_what_json_cannot_hold() -> None:
    """The type is named; of a name without array form, too."""
    with pytest.raises(InvalidArgument) as raised:
        json_tensors.outputs_json({"y": np.zeros(1, np.complex64)}, row_format=True)
    assert str(raised.value) == "Failed to write JSON value for tensor type: complex64"
    with pytest.raises(InvalidArgument) as raised:
        json_tensors.outputs_json({}, row_format=True)
    assert str(raised.value) == "Cannot convert empty tensor map to JSON"


def test_small_types_are_printed_as_the_numbers_that_they_are() -> None:
    """numpy does not know them itself."""
    dtype = tensors.numpy_dtype(DT_BFLOAT16)
    body = json_tensors.outputs_json({"y": np.array([[0.5, 3.0]]).astype(dtype)}, row_format=True)
    assert body == '{\n    "predictions": [[0.5, 3.0]\n    ]\n}'


def test_bytes_of_a_name_are_base64_at_every_depth() -> None:
    """Laid out by how deep they are, by rows and by columns, alone and beside others."""
    strings = np.array([[b"hi", b"\xff"]], object)
    deep = " " * 12
    item = '{\n%s    "b64": "%s"\n%s}'
    rows = f"[{item % (deep, 'aGk=', deep)}, {item % (deep, '/w==', deep)}]"
    assert json_tensors.outputs_json({"y_bytes": strings}, row_format=True) == (
        f'{{\n    "predictions": [{rows}\n    ]\n}}'
    )
    assert (
        json_tensors.outputs_json({"y": strings[:, :1]}, row_format=True) == '{\n    "predictions": [["hi"]\n    ]\n}'
    )


def test_a_metadata_answer_has_its_two_messages() -> None:
    """Fields under their own names, those with their defaults too."""
    response = GetModelMetadataResponse()
    response.model_spec.name = "m"
    response.model_spec.version.value = 3
    signatures = SignatureDefMap()
    signatures.signature_def["s"].method_name = "predict"
    response.metadata["signature_def"].Pack(signatures)
    assert json_tensors.metadata_json(response) == (
        '{\n"model_spec":{\n "name": "m",\n "version": "3",\n "signature_name": ""\n}\n,\n"metadata": '
        '{"signature_def": {\n "signature_def": {\n  "s": {\n   "method_name": "predict",\n   "inputs": {},\n'
        '   "outputs": {},\n   "defaults": {}\n  }\n }\n}\n}\n}\n'
    )

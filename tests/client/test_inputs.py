"""Inputs checked against the metadata, before anything is sent: what is taken, and the sentence for what is not."""

from __future__ import annotations

import subprocess
import sys
from typing import Any

import ml_dtypes
import numpy as np
import pytest

from client.connection import Connection
from client.errors import ClientUsageError
from client.inputs import call, declared, fits, input_array
from client.limits import PROTO_BYTES
from client.transports.fake import FakeTransport
from client.types import Metadata, ModelSpec, Signature, TensorInfo

ROWS = TensorInfo("DT_FLOAT", (-1, 4))
_NAN = float("nan")


def refusal(value: Any, info: TensorInfo, name: str = "x") -> str:
    """The error's text."""
    with pytest.raises(ClientUsageError) as excinfo:
        input_array(name, value, info)
    return str(excinfo.value)


@pytest.mark.parametrize(
    ("value", "info", "text"),
    [
        (np.zeros(4), ROWS, "`x` takes float32 [N, 4], got float64 [4]: x[None].astype('float32')"),
        (np.zeros((2, 4)), ROWS, "`x` takes float32 [N, 4], got float64 [2, 4]: x.astype('float32')"),
        (np.zeros(4, "f"), ROWS, "`x` takes float32 [N, 4], got float32 [4]: x[None]"),
        (np.zeros(4, "f"), TensorInfo("DT_FLOAT", (1, 4)), "got float32 [4]: x[None]"),
        (np.zeros(8, "f"), ROWS, "`x` takes float32 [N, 4], got float32 [8]: x.reshape(-1, 4)"),
        (np.zeros((2, 5), "f"), ROWS, "`x` takes float32 [N, 4], got float32 [2, 5]"),
        (np.zeros((1, 2, 4), "f"), ROWS, "`x` takes float32 [N, 4], got float32 [1, 2, 4]: x[0]"),
        (np.zeros((2, 4, 1), "f"), ROWS, "`x` takes float32 [N, 4], got float32 [2, 4, 1]: x[..., 0]"),
        (np.zeros((2, 28, 28), "f"), TensorInfo("DT_FLOAT", (-1, 28, 28, 1)), "[2, 28, 28]: x[..., None]"),
        (np.zeros((2, 28, 28), "f"), TensorInfo("DT_FLOAT", (-1, 784)), "[2, 28, 28]: x.reshape(-1, 784)"),
        (np.zeros(6, "f"), TensorInfo("DT_FLOAT", (2, 3)), "got float32 [6]: x.reshape(2, 3)"),
        (np.zeros(12, "f"), TensorInfo("DT_FLOAT", (2, 3)), "`x` takes float32 [2, 3], got float32 [12]"),
        (np.zeros(4, "f"), TensorInfo("DT_FLOAT", (-1, -1, 4)), "`x` takes float32 [N, N, 4], got float32 [4]"),
        ([1, 2, 3, 4], TensorInfo("DT_FLOAT", (1, 4)), "got a list [4]: [x]"),
        (["a" * 200], TensorInfo("DT_FLOAT", (-1,)), "got str '" + "a" * 99),
        (np.zeros(6, "f"), TensorInfo("DT_FLOAT", (-1, -1)), "got float32 [6]: x[None]"),
        (np.zeros((0, 4)), ROWS, "got float64 [0, 4]: x.astype('float32')"),
        (np.float64(1), TensorInfo("DT_FLOAT", ()), "`x` takes float32 [], got float64 []: x.astype('float32')"),
        (np.array([True]), TensorInfo("DT_INT64", (-1,)), "got bool [1]: x.astype('int64')"),
        (np.array([1]), TensorInfo("DT_BOOL", (-1,)), "`x` takes bool [N], got int64 [1]: x.astype('bool')"),
        (np.array([1j]), TensorInfo("DT_FLOAT", (-1,)), "`x` takes float32 [N], got complex128 [1]"),
        (np.array(["1"]), TensorInfo("DT_FLOAT", (-1,)), "`x` takes float32 [N], got str32 [1]"),
        (np.array([1]), TensorInfo("DT_STRING", (-1,)), "`x` takes string [N], got int64 [1]"),
        (np.zeros(1, "f"), TensorInfo("DT_BFLOAT16", (-1,)), "got float32 [1]: x.astype('bfloat16')"),
        ([1, 2, 3, 4], ROWS, "`x` takes float32 [N, 4], got a list [4]: [x]"),
        (1.5, TensorInfo("DT_FLOAT", (-1,)), "`x` takes float32 [N], got a scalar: [x]"),
        ([1, 2, 3, 4] * 2, ROWS, "got a list [8]: np.array(x, 'float32').reshape(-1, 4)"),
        ([[1, 2, 3, 4], [1]], ROWS, "`x` takes float32 [N, 4], got what is no array, such as a ragged list: "),
        ([["a"], ["b", "c"]], TensorInfo("DT_STRING", (-1, 2)), "got a ragged list: the lists at one level must have"),
        ([1, 300], TensorInfo("DT_UINT8", (-1,)), "`x` takes uint8 [N], got int 300"),
        ([-1], TensorInfo("DT_UINT64", (-1,)), "`x` takes uint64 [N], got int -1"),
        ([2**63], TensorInfo("DT_INT64", (-1,)), f"`x` takes int64 [N], got int {2**63}"),
        ([2**64], TensorInfo("DT_UINT64", (-1,)), f"`x` takes uint64 [N], got int {2**64}"),
        ([2**24 + 1], TensorInfo("DT_FLOAT", (-1,)), "`x` takes float32 [N], got int 16777217"),
        ([1.0, 0.5], TensorInfo("DT_INT32", (-1,)), "`x` takes int32 [N], got float 0.5"),
        ([_NAN], TensorInfo("DT_INT32", (-1,)), "`x` takes int32 [N], got float nan"),
        ([1e39], TensorInfo("DT_FLOAT", (-1,)), "`x` takes float32 [N], got float 1e+39"),
        ([1j], TensorInfo("DT_FLOAT", (-1,)), "`x` takes float32 [N], got complex 1j"),
        ([True], TensorInfo("DT_FLOAT", (-1,)), "`x` takes float32 [N], got bool True"),
        ([1], TensorInfo("DT_BOOL", (-1,)), "`x` takes bool [N], got int 1"),
        (["1"], TensorInfo("DT_FLOAT", (-1,)), "`x` takes float32 [N], got str '1'"),
        ([None], TensorInfo("DT_FLOAT", (-1,)), "`x` takes float32 [N], got NoneType None"),
        (["a", 1], TensorInfo("DT_STRING", (-1,)), "`x` takes string [N], got int 1"),
        (["a", None], TensorInfo("DT_STRING", (-1,)), "`x` takes string [N], got NoneType None"),
        ([8], TensorInfo("DT_INT4", (-1,)), "`x` takes int4 [N], got int 8"),
        ([1], TensorInfo("DT_RESOURCE", (-1,)), "`x` is DT_RESOURCE, which has no array: "),
    ],
)  # fmt: skip
def test_what_does_not_fit_is_refused_with_the_fix(value: Any, info: TensorInfo, text: str) -> None:
    """What is taken, what was given, and the code that makes one of the other, where there is such."""
    refused = refusal(value, info)
    assert text in refused
    if "takes" in text or ": x" in text:
        assert refused.endswith(text) or text.endswith(": ")


@pytest.mark.parametrize(
    "value", [np.zeros(4), np.zeros(8, np.int64), np.zeros((1, 2, 4), "f"), [1, 2, 3, 4], np.zeros((2, 4, 1))]
)
def test_the_fix_works(value: Any) -> None:
    """The code in the error, run as it stands, makes an input that is taken."""
    code = refusal(value, ROWS).rsplit(": ", 1)[1]
    assert input_array("x", eval(code, {"x": value, "np": np}), ROWS).shape[1:] == (4,)  # noqa: S307 - the subject


def test_a_name_that_is_no_variable_is_not_in_code() -> None:
    """As those of old exports."""
    assert refusal(np.zeros(4, "f"), ROWS, "dense/input:0").endswith("got float32 [4]: array[None]")


@pytest.mark.parametrize(
    ("value", "dtype", "expected"),
    [
        ([0.1, -1], "DT_FLOAT", np.array([0.1, -1], np.float32)),
        ([_NAN, float("-inf")], "DT_HALF", np.array([np.nan, -np.inf], np.float16)),
        ([65504], "DT_HALF", np.array([65504], np.float16)),
        ([0, -1, 1], "DT_FLOAT", np.array([0, -1, 1], np.float32)),
        ([1.0, 255], "DT_UINT8", np.array([1, 255], np.uint8)),
        ([2**64 - 1, 0], "DT_UINT64", np.array([2**64 - 1, 0], np.uint64)),
        ([-(2**63)], "DT_INT64", np.array([-(2**63)])),
        ([1, 2.5, 1j], "DT_COMPLEX64", np.array([1, 2.5, 1j], np.complex64)),
        ([1], "DT_COMPLEX128", np.array([1 + 0j])),
        ([0.5], "DT_BFLOAT16", np.array([0.5], ml_dtypes.bfloat16)),
        ([7, -8], "DT_INT4", np.array([7, -8], ml_dtypes.int4)),
        ([False], "DT_BOOL", np.array([False])),
        (["ä", b"\0"], "DT_STRING", np.array(["ä".encode(), b"\0"], object)),
        (np.array(["ä"]), "DT_STRING", np.array(["ä".encode()], object)),
        (np.array([1.5], ">f4"), "DT_FLOAT", np.array([1.5], np.float32)),
        ([np.float32(1.5), np.float32(2)], "DT_FLOAT", np.array([1.5, 2], np.float32)),
        ([], "DT_STRING", np.array([], object)),
        ([], "DT_INT8", np.array([], np.int8)),
        (3, "DT_FLOAT", np.array(3, np.float32)),
        ("a", "DT_STRING", np.array(b"a", object)),
        ([[[1]]], "DT_INT32", np.array([[[1]]], np.int32)),
    ],
)  # fmt: skip
def test_lists_and_scalars_take_the_dtype_where_they_lose_nothing(value: Any, dtype: str, expected: np.ndarray) -> None:
    """Of any rank; a fraction is rounded to the nearest, and any order of bytes is taken."""
    array = input_array("x", value, TensorInfo(dtype, None))
    assert (array.dtype, array.shape) == (expected.dtype, expected.shape)
    np.testing.assert_array_equal(array, expected)


TAKES = "`a` float32 [N, 4], `b` string [...]"
METADATA = Metadata(
    "m",
    1,
    {
        "serving_default": Signature(
            {"a": ROWS, "b": TensorInfo("DT_STRING", None)}, {"y": TensorInfo("DT_INT64", ())}, ""
        ),
        "nothing": Signature({}, {"y": TensorInfo("DT_RESOURCE", ())}, ""),
    },
)


@pytest.mark.parametrize(
    ("inputs", "options", "text"),
    [
        ([1], {}, "inputs go by their names: {'a': ...}"),
        ({"a": 1, "b": 1, "c": 1}, {}, f"`c` is no input of serving_default: it takes {TAKES}"),
        ({"a": 1}, {}, f"`b` is missing: serving_default takes {TAKES}"),
        ({}, {"signature_name": "other"}, "m has no signature 'other': it has serving_default, nothing (--signature)"),
        ({}, {"signature_name": "nothing"}, "`y` is DT_RESOURCE, which has no array: DataType 20 has no array form"),
        ({"a": 1, "b": 1}, {"output_filter": ["z"]}, "`z` is no output of serving_default: it has `y` int64 []"),
    ],
)  # fmt: skip
def test_names_are_those_of_the_metadata(inputs: Any, options: dict[str, Any], text: str) -> None:
    """Of inputs, outputs and signatures; nothing is sent."""
    transport = FakeTransport(model_metadata=METADATA)
    with pytest.raises(ClientUsageError) as excinfo:
        Connection([transport], ModelSpec()).infer(inputs, **options)
    assert str(excinfo.value) == text
    assert transport.asked == []


@pytest.mark.parametrize("over", [0, 1])
def test_a_message_has_a_limit(over: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """Its bytes, and a fix, before anything is copied."""
    metadata = Metadata("m", 1, {"serving_default": Signature({"x": TensorInfo("DT_UINT8", None)}, {}, "")})
    array = np.zeros(PROTO_BYTES + over, np.uint8)
    monkeypatch.setattr("client.inputs._tensor", lambda array, _info: array)
    if not over:
        assert call({"x": array}, metadata)[0].inputs["x"].shape == (PROTO_BYTES,)
        return
    with pytest.raises(
        ClientUsageError, match=f"^the inputs have {PROTO_BYTES + 1} bytes: .* send fewer rows at a time"
    ):
        call({"x": array}, metadata)


def test_dtypes_have_numpys_names() -> None:
    """Those that have no array keep TensorFlow's."""
    names = {"DT_HALF": "float16 []", "DT_STRING": "string []", "DT_RESOURCE": "resource []", "DT_NEW": "new []"}
    assert {dtype: declared(TensorInfo(dtype, ())) for dtype in names} == names


def test_without_ml_dtypes_bfloat16_says_what_to_install() -> None:
    """The base install has no need of it."""
    code = """
import sys
sys.modules["ml_dtypes"] = None
from client.inputs import input_array
from client.types import TensorInfo
input_array("x", [1.0], TensorInfo("DT_BFLOAT16", (-1,)))
"""
    process = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False, timeout=60)
    assert (
        "`x` is DT_BFLOAT16, which has no array: DT_BFLOAT16 needs the package ml_dtypes: pip install" in process.stderr
    )


def test_an_array_that_fits_is_not_copied() -> None:
    """Neither is one whose bytes need to be turned round left so."""
    array = np.zeros((2, 4), np.float32)
    assert input_array("x", array, ROWS) is array
    turned = np.array([[1, 2, 3, 4]], ">f4")
    assert input_array("x", turned, ROWS).tobytes() == np.array([1, 2, 3, 4], "<f4").tobytes()


@pytest.mark.parametrize(
    ("shape", "expected", "is_taken"),
    [
        ((2, 4), (-1, 4), True), ((2, 4), None, True), ((), (), True), ((2, 4), (2, 4), True), ((0, 4), (-1, 4), True),
        ((2, 4), (-1, 5), False), ((2, 4), (3, 4), False), ((4,), (-1, 4), False), ((2, 4), (), False),
    ],
)  # fmt: skip
def test_a_shape_fits_what_was_declared(
    shape: tuple[int, ...], expected: tuple[int, ...] | None, is_taken: bool
) -> None:
    """Size by size, where they are not free; any shape where the rank is."""
    assert fits(shape, expected) is is_taken


def test_a_call_has_its_tensors_and_its_outputs() -> None:
    """Numbers as little-endian bytes, strings as a list of bytes; of the only outputs that are wanted."""
    strings = np.array([["a"], [b"\xff"]], object)
    request, signature = call({"a": np.arange(8, dtype=">f4").reshape(2, 4), "b": strings}, METADATA, None, ["y"])
    assert request.signature_name == "serving_default"
    assert request.output_filter == ["y"]
    assert request.inputs == {
        "a": ("DT_FLOAT", (2, 4), np.arange(8, dtype="<f4").tobytes()),
        "b": ("DT_STRING", (2, 1), [b"a", b"\xff"]),
    }
    assert signature is METADATA.signatures["serving_default"]

"""The tensor codec against TensorFlow's own make_tensor_proto and make_ndarray, both ways, for every dtype."""

from __future__ import annotations

import sys

import ml_dtypes
import numpy as np
import pytest
import tensorflow as tf
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from tensorflow.core.framework import tensor_pb2

from serving.apis import messages
from serving.apis.messages import TensorProto, TensorShapeProto
from serving.apis.tensors import (
    TensorError,
    array_bytes,
    data_type,
    data_type_name,
    field_head,
    make_ndarray,
    make_tensor_proto,
    ndarray_size,
    numpy_dtype,
    tensor_proto_pieces,
    varint,
)

_NUMBERS = [
    "bool", "int8", "int16", "int32", "int64", "uint8", "uint16", "uint32", "uint64", "float16", "float32", "float64",
    "complex64", "complex128",
]  # fmt: skip
_RARE = ["bfloat16", "float8_e5m2", "float8_e4m3fn", "int4", "uint4"]
_QUANTIZED = {"qint8": "int8", "quint8": "uint8", "qint16": "int16", "quint16": "uint16", "qint32": "int32"}


def _array(name: str) -> np.ndarray:
    dtype = np.dtype(getattr(ml_dtypes, name, name))
    return np.array([[0, 1, 2], [3, 1, 0]]).astype(dtype)


def _shape(*sizes: int) -> TensorShapeProto:
    return TensorShapeProto(dim=[TensorShapeProto.Dim(size=size) for size in sizes])


def _to_ours(proto: tensor_pb2.TensorProto) -> TensorProto:
    return TensorProto.FromString(proto.SerializeToString())


def _to_theirs(proto: TensorProto) -> tensor_pb2.TensorProto:
    return tensor_pb2.TensorProto.FromString(proto.SerializeToString())


@pytest.mark.parametrize("tensor_content", [True, False], ids=["tensor_content", "typed"])
@pytest.mark.parametrize("name", _NUMBERS + _RARE)
def test_tensorflow_reads_what_we_write(name: str, tensor_content: bool) -> None:
    """Same dtype, shape and values, in both forms."""
    array = _array(name)
    proto = make_tensor_proto(array, tensor_content=tensor_content)
    assert bool(proto.tensor_content) == tensor_content
    read = tf.make_ndarray(_to_theirs(proto))
    assert read.dtype == array.dtype
    np.testing.assert_array_equal(read, array)
    if name not in _RARE:
        # The C++ reader, which servers run, and not only Python's.
        np.testing.assert_array_equal(tf.io.parse_tensor(proto.SerializeToString(), array.dtype).numpy(), array)


@pytest.mark.parametrize("name", _NUMBERS + _RARE)
def test_we_read_what_tensorflow_writes(name: str) -> None:
    """Several values go as bytes, one value as a typed field; a scalar has no dimensions."""
    for array in (_array(name), _array(name)[:1, 1:2], _array(name)[0, 1]):
        read = make_ndarray(_to_ours(tf.make_tensor_proto(array)))
        assert read.dtype == array.dtype
        assert read.shape == array.shape
        np.testing.assert_array_equal(read, array)


def test_strings_are_bytes_both_ways() -> None:
    """Text is encoded as UTF-8, bytes with a zero in them stay whole."""
    proto = make_tensor_proto(np.array([["hä", b"a\0b"]], object))
    assert tf.make_ndarray(_to_theirs(proto)).tolist() == [["hä".encode(), b"a\0b"]]
    read = make_ndarray(_to_ours(tf.make_tensor_proto([["hä", b"a\0b"]])))
    assert (read.dtype, read.tolist()) == (np.dtype(object), [["hä".encode(), b"a\0b"]])
    assert make_ndarray(make_tensor_proto(np.array(["one", "two"]))).tolist() == [b"one", b"two"]


@pytest.mark.parametrize(("name", "plain"), _QUANTIZED.items())
def test_quantized_dtypes_read_as_their_plain_integers(name: str, plain: str) -> None:
    """Their wire form is that of the integers they are stored in."""
    number = getattr(messages, f"DT_{name.upper()}")
    assert numpy_dtype(number) == np.dtype(plain)
    proto = make_tensor_proto(np.array([1, 2, 3], plain), dtype=number)
    assert proto.dtype == number == getattr(tf, name).as_datatype_enum
    assert make_ndarray(proto).tolist() == [1, 2, 3]


@pytest.mark.parametrize("name", _NUMBERS)
def test_short_and_missing_values_are_read_as_the_server_reads_them(name: str) -> None:
    """Too few values repeat the last one, none at all means zeros: parse_tensor is the C++ reader."""
    dtype = np.dtype(name)
    for values in ([], [1], [1, 0], [1, 0, 1, 1, 0]):
        proto = make_tensor_proto(np.array(values, dtype), tensor_content=False)
        proto.tensor_shape.dim[0].size = 4
        expected = tf.io.parse_tensor(proto.SerializeToString(), dtype).numpy()
        np.testing.assert_array_equal(make_ndarray(proto), expected)


def test_empty_tensors_keep_their_shape() -> None:
    """No values, but dimensions."""
    assert make_ndarray(make_tensor_proto(np.zeros((0, 3), np.float32))).shape == (0, 3)


def test_bytes_are_viewed_and_not_copied() -> None:
    """A view cannot be written to."""
    assert not make_ndarray(make_tensor_proto(np.zeros(4, np.uint8))).flags.writeable


@given(
    hnp.arrays(st.sampled_from([np.uint8, np.int64, np.float32]), hnp.array_shapes(min_dims=0, max_dims=4, max_side=4))
)
@settings(max_examples=60, deadline=None)
def test_what_is_written_is_read(array: np.ndarray) -> None:
    """Any shape, either form, NaN included."""
    for tensor_content in (True, False):
        np.testing.assert_array_equal(make_ndarray(make_tensor_proto(array, tensor_content=tensor_content)), array)


@pytest.mark.parametrize(
    ("proto", "why"),
    [
        (TensorProto(float_val=[1]), "DataType 0 has no array form"),
        (TensorProto(dtype=messages.DT_RESOURCE), "DataType 20 has no array form"),
        (TensorProto(dtype=1, tensor_shape=_shape(-1)), r"must be known: got \[-1\]"),
        (TensorProto(dtype=1, tensor_shape=TensorShapeProto(unknown_rank=True)), "must be known: got unknown rank"),
        (TensorProto(dtype=1, tensor_shape=_shape(2**40, 2**40)), "the limit is 2147483648"),
        (TensorProto(dtype=1, tensor_shape=_shape(2), tensor_content=b"12345"), "has 5 bytes.* needs 8"),
    ],
    ids=["invalid", "resource", "negative", "unknown rank", "huge", "short content"],
)
def test_what_cannot_be_read_says_why(proto: TensorProto, why: str) -> None:
    """Before anything is allocated."""
    with pytest.raises(TensorError, match=why):
        make_ndarray(proto)


def test_what_cannot_be_written_says_why() -> None:
    """Ragged lists, objects, and dtypes that TensorFlow does not know."""
    with pytest.raises(TensorError, match="do not form one tensor"):
        make_tensor_proto([[1, 2], [3]])
    with pytest.raises(TensorError, match="takes text or bytes, not dict"):
        make_tensor_proto(np.array([{}], object))
    with pytest.raises(TensorError, match="has no TensorFlow DataType"):
        make_tensor_proto(np.array(["2026-01-01"], "datetime64[D]"))


def test_dtype_names_and_numbers_are_tensorflows() -> None:
    """DataType's own."""
    for name in _NUMBERS:
        assert data_type(name) == tf.as_dtype(name).as_datatype_enum
        assert numpy_dtype(data_type(name)) == np.dtype(name)
    assert data_type_name(4) == "DT_UINT8"
    assert data_type_name(999) == "999"


@pytest.mark.parametrize(
    "dtype", ["float32", "float64", "complex64", "complex128", "int64", "float16", "bool", "object"]
)
def test_long_arrays_are_the_same_in_pieces(dtype: str) -> None:
    """Typed fields take them, and give them, a piece at a time."""
    numbers = np.arange(200_000) % 251
    array = (
        np.array([str(number).encode() for number in numbers], object) if dtype == "object" else numbers.astype(dtype)
    )
    proto = make_tensor_proto(array, tensor_content=False)
    assert not proto.tensor_content
    np.testing.assert_array_equal(make_ndarray(proto), array)


@pytest.mark.parametrize("pair", [[0, 127], [0, 128], [-1, 5], [2**62, 0], [True, False]], ids=str)
def test_integers_of_one_byte_and_of_more(pair: list[int]) -> None:
    """The same, though the first are copied as they are: up to 127 a number is its own varint."""
    values = pair * 5
    array = np.array(values)
    proto = make_tensor_proto(array, tensor_content=False)
    assert not proto.tensor_content
    np.testing.assert_array_equal(make_ndarray(proto), array)
    assert (proto.bool_val if array.dtype == bool else proto.int64_val) == values


@pytest.mark.parametrize("length", [1, 64, 65])
def test_strings_that_repeat_and_long_ones(length: int) -> None:
    """Each comes back in its place."""
    values = [letter * length for letter in (b"a", b"b", b"a", b"", b"c") * 3]
    assert list(make_tensor_proto(values).string_val) == values
    text = make_tensor_proto(np.array(["\u00e4" * length] * 10, object))
    assert list(text.string_val) == [("\u00e4" * length).encode()] * 10


def test_the_size_of_an_array_is_told_before_it_is_made() -> None:
    """Its bytes, and how many values have to be converted: none of tensor_content, few that fill a shape."""
    dense = make_tensor_proto(np.zeros((10, 4), np.float32))
    assert ndarray_size(dense) == (160, 0)
    assert ndarray_size(make_tensor_proto(np.zeros((10, 4), np.float32), tensor_content=False)) == (160, 40)
    assert ndarray_size(TensorProto(dtype=1, tensor_shape=_shape(1000), float_val=[1])) == (4000, 1)
    strings = make_tensor_proto([b"abc"] * 10)
    assert ndarray_size(strings) == (640 + strings.ByteSize(), 10)
    assert ndarray_size(TensorProto(dtype=1, tensor_shape=_shape(-1))) == (0, 0)


def test_a_tensor_as_large_as_it_may_be() -> None:
    """To the byte, whichever way its values are carried."""
    array = np.arange(10, dtype=np.float32)
    for tensor_content in (True, False):
        proto = make_tensor_proto(array, tensor_content=tensor_content)
        np.testing.assert_array_equal(make_ndarray(proto, max_bytes=40), array)
        with pytest.raises(TensorError, match=r"of shape \[10\] has 40 bytes: the limit is 39$"):
            make_ndarray(proto, max_bytes=39)


def test_half_a_complex_number_is_left_out() -> None:
    """As the C++ reader does."""
    proto = TensorProto(dtype=messages.DT_COMPLEX64, tensor_shape=_shape(2), scomplex_val=[1, 2, 3])
    expected = tf.io.parse_tensor(proto.SerializeToString(), tf.complex64).numpy()
    assert make_ndarray(proto).tolist() == expected.tolist() == [1 + 2j, 1 + 2j]


def test_arrays_are_charged_for_before_they_are_made() -> None:
    """Numbers with their own bytes, strings with an object for each beside the bytes; small ones with nothing."""
    charged: list[int] = []
    for size in (2**16, 2**16 + 1):
        make_ndarray(make_tensor_proto(np.zeros(size, np.uint8)), charge=charged.append)
    assert charged == [2**16 + 1]
    strings = make_tensor_proto(np.array([b"x" * 100] * 1000, object))
    make_ndarray(strings, charge=charged.append)
    assert charged[1] >= strings.ByteSize() + 1000 * sys.getsizeof(b"")


def test_the_bytes_of_an_array() -> None:
    """Strings take 64 bytes each beside their own."""
    assert array_bytes(np.zeros((2, 3), np.float32)) == 24
    assert array_bytes(np.array([[b"ab", b""], [b"c", b"def"]], object)) == 4 * 64 + 6


@pytest.mark.parametrize(
    ("value", "data"),
    [
        (0, b"\0"),
        (127, b"\x7f"),
        (128, b"\x80\x01"),
        (300, b"\xac\x02"),
        (16384, b"\x80\x80\x01"),
        (2**64 - 1, b"\xff" * 9 + b"\x01"),
    ],
)
def test_numbers_as_protobuf_writes_them(value: int, data: bytes) -> None:
    """Seven bits a byte, the lowest first."""
    assert varint(value) == data


def test_a_tensor_is_written_as_its_message_is() -> None:
    """To the byte, in both forms, for few and for many values of every size."""
    assert field_head("tensor_content", 300) == b"\x22\xac\x02"
    for values in ([1], [-1, 5], [127] * 8, [127] * 9, [128] * 8, [128] * 9, [0] * 9, [-1] * 9, [2**40] * 20):
        array = np.array(values)
        proto = TensorProto(dtype=messages.DT_INT64, tensor_shape=_shape(len(values)), int64_val=values)
        written = b"".join(tensor_proto_pieces(array, messages.DT_INT64))
        assert written == proto.SerializeToString()
        proto = TensorProto(dtype=messages.DT_INT64, tensor_shape=_shape(len(values)), tensor_content=array.tobytes())
        assert b"".join(tensor_proto_pieces(array, messages.DT_INT64, tensor_content=True)) == proto.SerializeToString()


def test_the_size_of_a_huge_tensor_is_told_with_its_name_and_shape() -> None:
    """Whole."""
    proto = TensorProto(dtype=messages.DT_UINT8, tensor_shape=_shape(2, 2**30 + 1))
    with pytest.raises(TensorError) as raised:
        make_ndarray(proto)
    assert str(raised.value) == (
        "a DT_UINT8 tensor of shape [2, 1073741825] has 2147483650 bytes: the limit is 2147483648"
    )
    deep = TensorProto(dtype=messages.DT_UINT8, tensor_shape=_shape(*[1] * 100), int_val=[7])
    assert make_ndarray(TensorProto(dtype=1, tensor_shape=_shape(0, -0))).shape == (0, 0)
    assert ndarray_size(deep) == (1, 1)

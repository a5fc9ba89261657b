"""numpy arrays to and from TensorProto, for every dtype that TensorFlow puts on the wire, without TensorFlow.

The names and meanings are TensorFlow's own `tf.make_tensor_proto` and `tf.make_ndarray`; decoding follows the C++
`Tensor::FromProto`, which servers run: too few values repeat the last one, none at all means zeros, too many are cut.
Source: https://github.com/tensorflow/tensorflow/blob/master/tensorflow/core/framework/tensor.proto
"""

from __future__ import annotations

import contextlib
import functools
import math
from collections.abc import Callable, Iterable, Sequence
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

from serving.apis import messages
from serving.apis.messages import TensorProto, TensorShapeProto

Array = npt.NDArray[Any]

# A protobuf message ends at 2 GiB; a decoded tensor larger than that is a mistake or an attack.
MAX_TENSOR_BYTES = 2**31


# Values are handed over in pieces of so many: other threads have the interpreter in between.
_PIECE = 2**16


class TensorError(ValueError):
    """A tensor that cannot be encoded or decoded; the text names the value and the rule."""


# DataType's name -> numpy's dtype and the value field of TensorProto that carries it.
_WIRE = {
    "DT_FLOAT": ("float32", "float_val"),
    "DT_DOUBLE": ("float64", "double_val"),
    "DT_INT32": ("int32", "int_val"),
    "DT_UINT8": ("uint8", "int_val"),
    "DT_INT16": ("int16", "int_val"),
    "DT_INT8": ("int8", "int_val"),
    "DT_STRING": ("object", "string_val"),
    "DT_COMPLEX64": ("complex64", "scomplex_val"),
    "DT_INT64": ("int64", "int64_val"),
    "DT_BOOL": ("bool", "bool_val"),
    "DT_QINT8": ("int8", "int_val"),
    "DT_QUINT8": ("uint8", "int_val"),
    "DT_QINT32": ("int32", "int_val"),
    "DT_BFLOAT16": ("bfloat16", "half_val"),
    "DT_QINT16": ("int16", "int_val"),
    "DT_QUINT16": ("uint16", "int_val"),
    "DT_UINT16": ("uint16", "int_val"),
    "DT_COMPLEX128": ("complex128", "dcomplex_val"),
    "DT_HALF": ("float16", "half_val"),
    "DT_UINT32": ("uint32", "uint32_val"),
    "DT_UINT64": ("uint64", "uint64_val"),
    "DT_FLOAT8_E5M2": ("float8_e5m2", "float8_val"),
    "DT_FLOAT8_E4M3FN": ("float8_e4m3fn", "float8_val"),
    "DT_FLOAT8_E4M3FNUZ": ("float8_e4m3fnuz", "float8_val"),
    "DT_FLOAT8_E4M3B11FNUZ": ("float8_e4m3b11fnuz", "float8_val"),
    "DT_FLOAT8_E5M2FNUZ": ("float8_e5m2fnuz", "float8_val"),
    "DT_INT4": ("int4", "int_val"),
    "DT_UINT4": ("uint4", "int_val"),
    "DT_INT2": ("int2", "int_val"),
    "DT_UINT2": ("uint2", "int_val"),
}
_NUMBERS = {name: messages.POOL.FindEnumTypeByName("tensorflow.DataType").values_by_name[name].number for name in _WIRE}
_NAMES = {number: name for name, number in _NUMBERS.items()}
# A quantized dtype shares numpy's dtype with the plain one, which is the default.
_BY_NUMPY = {dtype: name for name, (dtype, _) in _WIRE.items() if not name.startswith("DT_Q")}
# The value fields whose bytes are those of the array: numbers of a fixed width.
_FIXED = frozenset(("float_val", "double_val", "scomplex_val", "dcomplex_val", "float8_val"))
# So few numbers are written sooner here than by a message.
_FEW = 8
_UINT64_MAX = 2**64 - 1
# The greatest number that a varint has one byte for.
_ONE_BYTE = 0x7F
# So short strings are looked for among those before them.
_SHORT_BYTES = 64
# A client sends few shapes, and to read one takes as long as to read its whole message.
_KNOWN_SHAPE_BYTES = 64
# What is not charged for.
_SMALL_BYTES = 2**16
# What a string takes beside its bytes, here and as TensorFlow's.
_STRING_BYTES = 64
_PAIRS: dict[str, np.dtype[Any]] = {"scomplex_val": np.dtype(np.float32), "dcomplex_val": np.dtype(np.float64)}


def numpy_dtype(data_type: int) -> np.dtype[Any]:
    """numpy's dtype for a DataType number: `DT_FLOAT` -> float32, `DT_STRING` -> object (elements are bytes).

    bfloat16, float8 and int4 come from ml_dtypes, which TensorFlow installs. Raises TensorError for a DataType that has
    no array form (`DT_RESOURCE`), or when ml_dtypes is needed and missing.
    """
    return _codec(data_type)[0]


def data_type(dtype: npt.DTypeLike) -> int:
    """The DataType number for a numpy dtype; text and bytes are `DT_STRING`. Raises TensorError when there is none."""
    dtype = np.dtype(dtype)
    name = "object" if dtype.kind in "SUO" else dtype.name
    if name not in _BY_NUMPY:
        raise TensorError(f"dtype {dtype} has no TensorFlow DataType")
    return _NUMBERS[_BY_NUMPY[name]]


def data_type_name(data_type: int) -> str:
    """The name of a DataType number: 4 -> `DT_UINT8`; a number that the API does not know is given back as digits."""
    return _NAMES.get(data_type, str(data_type))


def make_tensor_proto(values: npt.ArrayLike, *, dtype: int | None = None, tensor_content: bool = True) -> TensorProto:
    """The TensorProto of an array, a list or a scalar.

    values: anything numpy makes an array of; text is encoded as UTF-8.
    dtype: a DataType number; without it, the one that belongs to the array's dtype.
    tensor_content: whether numbers go as raw bytes (the compact form) or into the typed value fields (`float_val`).
    Strings always go into `string_val`, as the format demands.
    Raises TensorError for values that are ragged or have no DataType.
    """
    try:
        array = np.asarray(values)
        number = data_type(array.dtype) if dtype is None else dtype
        wire_dtype = numpy_dtype(number)
        if wire_dtype.kind != "O":
            array = array.astype(wire_dtype, copy=False)
    except TensorError:
        raise
    except (TypeError, ValueError, OverflowError) as error:
        raise TensorError(f"values do not form one tensor: {error}") from error
    return TensorProto.FromString(b"".join(tensor_proto_pieces(array, number, tensor_content=tensor_content)))


def tensor_proto_pieces(array: Array, dtype: int, *, tensor_content: bool = False) -> list[bytes]:
    """The bytes of the TensorProto of an array, in pieces: in a third of the time that a message takes.

    Raises TensorError for a dtype without an array form, and for contents that are not of it.
    """
    numpy_dtype, wire_dtype, field = _codec(dtype)
    head = _head(dtype, array.shape)
    if not array.size:
        return [head]
    if field == "string_val":
        return [head, *_string_pieces(array.ravel().tolist())]
    if tensor_content or field in _FIXED:
        data = array.astype(wire_dtype, copy=False).tobytes()
        return [head, field_head("tensor_content" if tensor_content else field, len(data)), data]
    return [head, _packed(_wire_values(array.astype(numpy_dtype, copy=False), field), field)]


@functools.lru_cache(1024)
def field_head(field: str, size: int) -> bytes:
    """The tag and the length before the bytes of a TensorProto's field."""
    return varint(TensorProto.DESCRIPTOR.fields_by_name[field].number << 3 | 2) + varint(size)


def make_ndarray(
    proto: TensorProto, *, max_bytes: int = MAX_TENSOR_BYTES, charge: Callable[[int], None] | None = None
) -> Array:
    """The array of a TensorProto, a read-only view of its bytes where numpy allows it; strings are objects of bytes.

    charge: called with the bytes of the array before it is made, unless they are few.

    Raises TensorError for a dtype without an array form, a shape that is unknown, negative or above `max_bytes`, and
    contents that do not fit the shape.
    """
    dtype, wire_dtype, field = _codec(proto.dtype)
    shape, count = _shape(proto)
    size = count * dtype.itemsize
    if size > max_bytes:
        name = data_type_name(proto.dtype)
        raise TensorError(f"a {name} tensor of shape {list(shape)} has {size} bytes: the limit is {max_bytes}")
    if charge is not None:
        needed = size if field != "string_val" else count * _STRING_BYTES + proto.ByteSize()
        if needed > _SMALL_BYTES:
            charge(needed)
    # Read once: protobuf makes a new copy of the bytes each time.
    content = proto.tensor_content
    if content and field != "string_val":
        if len(content) != size:
            name = data_type_name(proto.dtype)
            raise TensorError(f"tensor_content has {len(content)} bytes: {name} of shape {list(shape)} needs {size}")
        flat = np.frombuffer(content, wire_dtype)
        return (flat if wire_dtype is dtype else flat.astype(dtype)).reshape(shape)
    return _filled(_typed_values(getattr(proto, field), field, dtype), count, dtype).reshape(shape)


class NdarraySize(NamedTuple):
    """What `make_ndarray` takes: bytes of memory, strings with what they hold, and how many values it converts."""

    nbytes: int
    converted: int


def ndarray_size(proto: TensorProto) -> NdarraySize:
    """The size of the array of a TensorProto; zeros for what `make_ndarray` will not read."""
    try:
        dtype, _, field = _codec(proto.dtype)
        _, count = _shape(proto)
    except TensorError:
        return NdarraySize(0, 0)
    if field == "string_val":
        return NdarraySize(count * _STRING_BYTES + proto.ByteSize(), count)
    return NdarraySize(count * dtype.itemsize, len(getattr(proto, field)))


def array_bytes(array: Array) -> int:
    """The bytes of an array, strings with what they hold."""
    if array.dtype.kind != "O":
        return array.nbytes
    return array.size * _STRING_BYTES + sum(map(len, array.ravel().tolist()))


@functools.cache
def _codec(data_type: int) -> tuple[np.dtype[Any], np.dtype[Any], str]:
    """numpy's dtype, the same in the wire's byte order, and the value field."""
    if data_type not in _NAMES:
        raise TensorError(f"DataType {data_type} has no array form")
    name = _NAMES[data_type]
    dtype_name, field = _WIRE[name]
    try:
        dtype: np.dtype[Any] = np.dtype(dtype_name)
    except TypeError:
        try:
            import ml_dtypes
        except ImportError as error:
            raise TensorError(f"{name} needs the package ml_dtypes: pip install ml_dtypes") from error
        dtype = np.dtype(getattr(ml_dtypes, dtype_name))
    wire_dtype = dtype.newbyteorder("<")
    return dtype, dtype if wire_dtype == dtype else wire_dtype, field


def _shape(proto: TensorProto) -> tuple[tuple[int, ...], int]:
    """The shape of a tensor, and how many elements that is. Raises TensorError for one that is not known."""
    data = proto.tensor_shape.SerializeToString()
    return _known_shape(data) if len(data) <= _KNOWN_SHAPE_BYTES else _read_shape(data)


def _read_shape(data: bytes) -> tuple[tuple[int, ...], int]:
    proto = TensorShapeProto.FromString(data)
    shape = tuple([dim.size for dim in proto.dim])
    if proto.unknown_rank or (shape and min(shape) < 0):
        raise TensorError(f"a tensor's shape must be known: got {'unknown rank' if not shape else list(shape)}")
    return shape, math.prod(shape)


_known_shape = functools.lru_cache(1024)(_read_shape)


def varint(value: int) -> bytes:
    """A number as protobuf writes it: https://protobuf.dev/programming-guides/encoding/#varints."""
    data = bytearray()
    while value > _ONE_BYTE:
        data.append(value & 0x7F | 0x80)
        value >>= 7
    return bytes((*data, value))


@functools.lru_cache(1024)
def _head(dtype: int, shape: tuple[int, ...]) -> bytes:
    proto = TensorProto(dtype=dtype)
    proto.tensor_shape.SetInParent()
    for size in shape:
        proto.tensor_shape.dim.add(size=size)
    return proto.SerializeToString()


def _string_pieces(values: list[Any]) -> Iterable[bytes]:
    """The fields of strings. Those of short ones are made once: class names repeat."""
    with contextlib.suppress(TypeError):
        if len(values) > _FEW and max(map(len, values)) <= _SHORT_BYTES:
            return map(_StringFields().__getitem__, values)
    return map(_string_field, values)


class _StringFields(dict[object, bytes]):
    """Strings as fields."""

    def __missing__(self, value: object) -> bytes:
        field = self[value] = _string_field(value)
        return field


def _string_field(value: object) -> bytes:
    data = _as_bytes(value)
    return field_head("string_val", len(data)) + data


def _packed(values: Array, field: str) -> bytes:
    """A field of numbers of no fixed width."""
    if len(values) <= _FEW:
        # A negative number is written as one of 64 bits.
        data = b"".join([varint(value & _UINT64_MAX) for value in values.tolist()])
        return field_head(field, len(data)) + data
    if values.min() >= 0 and values.max() <= _ONE_BYTE:
        return field_head(field, len(values)) + values.astype(np.uint8).tobytes()
    proto = TensorProto()
    for start in range(0, len(values), _PIECE):
        getattr(proto, field).extend(values[start : start + _PIECE].tolist())
    return proto.SerializeToString()


def _as_bytes(value: object) -> bytes:
    if isinstance(value, bytes):
        return value
    if isinstance(value, str):
        return value.encode()
    raise TensorError(f"a string tensor takes text or bytes, not {type(value).__name__}")


def _wire_values(array: Array, field: str) -> Array:
    """The flat values as the typed field wants them: 16-bit floats as their bits."""
    flat = array.ravel()
    if field == "half_val":
        return flat.view(np.uint16)
    if field == "int_val":
        return flat.astype(np.int32)
    return flat


def _typed_values(values: Sequence[Any] | bytes, field: str, dtype: np.dtype[Any]) -> Array:
    if field == "half_val":
        return _flat(values, np.dtype(np.uint16)).view(dtype)
    if field == "float8_val":
        return np.frombuffer(bytes(values), dtype)
    if field in _PAIRS:
        return _flat(values, _PAIRS[field])[: len(values) // 2 * 2].view(dtype)
    # int_val is a wire format of 32 bits: a uint8 of -1 wraps, as in C++.
    return _flat(values, np.dtype(np.int32)).astype(dtype) if field == "int_val" else _flat(values, dtype)


def _flat(values: Sequence[Any], dtype: np.dtype[Any]) -> Array:
    if len(values) <= _PIECE:
        return np.asarray(values, dtype)
    flat = np.empty(len(values), dtype)
    for start in range(0, len(values), _PIECE):
        flat[start : start + _PIECE] = values[start : start + _PIECE]
    return flat


def _filled(values: Array, count: int, dtype: np.dtype[Any]) -> Array:
    if len(values) >= count:
        return values[:count]
    filler = values[-1] if len(values) else (b"" if dtype.kind == "O" else 0)
    result = np.full(count, filler, dtype)
    result[: len(values)] = values
    return result

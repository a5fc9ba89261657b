"""Compares the tensor codec with TensorFlow's for every dtype; prints what differs as JSON."""

from __future__ import annotations

import json
import os
from typing import Any

os.environ["TF_CPP_MIN_LOG_LEVEL"] = "3"

import numpy as np
import tensorflow as tf

from serving.apis import tensors
from serving.apis.messages import TensorProto

# fmt: off
NAMES = ("bfloat16", "bool", "complex128", "complex64", "double", "float", "half", "int16", "int32", "int64", "int8",
         "qint16", "qint32", "qint8", "quint16", "quint8", "string", "uint16", "uint32", "uint64", "uint8",
         "float8_e5m2", "float8_e4m3fn")
# fmt: on


def example(dtype: tf.DType) -> np.ndarray[Any, Any]:
    """Six values [2,3] with the extremes of the dtype, as a plain numpy array."""
    if dtype == tf.string:
        return np.array([[b"", b"a\0b", "\u00e4".encode()], [b"x" * 300, b"y", b"z"]], object)
    plain = tensors.numpy_dtype(dtype.as_datatype_enum)
    if plain.kind in "iu":
        info = np.iinfo(plain)
        return np.array([[info.min, info.max, 0], [1, 2, 3]], plain)
    if plain.kind == "b":
        return np.array([[True, False, True], [False, False, True]])
    values = np.array([[0.0, 1.5, -2.0], [0.25, 3.0, -0.5]])
    return (values + 1j * values[::-1]).astype(plain) if plain.kind == "c" else values.astype(plain)


def same(ours: np.ndarray[Any, Any], theirs: np.ndarray[Any, Any]) -> str:
    """What differs, or nothing."""
    if theirs.dtype.names:
        theirs = theirs.view(ours.dtype)
    if ours.shape != theirs.shape or ours.dtype != theirs.dtype or ours.tolist() != theirs.tolist():
        return f"{ours!r} is not {theirs!r}"
    return ""


def compare(name: str) -> dict[str, str]:
    """Ours decoded by TensorFlow in both encodings, and TensorFlow's two encodings decoded by us."""
    dtype = tf.dtypes.as_dtype(name)
    array = example(dtype)
    found = {}
    differences = []
    for content in (True, False):
        mine = tensors.make_tensor_proto(array, dtype=dtype.as_datatype_enum, tensor_content=content)
        differences.append(same(array, tf.make_ndarray(parsed(mine))))
    found[f"{name} encoded"] = "; ".join(filter(None, differences))
    native = array.view(dtype.as_numpy_dtype) if np.dtype(dtype.as_numpy_dtype).names else array
    as_content = tf.make_tensor_proto(native, dtype=dtype)
    found[f"{name} decoded content"] = same(
        tensors.make_ndarray(TensorProto.FromString(as_content.SerializeToString())), array
    )
    as_fields = tf.make_tensor_proto(
        native.ravel().tolist() if dtype.is_floating else native, dtype=dtype, shape=[2, 3]
    )
    found[f"{name} decoded fields"] = same(
        tensors.make_ndarray(TensorProto.FromString(as_fields.SerializeToString())), array
    )
    return found


def parsed(mine: TensorProto) -> Any:
    """The same message as TensorFlow's own class."""
    from tensorflow.core.framework import tensor_pb2

    return tensor_pb2.TensorProto.FromString(mine.SerializeToString())


def main() -> None:
    """Prints the comparison of every dtype."""
    result: dict[str, str] = {}
    for name in NAMES:
        try:
            result.update(compare(name))
        except Exception as error:  # noqa: BLE001, PERF203 - it is what differs
            for way in ("encoded", "decoded content", "decoded fields"):
                result.setdefault(f"{name} {way}", f"{type(error).__name__}: {error}")
    print(json.dumps(result))


if __name__ == "__main__":
    main()

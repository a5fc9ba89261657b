"""The tensor codec against TensorFlow's own, both ways, in one process with it.

One process with TensorFlow imported is also the proof that the private pool does not clash with its registrations.
"""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from serving.apis import tensors
from serving.apis.messages import DT_FLOAT, DT_RESOURCE, DT_STRING, DT_UINT8, TensorProto

SCRIPT = Path(__file__).parent / "against_tensorflow.py"


@pytest.fixture(scope="module")
def compared() -> dict[str, str]:
    """For each dtype what differed from TensorFlow, or an empty text."""
    done = subprocess.run([sys.executable, str(SCRIPT)], check=True, capture_output=True, text=True, timeout=120)
    result: dict[str, str] = json.loads(done.stdout)
    return result


# fmt: off
DTYPES = ["bfloat16", "bool", "complex128", "complex64", "double", "float", "half", "int16", "int32", "int64", "int8",
          "qint16", "qint32", "qint8", "quint16", "quint8", "string", "uint16", "uint32", "uint64", "uint8",
          "float8_e5m2", "float8_e4m3fn"]
# fmt: on


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("way", ["encoded", "decoded content", "decoded fields"])
def test_as_tensorflow_does(compared: dict[str, str], dtype: str, way: str) -> None:
    """Ours read by make_ndarray, and make_tensor_proto's read by ours: the same array."""
    assert compared[f"{dtype} {way}"] == ""


def proto(dtype: int, shape: list[int], **fields: Any) -> TensorProto:
    """A TensorProto of a shape with these fields."""
    made = TensorProto(dtype=dtype, **fields)
    for size in shape:
        made.tensor_shape.dim.add(size=size)
    return made


def test_too_few_values_repeat_the_last_and_too_many_are_cut() -> None:
    """As the server's C++ does it."""
    assert tensors.make_ndarray(proto(DT_FLOAT, [4], float_val=[1, 2])).tolist() == [1, 2, 2, 2]
    assert tensors.make_ndarray(proto(DT_FLOAT, [2])).tolist() == [0, 0]
    assert tensors.make_ndarray(proto(DT_FLOAT, [1], float_val=[1, 2])).tolist() == [1]
    assert tensors.make_ndarray(proto(DT_STRING, [2])).tolist() == [b"", b""]


@pytest.mark.parametrize(
    ("spoiled", "message"),
    [
        (proto(DT_FLOAT, [-1]), "a tensor's shape must be known: got [-1]"),
        (proto(DT_FLOAT, [2**40, 2**40]), "the limit is 2147483648"),
        (proto(DT_UINT8, [3], tensor_content=b"12"), "tensor_content has 2 bytes: DT_UINT8 of shape [3] needs 3"),
        (proto(DT_RESOURCE, []), "DataType 20 has no array form"),
        (proto(0, []), "DataType 0 has no array form"),
    ],
)
def test_what_cannot_be_decoded(spoiled: TensorProto, message: str) -> None:
    """The text names the value and the rule."""
    with pytest.raises(tensors.TensorError) as raised:
        tensors.make_ndarray(spoiled)
    assert message in str(raised.value)


@pytest.mark.parametrize("values", [[[1], [1, 2]], [{}], np.zeros(1, "datetime64[s]")])
def test_what_cannot_be_encoded(values: Any) -> None:
    """Ragged lists and types without a DataType."""
    with pytest.raises(tensors.TensorError):
        tensors.make_tensor_proto(values)


def test_decoded_content_is_a_view() -> None:
    """The bytes of a large tensor are not copied."""
    assert tensors.make_ndarray(proto(DT_UINT8, [2], tensor_content=b"ab")).base is not None

"""Answers to Predict are the messages that their bytes say they are."""

from __future__ import annotations

import numpy as np
import pytest

from serving.apis import tensors
from serving.apis.messages import PredictResponse, SignatureDef, TensorInfo
from serving.apis.tensors import Array
from serving.embedded.grpc.answers import predict_response
from serving.embedded.inference.model import LoadedModel
from tests.support.fakes import FakeServable

OUTPUTS: dict[str, Array] = {
    "a": np.arange(12, dtype=np.float32).reshape(3, 4),
    "b": np.array([[1, -1, 2**62]], np.int64),
    "c": np.arange(100, dtype=np.int32) - 50,
    "d": np.array(["hä".encode(), b"", b"x" * 300], object),
    "e": np.zeros((0, 3), np.float32),
    "f": np.array(2.5),
    "g": np.array([True, False]),
    "h": np.array([0.5, -2], np.float16),
    "i": np.array([2**64 - 1], np.uint64),
    "j": np.array([1 - 2j], np.complex64),
}


@pytest.mark.parametrize("tensor_content", [False, True])
def test_bytes_are_those_of_the_message(tensor_content: bool) -> None:
    """Each output is the TensorProto of its array, and the version that answered is named."""
    types = {name: tensors.data_type(array.dtype) for name, array in OUTPUTS.items()}
    definition = SignatureDef(outputs={name: TensorInfo(name=name, dtype=number) for name, number in types.items()})
    servable = FakeServable(300)
    servable.signatures = {"own": definition}
    signature = LoadedModel("m", 300, servable).signatures["own"]
    outputs = dict(OUTPUTS)
    response = PredictResponse.FromString(predict_response(signature, outputs, tensor_content=tensor_content))
    assert not outputs
    assert response.model_spec == signature.spec
    assert response.outputs.keys() == OUTPUTS.keys()
    for name, array in OUTPUTS.items():
        read = tensors.make_ndarray(response.outputs[name])
        assert (response.outputs[name].dtype, read.shape, read.tolist()) == (types[name], array.shape, array.tolist())
        has_content = tensor_content and array.dtype.kind != "O" and array.size > 0
        assert bool(response.outputs[name].tensor_content) == has_content

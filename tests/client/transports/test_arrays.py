"""Arrays of every dtype over both APIs, in memory: what REST sends is what the embedded server reads, and back."""

from __future__ import annotations

import gzip
import json
from typing import Any

import httpx
import ml_dtypes
import numpy as np
import pytest

from client.errors import ClientUsageError, ServerError
from client.inputs import call
from client.limits import GZIP_BYTES
from client.transports import grpc_wire, rest_wire
from client.types import Metadata, ModelSpec, Signature, TensorInfo
from serving.apis import messages, tensors
from serving.embedded.rest.json.outputs import outputs_json
from serving.embedded.rest.json.requests import predict_inputs
from serving.embedded.rest.json.values import parse_object

ARRAYS = {
    "DT_FLOAT": np.array([[0.1, np.nan], [np.inf, -np.inf]], np.float32),
    "DT_DOUBLE": np.array([1 / 3, 5e-324]),
    "DT_HALF": np.array([0.1, 65504, np.nan], np.float16),
    "DT_BFLOAT16": np.array([0.1, 3e38], ml_dtypes.bfloat16),
    "DT_INT8": np.array([[[-128]], [[127]]], np.int8),
    "DT_INT16": np.array([-(2**15), 2**15 - 1], np.int16),
    "DT_INT32": np.array(-(2**31), np.int32),
    "DT_INT64": np.array([-(2**63), 2**63 - 1]),
    "DT_UINT8": np.array([[0, 255]], np.uint8),
    "DT_UINT16": np.array([2**16 - 1], np.uint16),
    "DT_UINT32": np.array([2**32 - 1], np.uint32),
    "DT_UINT64": np.array([2**64 - 1, 0], np.uint64),
    "DT_BOOL": np.array([[True], [False]]),
    "DT_STRING": np.array([["ä".encode(), b""], [b"b64", b"\x00\xff"]], object),
    "DT_QINT8": np.array([-1], np.int8),
}
EMPTY = {"row": np.zeros(0, np.float32), "rows of nothing": np.zeros((2, 0), np.float32)}
COMPLEX = {"DT_COMPLEX64": np.array([1 - 2j], np.complex64), "DT_COMPLEX128": np.array(1 / 3 + 0j)}
MODEL = ModelSpec("m")


def _signature(dtype: str, shape: tuple[int, ...] | None = None, *others: str) -> Signature:
    info = TensorInfo(dtype, shape)
    return Signature({"x": info}, dict.fromkeys(["x", *others], info), "")


def _exchange(wire: Any, array: object, signature: Signature, **options: Any) -> Any:
    request, _ = call({"x": array}, Metadata("m", 1, {"serving_default": signature}), **options)
    return wire.infer(MODEL, request, signature)


def _check(array: np.ndarray, expected: np.ndarray) -> None:
    assert (array.dtype, array.shape) == (expected.dtype, expected.shape)
    assert np.array_equal(array, expected) or array.tobytes() == expected.tobytes()
    assert array.flags.writeable


@pytest.mark.parametrize("dtype", ARRAYS)
def test_the_server_reads_over_rest_what_was_given(dtype: str) -> None:
    """Bit by bit, in the column format."""
    body = parse_object(_exchange(rest_wire, ARRAYS[dtype], _signature(dtype)).request.body)
    assert body["signature_name"] == "serving_default"
    data_type = messages.POOL.FindEnumTypeByName("tensorflow.DataType").values_by_name[dtype].number
    inputs = predict_inputs(body, {"x": data_type}, "")
    _check(inputs["x"], ARRAYS[dtype])


@pytest.mark.parametrize("dtype", ARRAYS)
@pytest.mark.parametrize("others", [(), ("z_bytes",)], ids=["one output", "several"])
def test_what_the_server_prints_is_read_with_the_dtype_of_the_metadata(dtype: str, others: tuple[str, ...]) -> None:
    """Bytes that are no UTF-8 are printed as they are; those of an output whose name ends in _bytes as base64."""
    array = ARRAYS[dtype]
    answer = outputs_json(dict.fromkeys(["x", *others], array), row_format=False)
    response = httpx.Response(200, content=answer.encode("utf-8", "surrogateescape"))
    outputs = _exchange(rest_wire, array, _signature(dtype, None, *others)).read(response)
    assert outputs.keys() == {"x", *others}
    for output in outputs.values():
        _check(output, array)


def test_a_single_output_of_bytes_is_no_object_of_outputs() -> None:
    """`{"outputs": {"b64": ...}}` is a scalar."""
    signature = Signature({"x": TensorInfo("DT_FLOAT", ())}, {"raw_bytes": TensorInfo("DT_STRING", ())}, "")
    response = httpx.Response(200, json={"outputs": {"b64": "/wA="}})
    assert _exchange(rest_wire, 1, signature).read(response)["raw_bytes"].item() == b"\xff\0"


@pytest.mark.parametrize("name", EMPTY)
def test_empty_arrays_go_over_rest_where_json_has_their_shape(name: str) -> None:
    """And come back with the sizes that the metadata fix."""
    array = EMPTY[name]
    exchange = _exchange(rest_wire, array, _signature("DT_FLOAT"))
    inputs = predict_inputs(parse_object(exchange.request.body), {"x": messages.DT_FLOAT}, "")
    assert inputs["x"].shape == array.shape
    nothing = _exchange(
        rest_wire, array, Signature({"x": TensorInfo("DT_FLOAT", None)}, {"y": TensorInfo("DT_INT32", (-1, 4))}, "")
    )
    _check(nothing.read(httpx.Response(200, json={"outputs": []}))["y"], np.zeros((0, 4), np.int32))


@pytest.mark.parametrize(
    ("array", "dtype", "text"),
    [
        (np.zeros((0, 4), np.float32), "DT_FLOAT", r"input x is empty, and JSON cannot tell its shape \[0, 4\]: name"),
        (np.zeros(1, np.complex64), "DT_COMPLEX64", "input x is complex64, which has no JSON form: name a gRPC server"),
    ],
)  # fmt: skip
def test_what_json_cannot_carry_is_refused(array: np.ndarray, dtype: str, text: str) -> None:
    """With the API that can."""
    with pytest.raises(ClientUsageError, match=text):
        _exchange(rest_wire, array, _signature(dtype))


@pytest.mark.parametrize("compressed", [False, True])
def test_rest_compresses_up_to_what_tf_serving_unpacks(compressed: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    """A larger body goes as it is."""
    array = np.zeros(GZIP_BYTES, np.uint8)
    size = len(
        json.dumps({"signature_name": "serving_default", "inputs": {"x": [0] * GZIP_BYTES}}, separators=(",", ":"))
    )
    monkeypatch.setattr("client.transports.rest_wire.MAX_GZIP_BYTES", size if compressed else size - 1)
    request = _exchange(rest_wire, array, _signature("DT_UINT8")).request
    assert (request.headers.get("Content-Encoding") == "gzip") == compressed
    body = gzip.decompress(request.body) if compressed else request.body
    assert json.loads(body)["inputs"]["x"] == [0] * GZIP_BYTES


@pytest.mark.parametrize(
    "answer",
    [{}, {"outputs": None}, {"outputs": ["a"]}, {"outputs": [2**40]}, {"outputs": [[1], 2]}, {"outputs": {"x": 1}}],
)
def test_rest_answers_that_are_not_of_the_dtype_are_a_servers_error(answer: object) -> None:
    """As those of another version, or of another server."""
    exchange = _exchange(rest_wire, 1, _signature("DT_INT32"))
    with pytest.raises(ServerError, match="INTERNAL: the answer is not a prediction: is this TF Serving's REST port"):
        exchange.read(httpx.Response(200, json=answer))


def test_rest_refuses_an_output_that_the_metadata_do_not_have() -> None:
    """Another version may have come since they were read."""
    exchange = _exchange(rest_wire, 1, _signature("DT_INT32", None, "y"))
    with pytest.raises(ServerError, match="the output 'z' is not in the metadata: has another version answered"):
        exchange.read(httpx.Response(200, json={"outputs": {"x": 1, "z": 1}}))


@pytest.mark.parametrize(
    ("dtype", "array"), [*{**ARRAYS, **COMPLEX}.items(), ("DT_FLOAT", np.zeros((0, 4), np.float32))]
)
@pytest.mark.parametrize("tensor_content", [False, True])
def test_grpc_carries_every_dtype_both_ways(dtype: str, array: np.ndarray, tensor_content: bool) -> None:
    """Bit by bit; what is given can be written to."""
    exchange = _exchange(grpc_wire, array, _signature(dtype), output_filter=["x"])
    request = exchange.request.message
    assert list(request.output_filter) == ["x"]
    sent = tensors.make_ndarray(request.inputs["x"])
    assert sent.dtype == array.dtype
    response = messages.PredictResponse()
    answer = tensors.make_tensor_proto(array, dtype=request.inputs["x"].dtype, tensor_content=tensor_content)
    response.outputs["x"].CopyFrom(answer)
    _check(exchange.read(response)["x"], sent)
    assert np.array_equal(sent, array) or sent.tobytes() == array.tobytes()


def test_a_tensor_of_grpc_that_cannot_be_read_is_a_servers_error() -> None:
    """With the reason."""
    response = messages.PredictResponse(outputs={"x": messages.TensorProto(dtype=messages.DT_RESOURCE)})
    with pytest.raises(ServerError, match="INTERNAL: an output cannot be read: DataType 20 has no array form"):
        _exchange(grpc_wire, 1, _signature("DT_INT32")).read(response)

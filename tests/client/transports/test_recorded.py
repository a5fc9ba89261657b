"""Any model's requests and answers against those of a real TF Serving (tests/contract), in memory."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import httpx
import numpy as np
import pytest
from google.protobuf import text_format

from client.calls import signature_of
from client.inputs import call, numpy_dtype
from client.transports import grpc_wire, rest_wire
from client.types import ModelSpec
from serving.apis import messages, tensors
from serving.apis.signatures import DEFAULT_SIGNATURE

_CONTRACT = Path(__file__).parents[2] / "contract"
_REST = {case["name"]: case for case in json.loads((_CONTRACT / "rest.json").read_text())}
_GRPC = {case["name"]: case for case in json.loads((_CONTRACT / "grpc.json").read_text())}
MODEL = ModelSpec("kitchen")
METADATA = rest_wire.metadata(MODEL).read(httpx.Response(200, content=_REST["metadata"]["response"]["body"]))
COLUMNS = ["column_unnamed", "two_outputs_column", "dtypes_column", "scalar_column_named", "fixed_column"]
# Without those that TF Serving takes, and the client does not.
PREDICTIONS = [
    name
    for name, case in _GRPC.items()
    if case["method"] == "Predict"
    and case["response"]["code"] == "OK"
    and not name.startswith("err_")
    and "version" not in case["request"]
]


@pytest.mark.parametrize("name", COLUMNS)
def test_what_tf_serving_read_and_printed_over_rest(name: str) -> None:
    """The client makes the same request of the same values, and reads the answer with the dtypes of the metadata."""
    case = _REST[name]
    body = json.loads(case["request"]["body"])
    signature_name, signature = signature_of(METADATA, body.get("signature_name"))
    inputs: Any = body["inputs"]
    if not isinstance(inputs, dict):
        inputs = {next(iter(signature.inputs)): inputs}
    request, signature = call(inputs, METADATA, signature_name)
    exchange = rest_wire.infer(MODEL, request, signature)
    sent = json.loads(exchange.request.body)
    assert exchange.request.path == case["request"]["path"]
    assert sent["signature_name"] == signature_name
    assert sent["inputs"].keys() == inputs.keys()
    for key, values in inputs.items():
        if signature.inputs[key].dtype != "DT_STRING":
            np.testing.assert_allclose(sent["inputs"][key], values, rtol=1e-6)
    printed = json.loads(case["response"]["body"])["outputs"]
    outputs = exchange.read(httpx.Response(200, content=case["response"]["body"]))
    assert outputs.keys() == signature.outputs.keys()
    for key, array in outputs.items():
        assert array.dtype == numpy_dtype(key, signature.outputs[key])
        if array.dtype.kind != "O":
            values = printed[key] if len(outputs) > 1 else printed
            np.testing.assert_allclose(array, np.array(values), rtol=1e-6)
            assert array.shape == np.shape(values)


@pytest.mark.parametrize("name", PREDICTIONS)
def test_what_tf_serving_read_and_sent_over_grpc(name: str) -> None:
    """The client's request has the same tensors, and the answer's tensors are arrays."""
    case = _GRPC[name]
    recorded = text_format.Parse(case["request"], messages.PredictRequest())
    signature_name = recorded.model_spec.signature_name or DEFAULT_SIGNATURE
    inputs = {key: tensors.make_ndarray(proto) for key, proto in recorded.inputs.items()}
    signature = METADATA.signatures[signature_name]
    request, signature = call(inputs, METADATA, signature_name, list(recorded.output_filter))
    exchange = grpc_wire.infer(MODEL, request, signature)
    sent = exchange.request.message
    assert list(sent.output_filter) == list(recorded.output_filter)
    for key, array in inputs.items():
        assert sent.inputs[key].dtype == recorded.inputs[key].dtype
        np.testing.assert_array_equal(tensors.make_ndarray(sent.inputs[key]), array)
    response = messages.PredictResponse.FromString(bytes.fromhex(case["response"]["serialized"]))
    outputs = exchange.read(response)
    assert outputs.keys() == set(recorded.output_filter or signature.outputs)
    for key, array in outputs.items():
        assert array.dtype == numpy_dtype(key, signature.outputs[key])

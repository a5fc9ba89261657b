"""Messages of PredictionService over REST, in memory: what is sent is what the embedded server reads as the same."""

from __future__ import annotations

import json
import math
from typing import Any

import httpx
import numpy as np
import pytest
from google.protobuf import text_format

from client.errors import ClientUsageError, ServerError
from client.transports import grpc_wire, rest_wire
from serving.apis import messages, services
from serving.apis.tensors import make_ndarray, make_tensor_proto
from serving.embedded.rest.json.examples import examples_input


def _predict(**inputs: object) -> messages.PredictRequest:
    request = messages.PredictRequest(model_spec=messages.ModelSpec(name="m", signature_name="s"))
    for name, values in inputs.items():
        request.inputs[name].CopyFrom(make_tensor_proto(values))  # type: ignore[arg-type]
    return request


def _body(request: Any) -> dict[str, Any]:
    body: dict[str, Any] = json.loads(rest_wire.message(request).request.body)
    return body


def _read(request: Any, answer: object) -> Any:
    return rest_wire.message(request).read(httpx.Response(200, json=answer))


@pytest.mark.parametrize(
    ("request_class", "method"),
    [
        (messages.PredictRequest, services.PREDICT),
        (messages.ClassificationRequest, services.CLASSIFY),
        (messages.RegressionRequest, services.REGRESS),
        (messages.MultiInferenceRequest, services.MULTI_INFERENCE),
    ],
)
def test_grpc_sends_a_message_as_it_is(request_class: type[Any], method: services.Method) -> None:
    """To its method; what is answered is read as it is."""
    request = request_class()
    exchange = grpc_wire.message(request)
    assert (exchange.request.method, exchange.request.message) == (method, request)
    assert exchange.read(request) is request


def test_tensors_are_columns() -> None:
    """Numbers as they are, bytes as base64, of any shape."""
    floats, strings = np.array([[0.5, math.inf]], np.float32), np.array([[b"\xff\0"]], object)
    request = _predict(floats=floats, bytes=strings, scalar=np.int64(2**53 + 1))
    assert _body(request) == {
        "signature_name": "s",
        "inputs": {"floats": [[0.5, math.inf]], "bytes": [[{"b64": "/wA="}]], "scalar": 2**53 + 1},
    }


@pytest.mark.parametrize(
    ("spec", "path"),
    [
        ("name: 'm n'", "/v1/models/m%20n:predict"),
        ("name: 'm' version { value: 3 }", "/v1/models/m/versions/3:predict"),
        ("name: 'm' version { }", "/v1/models/m/versions/0:predict"),
        ("name: 'm' version_label: 'stable'", "/v1/models/m/labels/stable:predict"),
    ],
)
def test_the_model_is_in_the_path(spec: str, path: str) -> None:
    """A version or a label too."""
    request = messages.PredictRequest(model_spec=text_format.Parse(spec, messages.ModelSpec()))
    assert rest_wire.message(request).request.path == path


@pytest.mark.parametrize(
    ("request_class", "verb"), [(messages.ClassificationRequest, "classify"), (messages.RegressionRequest, "regress")]
)
@pytest.mark.parametrize("context", [True, False])
def test_examples_are_read_as_they_were(request_class: type[Any], verb: str, *, context: bool) -> None:
    """By the embedded server: floats, integers and bytes, one or several; with a context too."""
    text = """features {
        feature { key: "floats" value { float_list { value: 1 value: 0.25 } } }
        feature { key: "int" value { int64_list { value: 9007199254740993 } } }
        feature { key: "bytes" value { bytes_list { value: "\\377\\000" value: "b" } } } }"""
    request = request_class(model_spec=messages.ModelSpec(name="m", signature_name="s"))
    target = request.input.example_list_with_context if context else request.input.example_list
    for _ in range(2):
        text_format.Parse(text, target.examples.add())
    if context:
        text_format.Parse(text, target.context)
    assert rest_wire.message(request).request.path == f"/v1/models/m:{verb}"
    body = _body(request)
    assert body["signature_name"] == "s"
    assert examples_input(body) == request.input


@pytest.mark.parametrize(
    ("request_message", "why"),
    [
        (messages.MultiInferenceRequest(), "REST has no MultiInferenceRequest: name a gRPC server with --server grpc"),
        (messages.PredictRequest(output_filter=["a", "b"]), "REST cannot carry the output_filter a, b: name a gRPC"),
        (_predict(x=np.array([1j])), "the input x is complex128, which has no JSON form: name a gRPC server"),
        (
            messages.PredictRequest(inputs={"x": messages.TensorProto(dtype=20)}),
            "the input x cannot be sent over REST: DataType 20 has no array form: name a gRPC server",
        ),
    ],
    ids=["multi_inference", "output_filter", "complex", "resource"],
)
def test_what_rest_cannot_carry_is_refused(request_message: Any, why: str) -> None:
    """With the reason, before anything is sent."""
    with pytest.raises(ClientUsageError, match=why):
        rest_wire.message(request_message)


def test_outputs_are_read_as_tensors() -> None:
    """JSON tells integers from floats and text from bytes, and leaves out the name of a single output."""
    answer = {"outputs": {"p": [[0.5, 1.0]], "id": [7], "name": ["Bag"], "raw": [{"b64": "/wA="}], "scalar": 2}}
    outputs = {name: make_ndarray(proto) for name, proto in _read(_predict(), answer).outputs.items()}
    assert outputs["p"].tolist() == [[0.5, 1.0]]
    assert outputs["id"].dtype == np.int64
    assert (outputs["id"].tolist(), outputs["scalar"].item()) == ([7], 2)
    assert (outputs["name"].tolist(), outputs["raw"].tolist()) == ([b"Bag"], [b"\xff\0"])
    [(name, single)] = _read(_predict(), {"outputs": [[1, 2]]}).outputs.items()
    assert (name, make_ndarray(single).tolist()) == ("", [[1, 2]])


def test_results_are_read_as_messages() -> None:
    """Classes with their scores, and values."""
    classification = _read(messages.ClassificationRequest(), {"results": [[["yes", 0.25], ["no", 0.75]], []]})
    assert [[(item.label, item.score) for item in row.classes] for row in classification.result.classifications] == [
        [("yes", 0.25), ("no", 0.75)],
        [],
    ]
    regression = _read(messages.RegressionRequest(), {"results": [3.5, 4]})
    assert [row.value for row in regression.result.regressions] == [3.5, 4]


@pytest.mark.parametrize("request_class", [messages.ClassificationRequest, messages.RegressionRequest])
@pytest.mark.parametrize("answer", [{}, {"results": 1}, {"results": [["x"]]}, {"results": [[["x"]]]}])
def test_answers_that_are_none_are_one_error(request_class: type[Any], answer: object) -> None:
    """INTERNAL, with the guess that another server is there; HTTP's errors are those of every request."""
    with pytest.raises(ServerError, match="INTERNAL: the answer is not a classification or regression: is this"):
        _read(request_class(), answer)
    with pytest.raises(ServerError, match="NOT_FOUND: gone"):
        rest_wire.message(request_class()).read(httpx.Response(404, json={"error": "gone"}))

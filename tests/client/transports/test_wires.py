"""The requests and responses of both APIs in memory: what is sent, and what becomes of odd answers."""

from __future__ import annotations

import base64
import functools
import gzip
import json
import struct

import httpx
import pytest
from google.protobuf import text_format

from client.errors import ClientUsageError, ServerError
from client.limits import GZIP_BYTES
from client.transports import grpc_wire, rest_wire
from client.types import Call, Metadata, ModelSpec, Output, Signature, Tensor, TensorInfo, VersionStatus
from fashion_common.trace_context import parse
from serving.apis import messages, services
from tests.support.records import TRACEPARENT

_PIXELS = Call("serving_default", {"images": Tensor("DT_UINT8", (2, 2), b"\0\1\2\3")})
_LARGE = Call("serving_default", {"images": Tensor("DT_UINT8", (200,), bytes(200))})
_FILES = Call("encoded_images", {"image_bytes": Tensor("DT_STRING", (1,), [b"\x89PNG"])})


def _rest_outputs(answer: object) -> dict[str, Output]:
    exchange = rest_wire.predict(ModelSpec(), lambda: iter([_PIXELS]))
    return exchange.read(httpx.Response(200, json=answer))


def _grpc_outputs(**outputs: messages.TensorProto) -> dict[str, Output]:
    exchange = grpc_wire.predict(ModelSpec(), lambda: iter([_PIXELS]))
    response = messages.PredictResponse()
    for name, output in outputs.items():
        response.outputs[name].CopyFrom(output)
    return exchange.read(response)


def _tensor(dtype: int, *shape: int, **content: object) -> messages.TensorProto:
    tensor = messages.TensorProto(dtype=dtype, **content)  # type: ignore[arg-type]
    for size in shape:
        tensor.tensor_shape.dim.add(size=size)
    return tensor


def test_grpc_sends_pixels_as_tensor_content() -> None:
    """The model's version and signature beside them; strings as string_val."""
    request = grpc_wire.predict(ModelSpec("m", version=3), lambda: iter([_PIXELS, _FILES])).request
    assert request.method is services.PREDICT
    spec = request.message.model_spec
    assert (spec.name, spec.version.value, spec.signature_name) == ("m", 3, "serving_default")
    tensor = request.message.inputs["images"]
    assert (tensor.tensor_content, [dim.size for dim in tensor.tensor_shape.dim]) == (b"\0\1\2\3", [2, 2])
    strings = grpc_wire.predict_request(ModelSpec(version_label="stable"), _FILES)
    assert list(strings.inputs["image_bytes"].string_val) == [b"\x89PNG"]
    assert strings.model_spec.version_label == "stable"


def test_grpc_reads_both_ways_of_carrying_numbers() -> None:
    """`tensor_content` is little-endian bytes; the typed fields hold the same."""
    outputs = _grpc_outputs(
        content=_tensor(1, 2, tensor_content=struct.pack("<2f", 0.5, 2)),
        typed=_tensor(9, 2, int64_val=[7, 8]),
        names=_tensor(7, 1, string_val=[b"Bag"]),
    )
    assert outputs == {
        "content": Output((2,), [0.5, 2]),
        "typed": Output((2,), [7, 8]),
        "names": Output((1,), [b"Bag"]),
    }


@pytest.mark.parametrize(
    ("tensor", "error"),
    [
        (_tensor(1, 2, tensor_content=b"\0\0\0"), "the output scores is cut short"),
        (
            _tensor(19, 2, half_val=[1]),
            "the output scores is DT_HALF: a classifier answers floats, integers or strings",
        ),
    ],
    ids=["cut", "half"],
)
def test_a_tensor_that_cannot_be_read_is_a_servers_error(tensor: messages.TensorProto, error: str) -> None:
    """With the output's name."""
    with pytest.raises(ServerError, match=f"^INTERNAL: {error}"):
        _grpc_outputs(scores=tensor)


def test_metadata_without_signatures_is_a_servers_error() -> None:
    """The bytes in the Any are not a SignatureDefMap."""
    response = messages.GetModelMetadataResponse()
    response.metadata["signature_def"].value = b"\xff"
    with pytest.raises(ServerError, match="the server's metadata cannot be read"):
        grpc_wire.metadata(ModelSpec()).read(response)


def test_a_server_tells_its_runtimes_or_does_not() -> None:
    """TF Serving has no such header; a version that is not among them has none."""
    entries = [{"version": str(number), "state": "AVAILABLE", "status": {}} for number in (2, 1)]
    rest = rest_wire.status(ModelSpec())
    statuses = [messages.ModelVersionStatus(version=number, state=30) for number in (2, 1)]
    message = messages.GetModelStatusResponse(model_version_status=statuses)
    grpc = grpc_wire.status(ModelSpec())
    for header, expected in (("2=litert", ["litert", ""]), ("", ["", ""])):
        headers = {"x-runtimes": header} if header else {}
        response = httpx.Response(200, json={"model_version_status": entries}, headers=headers)
        assert [version.runtime for version in rest.read(response)] == expected
        assert [version.runtime for version in grpc.read((message, tuple(headers.items())))] == expected


def test_rest_sends_the_call_with_the_smaller_body() -> None:
    """In the column format, strings as base64; a version or a label is part of the path."""
    request = rest_wire.predict(ModelSpec("a b", version=3), lambda: iter([_PIXELS, _FILES])).request
    assert (request.method, request.path) == ("POST", "/v1/models/a%20b/versions/3:predict")
    assert json.loads(request.body) == {"signature_name": "serving_default", "inputs": {"images": [[0, 1], [2, 3]]}}
    for calls in ([_FILES, _LARGE], [_LARGE, _FILES]):
        body = rest_wire.predict(ModelSpec(), functools.partial(iter, calls)).request.body
        assert json.loads(body)["signature_name"] == "encoded_images"
    request = rest_wire.predict_request(ModelSpec(version_label="stable"), _FILES)
    assert request.path == "/v1/models/fashion_mnist/labels/stable:predict"
    assert json.loads(request.body or b"")["inputs"] == {
        "image_bytes": [{"b64": base64.b64encode(b"\x89PNG").decode()}]
    }


def test_rest_compresses_bodies_that_do_not_fit_into_a_packet() -> None:
    """The header says so."""
    call = Call("serving_default", {"images": Tensor("DT_UINT8", (GZIP_BYTES,), bytes(GZIP_BYTES))})
    request = rest_wire.predict_request(ModelSpec(), call)
    assert request.headers["Content-Encoding"] == "gzip"
    assert json.loads(gzip.decompress(request.body or b""))["inputs"]["images"] == [0] * GZIP_BYTES
    assert len(request.body or b"") < GZIP_BYTES / 10


def test_rest_reads_shapes_from_the_nesting_and_bytes_from_base64() -> None:
    """A single output has no name."""
    assert _rest_outputs({"outputs": [[0.25, 0.75]]}) == {"": Output((1, 2), [0.25, 0.75])}
    names = {"outputs": {"class_names": ["Bag", {"b64": base64.b64encode(b"\xff").decode()}]}}
    assert _rest_outputs(names) == {"class_names": Output((2,), [b"Bag", b"\xff"])}


@pytest.mark.parametrize("outputs", [[[1], 2], [{"b65": ""}]], ids=["ragged", "object"])
def test_rest_answers_that_are_no_tensors_are_a_servers_error(outputs: object) -> None:
    """As another web server on that port would give."""
    with pytest.raises(ServerError, match="the answer is not a prediction: is this TF Serving's REST port"):
        _rest_outputs({"outputs": outputs})


def test_rest_reads_a_signature_of_unknown_rank() -> None:
    """Signatures that nobody can run are left out."""
    shape = {"unknown_rank": True, "dim": []}
    signature = {"inputs": {"x": {"dtype": "DT_FLOAT", "tensor_shape": shape}}, "outputs": {}, "method_name": "m"}
    answer = {
        "model_spec": {"name": "m", "version": "3"},
        "metadata": {"signature_def": {"signature_def": {"a": signature, "__saved_model_init_op": signature}}},
    }
    metadata = rest_wire.metadata(ModelSpec()).read(httpx.Response(200, json=answer))
    assert (metadata.model_name, metadata.version, list(metadata.signatures)) == ("m", 3, ["a"])
    assert metadata.signatures["a"].inputs == {"x": TensorInfo("DT_FLOAT", None)}


@pytest.mark.parametrize(
    ("dtype", "field", "code"),
    [(1, "float_val", "f"), (2, "double_val", "d"), (3, "int_val", "i"), (9, "int64_val", "q")],
)
def test_every_kind_of_number_is_read_both_ways(dtype: int, field: str, code: str) -> None:
    """As bytes, and in its typed field; in the shape that it has."""
    numbers = [1, -2, 3, 4, 5, 100]
    content = struct.pack(f"<6{code}", *numbers)
    for tensor in (_tensor(dtype, 2, 3, tensor_content=content), _tensor(dtype, 2, 3, **{field: numbers})):
        assert _grpc_outputs(x=tensor) == {"x": Output((2, 3), numbers)}


_STATES = [
    VersionStatus(3, "END", "INTERNAL", "no file"), VersionStatus(2, "LOADING"),
    VersionStatus(1, "AVAILABLE", runtime="litert"),
]  # fmt: skip


def test_both_apis_read_the_same_states() -> None:
    """In the server's order, with what is wrong and who serves them."""
    message = text_format.Parse(
        """model_version_status { version: 3 state: END status { error_code: INTERNAL error_message: "no file" } }
        model_version_status { version: 2 state: LOADING } model_version_status { version: 1 state: AVAILABLE }""",
        messages.GetModelStatusResponse(),
    )
    grpc = grpc_wire.status(ModelSpec("m", 0))
    assert grpc.request.trailers
    assert grpc.request.method is services.GET_MODEL_STATUS
    assert (grpc.request.message.model_spec.name, grpc.request.message.model_spec.HasField("version")) == ("m", True)
    assert grpc.read((message, (("x-runtimes", "1=litert"),))) == _STATES
    entries = [
        {"version": "3", "state": "END", "status": {"error_code": "INTERNAL", "error_message": "no file"}},
        {"version": "2", "state": "LOADING", "status": {"error_code": "OK", "error_message": ""}},
        {"version": "1", "state": "AVAILABLE", "status": {}},
    ]
    rest = rest_wire.status(ModelSpec("m", 0))
    assert rest.request == ("GET", "/v1/models/m/versions/0", {}, None)
    response = httpx.Response(200, json={"model_version_status": entries}, headers={"x-runtimes": "1=litert"})
    assert rest.read(response) == _STATES


def test_both_apis_read_the_same_metadata() -> None:
    """Signatures, their inputs and outputs, sorted; what has no version is of version 0."""
    signature = text_format.Parse(
        """inputs { key: "b" value { dtype: DT_FLOAT tensor_shape { dim { size: -1 } dim { size: 4 } } } }
        inputs { key: "a" value { dtype: DT_STRING tensor_shape { unknown_rank: true } } }
        outputs { key: "y" value { dtype: DT_INT64 tensor_shape { } } } method_name: "tensorflow/serving/predict" """,
        messages.SignatureDef(),
    )
    definitions = messages.SignatureDefMap()
    for name in ("z", "serving_default"):
        definitions.signature_def[name].CopyFrom(signature)
    response = messages.GetModelMetadataResponse(model_spec=messages.ModelSpec(name="m"))
    response.metadata["signature_def"].Pack(definitions)
    exchange = grpc_wire.metadata(ModelSpec("m", version_label="stable"))
    assert exchange.request.message == messages.GetModelMetadataRequest(
        model_spec=messages.ModelSpec(name="m", version_label="stable"), metadata_field=["signature_def"]
    )
    assert (exchange.request.method, exchange.request.trailers) == (services.GET_MODEL_METADATA, False)
    found = exchange.read(response)
    expected = Signature(
        {"a": TensorInfo("DT_STRING", None), "b": TensorInfo("DT_FLOAT", (-1, 4))},
        {"y": TensorInfo("DT_INT64", ())},
        "tensorflow/serving/predict",
    )
    assert found == Metadata("m", 0, {"serving_default": expected, "z": expected})
    assert list(found.signatures) == ["serving_default", "z"]
    info = {
        "inputs": {
            "b": {"dtype": "DT_FLOAT", "tensor_shape": {"dim": [{"size": "-1"}, {"size": "4"}], "unknown_rank": False}},
            "a": {"dtype": "DT_STRING", "tensor_shape": {"dim": [], "unknown_rank": True}},
        },
        "outputs": {"y": {"dtype": "DT_INT64", "tensor_shape": {"dim": [], "unknown_rank": False}}},
        "method_name": "tensorflow/serving/predict",
    }
    definition = {"signature_def": {"z": info, "serving_default": info}}
    answer = {"model_spec": {"name": "m"}, "metadata": {"signature_def": definition}}
    rest = rest_wire.metadata(ModelSpec("m", version_label="a/b"))
    assert rest.request == ("GET", "/v1/models/m/labels/a%2Fb/metadata", {}, None)
    assert rest.read(httpx.Response(200, json=answer)) == found


@pytest.mark.parametrize(("over", "is_compressed"), [(0, False), (1, True)])
def test_a_body_of_one_packet_goes_as_it_is(over: int, *, is_compressed: bool) -> None:
    """1,400 bytes; the same request is the same bytes whenever it is made."""
    name = "n" * (GZIP_BYTES + over - len('{"signature_name":"","inputs":{"x":[0]}}'))
    request = rest_wire.predict_request(ModelSpec("m"), Call(name, {"x": Tensor("DT_UINT8", (1,), b"\0")}))
    headers = {"Content-Type": "application/json"} | ({"Content-Encoding": "gzip"} if is_compressed else {})
    assert (request.method, request.path, request.headers) == ("POST", "/v1/models/m:predict", headers)
    body = request.body or b""
    if is_compressed:
        assert body[4:8] == bytes(4)
        body = gzip.decompress(body)
    assert body == f'{{"signature_name":"{name}","inputs":{{"x":[0]}}}}'.encode()


def test_an_error_over_rest_has_what_it_is_found_by() -> None:
    """Its status, the request's id and the trace; a text of ours where the server gives none."""
    headers = {"x-request-id": "abc", "traceresponse": TRACEPARENT}
    for body, details in (
        (b'{"error": "no such model"}', "no such model"),
        (b'{"error": ""}', "HTTP status 404"),
        (b"{}", "HTTP status 404"),
        (b"[1]", "HTTP status 404"),
        (b"<html>", "HTTP status 404"),
    ):
        with pytest.raises(ServerError) as raised:
            rest_wire.status(ModelSpec()).read(httpx.Response(404, content=body, headers=headers))
        error = raised.value
        assert (error.code, error.details, error.http_status) == ("NOT_FOUND", details, 404)
        assert (error.request_id, error.trace_id) == ("abc", TRACEPARENT.split("-")[1])
    with pytest.raises(ServerError) as raised:
        rest_wire.metrics().read(httpx.Response(500, content=b"{}"))
    assert (raised.value.code, raised.value.details, raised.value.request_id) == ("INTERNAL", "HTTP status 500", "")


def test_metrics_are_text_over_rest_only() -> None:
    """The error names the port that has them."""
    exchange = rest_wire.metrics()
    assert exchange.request == ("GET", "/monitoring/prometheus/metrics", {}, None)
    assert exchange.read(httpx.Response(200, text="# metrics")) == "# metrics"
    with pytest.raises(ClientUsageError) as raised:
        grpc_wire.metrics()
    assert str(raised.value) == "metrics are on the REST port: ask http://HOST:8501"


@pytest.mark.parametrize(
    ("outputs", "expected"),
    [
        ([], Output((0,), [])),
        ([[], []], Output((2, 0), [])),
        (3, Output((), [3])),
        ("a\udcff", Output((), [b"a\xff"])),
        ([[["ä"]]], Output((1, 1, 1), ["ä".encode()])),
        ([{"b64": "/w=="}, "b"], Output((2,), [b"\xff", b"b"])),
    ],
)
def test_a_shape_is_that_of_the_lists(outputs: object, expected: Output) -> None:
    """To the first empty one; text is bytes, whatever it was."""
    exchange = rest_wire.predict(ModelSpec(), lambda: iter([_PIXELS]))
    content = json.dumps({"outputs": outputs}, ensure_ascii=False).encode("utf-8", "surrogateescape")
    assert exchange.read(httpx.Response(200, content=content)) == {"": expected}


def test_where_a_request_over_grpc_is_found() -> None:
    """In the status's details, where the server tells; what cannot be read says nothing."""
    info = messages.RequestInfo(request_id="abc", serving_data=TRACEPARENT)
    status = messages.Status()
    status.details.add(type_url="type.googleapis.com/google.rpc.Other", value=b"\xff")
    status.details.add(type_url="type.googleapis.com/google.rpc.RequestInfo", value=info.SerializeToString())
    trailers = (("a", "b"), ("grpc-status-details-bin", status.SerializeToString()))
    assert grpc_wire.origin(trailers) == ("abc", parse(TRACEPARENT))
    key = "grpc-status-details-bin"
    for nothing in (None, (), trailers[:1], ((key, b"\xff"),), ((key, "x"),)):
        assert grpc_wire.origin(nothing) == ("", None)

"""The requests and responses of both APIs in memory: what is sent, and what becomes of odd answers."""

from __future__ import annotations

import base64
import gzip
import json
import struct

import httpx
import pytest

from client.errors import ServerError
from client.limits import GZIP_BYTES
from client.transports import grpc_wire, rest_wire
from client.types import Call, ModelSpec, Output, Tensor, TensorInfo
from serving.apis import messages, services

_PIXELS = Call("serving_default", {"images": Tensor("DT_UINT8", (2, 2), b"\0\1\2\3")})
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

"""TF Serving's REST requests and answers to and from the client's own types, without input and output.

What cannot be read in an answer is a ServerError with the code INTERNAL.
Source: https://www.tensorflow.org/tfx/serving/api_rest
"""

from __future__ import annotations

import base64
import functools
import gzip
import json
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, Literal, NamedTuple
from urllib.parse import quote

from client.errors import ServerError, server_error
from client.limits import GZIP_BYTES, MAX_GZIP_BYTES
from client.transports.base import Exchange
from client.types import (
    INTERNAL,
    Call,
    Calls,
    Metadata,
    ModelSpec,
    Output,
    Signature,
    Tensor,
    TensorInfo,
    VersionStatus,
)
from fashion_common.trace_context import TRACERESPONSE, parse
from serving.apis import runtimes
from serving.apis.status import Code

if TYPE_CHECKING:
    import httpx
    from google.protobuf.message import Message

    from serving.apis import messages
    from serving.apis.tensors import Array

_OK = 200
# memoryview's format codes for the dtypes of a call.
_FORMATS: dict[str, Literal["B", "f"]] = {"DT_UINT8": "B", "DT_FLOAT": "f"}


class Request(NamedTuple):
    """One HTTP request: method, path, headers and body."""

    method: str
    path: str
    headers: dict[str, str]
    body: bytes | None


def predict(model: ModelSpec, calls: Calls) -> Exchange[dict[str, Output]]:
    """The call with the smallest body, in the column format; read as output name -> shape and flat values.

    TF Serving sends a single output without its name: here its name is "".
    """
    requests = ((predict_request(model, call), call) for call in calls())
    request, call = min(requests, key=lambda pair: len(pair[0].body or b""))
    return Exchange(request, _outputs, functools.partial(_messages, model, call))


def infer(model: ModelSpec, call: Call, signature: Signature) -> Exchange[dict[str, Array]]:
    """A call of any signature in the column format, which has scalars and columns of several lengths too.

    REST answers all outputs: those that are not wanted are dropped here.
    """
    from client.transports import rest_messages

    inputs = {name: rest_messages.column(name, _array(tensor)) for name, tensor in call.inputs.items()}
    request = _post(model, "predict", {"signature_name": call.signature_name, "inputs": inputs})

    def read(response: httpx.Response) -> dict[str, Array]:
        with _expecting("a prediction"):
            arrays = rest_messages.output_arrays(_outputs(response, signature), signature)
        return {name: array for name, array in arrays.items() if name in (call.output_filter or arrays)}

    return Exchange(request, read, functools.partial(_messages, model, call))


def message(request: Any) -> Exchange[Message]:
    """The message as JSON; read as the response's message, with what JSON tells of it."""
    from client.transports import rest_messages

    verb = rest_messages.verb(request)
    http_request = _post(_model(request.model_spec), verb, rest_messages.body(request))
    if verb == "predict":
        return Exchange(http_request, lambda response: rest_messages.predict_response(_outputs(response)))
    return Exchange(http_request, lambda response: _results(response, rest_messages.RESPONSES[verb]))


def status(model: ModelSpec) -> Exchange[list[VersionStatus]]:
    """GET of the model's status; read as the versions in the server's order."""
    return Exchange(Request("GET", _path(model), {}, None), _version_statuses)


def metadata(model: ModelSpec) -> Exchange[Metadata]:
    """GET of the model's metadata."""
    return Exchange(Request("GET", f"{_path(model)}/metadata", {}, None), _metadata)


def metrics() -> Exchange[str]:
    """GET of the metrics, where serving/config/monitoring.config has them."""
    return Exchange(Request("GET", "/monitoring/prometheus/metrics", {}, None), _text)


def predict_request(model: ModelSpec, call: Call) -> Request:
    """The request for a call: bytes as base64, the body gzipped where that pays."""
    columns = {name: _column(tensor) for name, tensor in call.inputs.items()}
    return _post(model, "predict", {"signature_name": call.signature_name, "inputs": columns})


def _post(model: ModelSpec, verb: str, content: Mapping[str, Any]) -> Request:
    body = json.dumps(content, separators=(",", ":")).encode()
    headers = {"Content-Type": "application/json"}
    if GZIP_BYTES < len(body) <= MAX_GZIP_BYTES:
        body = gzip.compress(body, compresslevel=1, mtime=0)
        headers["Content-Encoding"] = "gzip"
    return Request("POST", f"{_path(model)}:{verb}", headers, body)


def _outputs(response: httpx.Response, signature: Signature | None = None) -> dict[str, Output]:
    answer = _answer(response)
    with _expecting("a prediction"):
        outputs = answer["outputs"]
        # A single output of bytes is an object too.
        is_single = not isinstance(outputs, dict) or (signature is not None and len(signature.outputs) == 1)
        columns = {"": outputs} if is_single else outputs
        return {name: _output(values) for name, values in columns.items()}


def _messages(
    model: ModelSpec, call: Call, response: httpx.Response, metadata: Metadata
) -> tuple[messages.PredictRequest, messages.PredictResponse]:
    """What gRPC would have sent and received, but for the version that answered, which REST does not tell."""
    from client.transports.grpc_wire import predict_request
    from client.transports.rest_messages import predict_response

    signature = metadata.signatures.get(call.signature_name, Signature({}, {}, ""))
    return predict_request(model, call), predict_response(_outputs(response, signature), signature)


def _results(response: httpx.Response, message: Callable[[Any], Message]) -> Message:
    answer = _answer(response)
    with _expecting("a classification or regression"):
        return message(answer["results"])


def _version_statuses(response: httpx.Response) -> list[VersionStatus]:
    answer = _answer(response)
    served_by = runtimes.read_header(response.headers.get(runtimes.HEADER, ""))
    with _expecting("a model's status"):
        return [
            VersionStatus(
                version=int(entry["version"]),
                state=entry["state"],
                error_code=entry["status"].get("error_code", "OK"),
                error_message=entry["status"].get("error_message", ""),
                runtime=served_by.get(int(entry["version"]), ""),
            )
            for entry in answer["model_version_status"]
        ]


def _metadata(response: httpx.Response) -> Metadata:
    answer = _answer(response)
    with _expecting("a model's metadata"):
        spec, signatures = answer["model_spec"], answer["metadata"]["signature_def"]["signature_def"]
        return Metadata(
            spec["name"],
            int(spec.get("version", 0)),
            {
                name: Signature(
                    {key: _tensor_info(info) for key, info in sorted(signature.get("inputs", {}).items())},
                    {key: _tensor_info(info) for key, info in sorted(signature.get("outputs", {}).items())},
                    signature.get("method_name", ""),
                )
                for name, signature in sorted(signatures.items())
                if not name.startswith(INTERNAL)
            },
        )


@contextmanager
def _expecting(subject: str) -> Iterator[None]:
    """Turns what a foreign answer breaks into one ServerError."""
    try:
        yield
    except (KeyError, TypeError, ValueError, OverflowError, AttributeError) as error:
        raise ServerError("INTERNAL", f"the answer is not {subject}: is this TF Serving's REST port?") from error


def _text(response: httpx.Response) -> str:
    if response.status_code != _OK:
        raise _server_error(response, f"HTTP status {response.status_code}")
    return response.text


def _answer(response: httpx.Response) -> dict[str, Any]:
    try:
        # Strings of the model are sent as they are, which need not be UTF-8.
        answer = json.loads(response.content.decode("utf-8", "surrogateescape"))
    except ValueError:
        answer = None
    if response.status_code != _OK:
        details = answer.get("error") if isinstance(answer, dict) else None
        raise _server_error(response, str(details or f"HTTP status {response.status_code}"))
    if not isinstance(answer, dict):
        raise ServerError("INTERNAL", "the answer is not a JSON object: is this TF Serving's REST port?")
    return answer


def _server_error(response: httpx.Response, details: str) -> ServerError:
    trace = parse(response.headers.get(TRACERESPONSE, ""))
    code = Code.of_http_status(response.status_code)
    error = server_error(code.name, details).locate(response.headers.get("x-request-id", ""), trace)
    error.http_status = response.status_code
    return error


def _model(spec: Any) -> ModelSpec:
    return ModelSpec(spec.name, spec.version.value if spec.HasField("version") else None, spec.version_label or None)


def _path(model: ModelSpec) -> str:
    path = f"/v1/models/{quote(model.name, safe='')}"
    if model.version is not None:
        return f"{path}/versions/{model.version}"
    if model.version_label is not None:
        return f"{path}/labels/{quote(model.version_label, safe='')}"
    return path


def _column(tensor: Tensor) -> Any:
    if not isinstance(tensor.content, bytes):
        return [{"b64": base64.b64encode(value).decode()} for value in tensor.content]
    return memoryview(tensor.content).cast(_FORMATS[tensor.dtype], tensor.shape).tolist()


def _array(tensor: Tensor) -> Array:
    import numpy as np

    from serving.apis import messages, tensors

    if not isinstance(tensor.content, bytes):
        return np.array(tensor.content, object).reshape(tensor.shape)
    data_type = messages.POOL.FindEnumTypeByName("tensorflow.DataType").values_by_name[tensor.dtype].number
    dtype = tensors.numpy_dtype(data_type)
    return np.frombuffer(tensor.content, dtype.newbyteorder("<")).astype(dtype, copy=False).reshape(tensor.shape)


def _output(values: object) -> Output:
    shape: list[int] = []
    flat: list[Any] = [values]
    while flat and isinstance(flat[0], list):
        shape.append(len(flat[0]))
        flat = [item for row in flat for item in row]
    return Output(tuple(shape), [_bytes(value) if isinstance(value, str | dict) else value for value in flat])


def _bytes(value: str | dict[str, str]) -> bytes:
    return value.encode("utf-8", "surrogateescape") if isinstance(value, str) else base64.b64decode(value["b64"])


def _tensor_info(info: Mapping[str, Any]) -> TensorInfo:
    shape = info["tensor_shape"]
    sizes: Sequence[Mapping[str, str]] = shape.get("dim", [])
    return TensorInfo(info["dtype"], None if shape.get("unknown_rank") else tuple(int(dim["size"]) for dim in sizes))

"""TF Serving's REST requests and answers to and from the client's own types; what the sync and async transport share.

Source: https://www.tensorflow.org/tfx/serving/api_rest
"""

from __future__ import annotations

import base64
import gzip
import json
import ssl
from collections.abc import Mapping, Sequence
from typing import Any, Literal, NamedTuple
from urllib.parse import quote

from client.errors import ClientUsageError, ServerError, server_error
from client.transports.address import ServerAddress
from client.transports.security import Security
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
from serving.apis.status import Code

_OK = 200
# memoryview's format codes for the dtypes that an image model takes.
_FORMATS: dict[str, Literal["B", "f", "d", "i", "q"]] = {
    "DT_UINT8": "B",
    "DT_FLOAT": "f",
    "DT_DOUBLE": "d",
    "DT_INT32": "i",
    "DT_INT64": "q",
}
# Below this, gzip costs more time than its bytes save.
_GZIP_FROM = 1400


class Request(NamedTuple):
    """One HTTP request: method, path, headers and body."""

    method: str
    path: str
    headers: dict[str, str]
    body: bytes | None


def tls(address: ServerAddress, security: Security) -> ssl.SSLContext | bool:
    """What httpx takes as `verify`. Raises ClientUsageError for certificates that cannot be read."""
    if not address.is_secure:
        return False
    try:
        context = ssl.create_default_context(cafile=security.ca_file)
        if security.certificate_file:
            context.load_cert_chain(security.certificate_file, security.key_file)
    except (OSError, ssl.SSLError) as error:
        raise ClientUsageError(f"the TLS files cannot be used: {error}") from error
    return context


def predict_request(model: ModelSpec, calls: Calls) -> Request:
    """The smallest of the calls, in the column format; bytes as base64, the body gzipped where that pays."""
    return min((_predict_request(model, call) for call in calls()), key=lambda request: len(request.body or b""))


def predict_answer(status: int, body: bytes) -> dict[str, Output]:
    """Output name -> shape and flat values; a single output comes without its name, here as "". Raises ServerError."""
    outputs = _answer(status, body).get("outputs")
    return {name: _output(values) for name, values in (outputs if isinstance(outputs, dict) else {"": outputs}).items()}


def status_request(model: ModelSpec) -> Request:
    """GET of the model's status."""
    return Request("GET", _path(model), {}, None)


def status_answer(status: int, body: bytes) -> list[VersionStatus]:
    """The versions, in the server's order. Raises ServerError."""
    answer = _answer(status, body)
    with _Expecting("a model's status"):
        return [
            VersionStatus(
                version=int(entry["version"]),
                state=entry["state"],
                error_code=entry["status"].get("error_code", "OK"),
                error_message=entry["status"].get("error_message", ""),
            )
            for entry in answer["model_version_status"]
        ]


def metadata_request(model: ModelSpec) -> Request:
    """GET of the model's metadata."""
    return Request("GET", f"{_path(model)}/metadata", {}, None)


def metadata_answer(status: int, body: bytes) -> Metadata:
    """The signatures by name. Raises ServerError."""
    answer = _answer(status, body)
    with _Expecting("a model's metadata"):
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


class _Expecting:
    """Turns what a foreign answer breaks into one ServerError."""

    def __init__(self, what: str) -> None:
        self._what = what

    def __enter__(self) -> None:
        pass

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, traceback: object) -> None:
        if isinstance(error, KeyError | TypeError | ValueError | AttributeError):
            raise ServerError("INTERNAL", f"the answer is not {self._what}: is this TF Serving's REST port?") from error


def _answer(status: int, body: bytes) -> dict[str, Any]:
    try:
        answer = json.loads(body)
    except ValueError:
        answer = None
    if status != _OK:
        details = answer.get("error") if isinstance(answer, dict) else None
        raise server_error(Code.of_http_status(status).name, str(details or f"HTTP status {status}"))
    if not isinstance(answer, dict):
        raise ServerError("INTERNAL", "the answer is not a JSON object: is this TF Serving's REST port?")
    return answer


def _predict_request(model: ModelSpec, call: Call) -> Request:
    columns = {name: _column(tensor) for name, tensor in call.inputs.items()}
    body = json.dumps({"signature_name": call.signature_name, "inputs": columns}, separators=(",", ":")).encode()
    headers = {"Content-Type": "application/json"}
    if len(body) >= _GZIP_FROM:
        body = gzip.compress(body, compresslevel=1, mtime=0)
        headers["Content-Encoding"] = "gzip"
    return Request("POST", f"{_path(model)}:predict", headers, body)


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
    if tensor.dtype not in _FORMATS:
        raise ClientUsageError(f"{tensor.dtype} cannot be sent over REST: use a grpc:// address")
    return memoryview(tensor.content).cast(_FORMATS[tensor.dtype], tensor.shape).tolist()


def _output(values: object) -> Output:
    shape: list[int] = []
    flat: list[Any] = [values]
    while flat and isinstance(flat[0], list):
        shape.append(len(flat[0]))
        flat = [item for row in flat for item in row]
    return Output(tuple(shape), [_bytes(value) if isinstance(value, str | dict) else value for value in flat])


def _bytes(value: str | dict[str, str]) -> bytes:
    return value.encode() if isinstance(value, str) else base64.b64decode(value["b64"])


def _tensor_info(info: Mapping[str, Any]) -> TensorInfo:
    shape = info["tensor_shape"]
    sizes: Sequence[Mapping[str, str]] = shape.get("dim", [])
    return TensorInfo(info["dtype"], None if shape.get("unknown_rank") else tuple(int(dim["size"]) for dim in sizes))

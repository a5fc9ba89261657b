"""The REST front end: TF Serving's HTTP API as an ASGI application.

https://www.tensorflow.org/tfx/serving/api_rest
"""

from __future__ import annotations

import asyncio
import json
import logging
import re
import time
import zlib
from collections.abc import Awaitable, Callable, Mapping
from typing import Any, NamedTuple
from urllib.parse import unquote

from google.protobuf import json_format
from google.protobuf.message import Message

from serving.apis.messages import (
    ClassificationRequest,
    GetModelMetadataRequest,
    GetModelMetadataResponse,
    GetModelStatusRequest,
    ModelSpec,
    RegressionRequest,
    SignatureDefMap,
)
from serving.apis.status import Code
from serving.embedded.api import Api
from serving.embedded.inference import info
from serving.embedded.inference.predict import DEFAULT_SIGNATURE, PredictCall, find_signature
from serving.embedded.observe import metrics
from serving.embedded.observe.calls import REQUEST_ID_HEADER, Call, request_id
from serving.embedded.rest.json import examples, outputs, requests, values
from serving.errors import Internal, InvalidArgument, ResourceExhausted, ServingError

log = logging.getLogger(__name__)

_PREDICTION = re.compile(
    r"/v1/models/([^/:]+)(?:/versions/(\d+)|/labels/([^/:]+))?:(classify|regress|predict)", re.IGNORECASE | re.ASCII
)
_INFO = re.compile(
    r"/v1/models(?:/([^/:]+))?(?:/versions/(\d+)|/labels/([^/:]+))?(?:/(metadata))?", re.IGNORECASE | re.ASCII
)
_PREFIX = re.compile(r"/v1/.*", re.IGNORECASE | re.DOTALL)
_NOT_FOUND = b"<HTML><HEAD>\n<TITLE>404 Not Found</TITLE>\n</HEAD><BODY>\n<H1>Not Found</H1>\n</BODY></HTML>\n"
_JSON = b"application/json"
_INT64_MAX = 2**63 - 1
# TF Serving unpacks at most this much.
MAX_UNPACKED_BYTES = 100 * 2**20
_CORS = (
    (b"access-control-allow-origin", b"*"),
    (b"access-control-allow-methods", b"POST, GET"),
    (b"access-control-allow-headers", b"Content-Type"),
)

# ASGI's own types are mappings of anything: https://asgi.readthedocs.io/en/latest/specs/main.html
Scope = Mapping[str, Any]
Receive = Callable[[], Awaitable[Mapping[str, Any]]]
Send = Callable[[dict[str, Any]], Awaitable[None]]


class RestOptions(NamedTuple):
    """How the REST front end answers. metrics_path: where the metrics are, or empty when they are off."""

    timeout_seconds: float = 30.0
    cors: bool = False
    max_request_bytes: int = 256 * 2**20
    metrics_path: str = ""


class Reply(NamedTuple):
    """An HTTP answer, and the code that it stands for."""

    body: bytes
    code: Code = Code.OK
    status: int = 200
    content_type: bytes = _JSON


class RestFrontEnd:
    """Turns HTTP requests into the same requests that gRPC receives, and the answers into JSON."""

    def __init__(self, api: Api, options: RestOptions) -> None:
        self._api = api
        self._options = options

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """One HTTP request, as ASGI has it."""
        if scope["type"] != "http":
            return
        headers = dict(scope["headers"])
        path = _path(scope)
        given = headers.get(REQUEST_ID_HEADER.encode(), b"").decode("latin-1")
        call = Call("REST", "", path, lambda: ":".join(map(str, scope["client"] or ())), request_id(given))
        try:
            reply = await self._reply(scope, headers, receive, call)
        except asyncio.CancelledError:
            self._api.observer.answered(call, Code.CANCELLED)
            raise
        self._api.observer.answered(call, reply.code)
        answered = [
            (b"content-type", reply.content_type),
            (b"content-length", str(len(reply.body)).encode()),
            (REQUEST_ID_HEADER.encode(), call.request_id.encode("latin-1")),
            *(_CORS if self._options.cors else ()),
        ]
        await send({"type": "http.response.start", "status": reply.status, "headers": answered})
        await send({"type": "http.response.body", "body": reply.body})

    async def _reply(self, scope: Scope, headers: Mapping[bytes, bytes], receive: Receive, call: Call) -> Reply:
        if not _PREFIX.fullmatch(call.path):
            return self._outside(scope["method"], call.path)
        try:
            self._api.observer.enter()
            try:
                body = await self._body(headers, receive)
                text = await self._answer(scope["method"], call, body)
            finally:
                self._api.observer.leave()
        except ServingError as error:
            return _error_reply(error)
        except asyncio.CancelledError:
            raise
        except Exception as error:
            log.exception("unforeseen error in a REST call")
            return _error_reply(Internal(f"{type(error).__name__}: {error}"))
        return Reply(text.encode("utf-8", "surrogateescape"))

    def _outside(self, method: str, path: str) -> Reply:
        """What is not of the models: metrics, and the probes of whoever keeps the server running."""
        bare = path.partition("?")[0]
        if method in ("GET", "HEAD"):
            if bare == self._options.metrics_path and self._api.observer.metrics is not None:
                return Reply(self._api.observer.metrics.exposition(), content_type=metrics.CONTENT_TYPE)
            if bare == "/healthz":
                return Reply(b'{"status": "ok"}\n')
            if bare == "/readyz":
                errors = {name: str(error) for name, error in self._api.core.errors().items()}
                ready = json.dumps({"ready": not errors, "errors": errors}).encode() + b"\n"
                return Reply(ready, Code.UNAVAILABLE if errors else Code.OK, 503 if errors else 200)
        return Reply(_NOT_FOUND, Code.NOT_FOUND, 404, b"text/html")

    async def _answer(self, method: str, call: Call, body: bytes) -> str:
        if method == "POST" and (match := _PREDICTION.fullmatch(call.path)):
            name, version, label, verb = match.groups()
            call.api = verb.capitalize()
            return await self._infer(_spec(name, version, label, call), body, call)
        if method == "GET" and (match := _INFO.fullmatch(call.path)):
            name, version, label, subresource = match.groups()
            if not name:
                raise InvalidArgument("Missing model name in request.")
            call.api = "GetModelMetadata" if subresource else "GetModelStatus"
            spec = _spec(name, version, label, call)
            return self._metadata(spec) if subresource else await self._status(spec)
        if method == "OPTIONS" and self._options.cors:
            return ""
        raise InvalidArgument(f"Malformed request: {method} {call.path}")

    async def _infer(self, spec: ModelSpec, body: bytes, call: Call) -> str:
        document = values.parse_object(body)
        spec.signature_name = requests.signature_name(document)
        deadline = time.monotonic() + self._options.timeout_seconds
        if call.api == "Predict":
            clean = b"true" not in body and b"false" not in body
            return await self._predict(spec, document, deadline, clean=clean)
        given = examples.examples_input(document)
        if call.api == "Classify":
            answer = await self._api.examples.classify(ClassificationRequest(model_spec=spec, input=given), deadline)
            return examples.classification_json(answer.result)
        regressed = await self._api.examples.regress(RegressionRequest(model_spec=spec, input=given), deadline)
        return examples.regression_json(regressed.result)

    async def _predict(self, spec: ModelSpec, document: Mapping[str, Any], deadline: float, *, clean: bool) -> str:
        with self._api.core.use(spec) as version:
            name = spec.signature_name or DEFAULT_SIGNATURE
            signature = find_signature(version, name)
            if signature is None:
                raise InvalidArgument(f'Serving signature name: "{name}" not found in signature def')
            inputs = requests.predict_inputs(document, signature.definition, spec.signature_name, clean=clean)
            asked = PredictCall(spec, inputs.arrays, deadline=deadline)
            prediction = await self._api.predictor.predict_on(version, asked)
        return outputs.outputs_json(prediction.outputs, row_format=inputs.row_format)

    def _metadata(self, spec: ModelSpec) -> str:
        request = GetModelMetadataRequest(model_spec=spec, metadata_field=[info.SIGNATURE_DEF])
        return metadata_json(info.metadata(self._api.core, request))

    async def _status(self, spec: ModelSpec) -> str:
        return _message_json(await self._api.admin.status(GetModelStatusRequest(model_spec=spec)))

    async def _body(self, headers: Mapping[bytes, bytes], receive: Receive) -> bytes:
        limit = self._options.max_request_bytes
        announced = headers.get(b"content-length", b"0")
        parts: list[bytes] = []
        size = int(announced) if announced.isdigit() else 0
        while size <= limit:
            message = await receive()
            if message["type"] == "http.disconnect":
                raise asyncio.CancelledError
            parts.append(message.get("body", b""))
            if not message.get("more_body"):
                body = b"".join(parts) if len(parts) > 1 else parts[0]
                return _unpacked(body) if b"gzip" in headers.get(b"content-encoding", b"").lower() else body
            size = max(size, sum(map(len, parts)))
        raise ResourceExhausted(f"The request body is larger than {limit} bytes, the server's --max_request_bytes")


def metadata_json(response: GetModelMetadataResponse) -> str:
    """The metadata in TF Serving's layout: two messages in a frame of their own."""
    signatures = SignatureDefMap()
    response.metadata[info.SIGNATURE_DEF].Unpack(signatures)
    return (
        f'{{\n"model_spec":{_message_json(response.model_spec)},\n'
        f'"metadata": {{"signature_def": {_message_json(signatures)}}}\n}}\n'
    )


def _message_json(message: Message) -> str:
    fields = json_format.MessageToDict(
        message, preserving_proto_field_name=True, always_print_fields_with_no_presence=True
    )
    return json.dumps(fields, indent=1) + "\n"


def _error_reply(error: ServingError) -> Reply:
    body = f'{{\n    "error": {values.quoted(str(error))}\n}}'
    return Reply(body.encode("utf-8", "replace"), error.code, error.code.http_status)


def _path(scope: Scope) -> str:
    """The path as it was sent: TF Serving takes a query string for a part of it."""
    path: str = scope["raw_path"].decode("latin-1")
    return f"{path}?{scope['query_string'].decode('latin-1')}" if scope["query_string"] else path


def _spec(name: str, version: str | None, label: str | None, call: Call) -> ModelSpec:
    call.model = unquote(name, errors="replace")
    spec = ModelSpec(name=call.model)
    if version:
        if int(version) > _INT64_MAX:
            raise InvalidArgument(f"Failed to convert version: {version} to numeric.")
        spec.version.value = int(version)
    if label:
        spec.version_label = unquote(label, errors="replace")
    return spec


def _unpacked(body: bytes) -> bytes:
    unpacker = zlib.decompressobj(wbits=zlib.MAX_WBITS | 16)
    try:
        result = unpacker.decompress(body, MAX_UNPACKED_BYTES)
    except zlib.error as error:
        raise InvalidArgument(f"Failed to gunzip the request body: {error}") from error
    if unpacker.unconsumed_tail:
        raise ResourceExhausted(f"The request body is larger than {MAX_UNPACKED_BYTES} bytes when unpacked")
    return result

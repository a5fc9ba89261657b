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
from serving.embedded import json_examples, json_requests, json_tensors, json_values, model_info
from serving.embedded.core import ServerCore
from serving.embedded.examples import ExampleInference
from serving.embedded.predict import DEFAULT_SIGNATURE, PredictCall, Predictor
from serving.errors import Internal, InvalidArgument, ServingError, http_status

log = logging.getLogger(__name__)

_PREDICTION = re.compile(
    r"/v1/models/([^/:]+)(?:/versions/(\d+)|/labels/([^/:]+))?:(classify|regress|predict)", re.IGNORECASE
)
_INFO = re.compile(r"/v1/models(?:/([^/:]+))?(?:/versions/(\d+)|/labels/([^/:]+))?(?:/(metadata))?", re.IGNORECASE)
_PREFIX = re.compile(r"/v1/.*", re.IGNORECASE | re.DOTALL)
_NOT_FOUND = b"<HTML><HEAD>\n<TITLE>404 Not Found</TITLE>\n</HEAD><BODY>\n<H1>Not Found</H1>\n</BODY></HTML>\n"
_INT64_MAX = 2**63 - 1
# TF Serving unpacks at most this much.
MAX_UNPACKED_BYTES = 100 * 2**20
_CORS = [
    (b"access-control-allow-origin", b"*"),
    (b"access-control-allow-methods", b"POST, GET"),
    (b"access-control-allow-headers", b"Content-Type"),
]

# ASGI's own types are mappings of anything: https://asgi.readthedocs.io/en/latest/specs/main.html
Scope = Mapping[str, Any]
Receive = Callable[[], Awaitable[Mapping[str, Any]]]
Send = Callable[[dict[str, Any]], Awaitable[None]]


class RestOptions(NamedTuple):
    """How the REST front end answers."""

    timeout_seconds: float = 30.0
    cors: bool = False


class Reply(NamedTuple):
    """An HTTP answer."""

    status: int
    content_type: bytes
    body: bytes


class RestFrontEnd:
    """Turns HTTP requests into the same requests that gRPC receives, and the answers into JSON."""

    def __init__(
        self, core: ServerCore, predictor: Predictor, examples: ExampleInference, options: RestOptions
    ) -> None:
        self._core = core
        self._predictor = predictor
        self._examples = examples
        self._options = options

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """One HTTP request, as ASGI has it."""
        if scope["type"] != "http":
            return
        reply = await self._reply(scope, receive)
        headers = [
            (b"content-type", reply.content_type),
            (b"content-length", str(len(reply.body)).encode()),
            *(_CORS if self._options.cors else ()),
        ]
        await send({"type": "http.response.start", "status": reply.status, "headers": headers})
        await send({"type": "http.response.body", "body": reply.body})

    async def _reply(self, scope: Scope, receive: Receive) -> Reply:
        path = scope["raw_path"].decode("latin-1")
        if scope["query_string"]:
            path += "?" + scope["query_string"].decode("latin-1")
        if not _PREFIX.fullmatch(path):
            return Reply(404, b"text/html", _NOT_FOUND)
        try:
            body = await _body(scope, receive)
            text = await self._answer(scope["method"], path, body)
        except ServingError as error:
            return _error_reply(error)
        except Exception as error:
            log.exception("unforeseen error in a REST call")
            return _error_reply(Internal(f"{type(error).__name__}: {error}"))
        return Reply(200, b"application/json", text.encode("utf-8", "surrogateescape"))

    async def _answer(self, method: str, path: str, body: bytes) -> str:
        if method == "POST" and (match := _PREDICTION.fullmatch(path)):
            name, version, label, verb = match.groups()
            return await self._infer(verb.lower(), _spec(name, version, label), body)
        if method == "GET" and (match := _INFO.fullmatch(path)):
            name, version, label, subresource = match.groups()
            if not name:
                raise InvalidArgument("Missing model name in request.")
            spec = _spec(name, version, label)
            return self._metadata(spec) if subresource else self._status(spec)
        if method == "OPTIONS" and self._options.cors:
            return ""
        raise InvalidArgument(f"Malformed request: {method} {path}")

    async def _infer(self, verb: str, spec: ModelSpec, body: bytes) -> str:
        document = json_values.parse_object(body)
        spec.signature_name = json_requests.signature_name(document)
        deadline = time.monotonic() + self._options.timeout_seconds
        if verb == "predict":
            return await self._predict(spec, document, deadline)
        given = json_examples.examples_input(document)
        if verb == "classify":
            answer = await self._examples.classify(ClassificationRequest(model_spec=spec, input=given), deadline)
            return json_examples.classification_json(answer.result)
        regressed = await self._examples.regress(RegressionRequest(model_spec=spec, input=given), deadline)
        return json_examples.regression_json(regressed.result)

    async def _predict(self, spec: ModelSpec, document: Mapping[str, Any], deadline: float) -> str:
        with self._core.use(spec) as version:
            name = spec.signature_name or DEFAULT_SIGNATURE
            signature = version.servable.signatures.get(name)
            if signature is None:
                raise InvalidArgument(f'Serving signature name: "{name}" not found in signature def')
            inputs = json_requests.predict_inputs(document, signature, spec.signature_name)
            call = PredictCall(spec, inputs.arrays, deadline=deadline)
            prediction = await self._predictor.predict_on(version, call)
        return json_tensors.outputs_json(prediction.outputs, row_format=inputs.row_format)

    def _metadata(self, spec: ModelSpec) -> str:
        request = GetModelMetadataRequest(model_spec=spec, metadata_field=[model_info.SIGNATURE_DEF])
        return metadata_json(model_info.metadata(self._core, request))

    def _status(self, spec: ModelSpec) -> str:
        return _message_json(model_info.status(self._core, GetModelStatusRequest(model_spec=spec)))


def metadata_json(response: GetModelMetadataResponse) -> str:
    """The metadata in TF Serving's layout: two messages in a frame of their own."""
    signatures = SignatureDefMap()
    response.metadata[model_info.SIGNATURE_DEF].Unpack(signatures)
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
    body = f'{{\n    "error": {json_values.quoted(str(error))}\n}}'
    return Reply(http_status(error.code), b"application/json", body.encode("utf-8", "surrogateescape"))


def _spec(name: str, version: str | None, label: str | None) -> ModelSpec:
    spec = ModelSpec(name=unquote(name))
    if version:
        if int(version) > _INT64_MAX:
            raise InvalidArgument(f"Failed to convert version: {version} to numeric.")
        spec.version.value = int(version)
    if label:
        spec.version_label = unquote(label)
    return spec


async def _body(scope: Scope, receive: Receive) -> bytes:
    parts = []
    while True:
        message = await receive()
        if message["type"] == "http.disconnect":
            raise asyncio.CancelledError
        parts.append(message.get("body", b""))
        if not message.get("more_body"):
            break
    body = b"".join(parts)
    packed = any(key == b"content-encoding" and b"gzip" in value.lower() for key, value in scope["headers"])
    return _unpacked(body) if packed else body


def _unpacked(body: bytes) -> bytes:
    unpacker = zlib.decompressobj(wbits=zlib.MAX_WBITS | 16)
    try:
        result = unpacker.decompress(body, MAX_UNPACKED_BYTES)
    except zlib.error as error:
        raise InvalidArgument(f"Failed to gunzip the request body: {error}") from error
    if unpacker.unconsumed_tail:
        raise InvalidArgument(f"The request body is larger than {MAX_UNPACKED_BYTES} bytes when unpacked")
    return result

"""What answers each REST route: JSON to the requests that gRPC receives too, and the answers to JSON."""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Mapping
from re import Match
from typing import Any, NamedTuple
from urllib.parse import unquote

from serving.apis.messages import (
    ClassificationRequest,
    GetModelMetadataRequest,
    GetModelStatusRequest,
    ModelSpec,
    RegressionRequest,
)
from serving.apis.status import Code
from serving.embedded.api import Api
from serving.embedded.inference import info
from serving.embedded.inference.model import DEFAULT_SIGNATURE
from serving.embedded.inference.predict import PredictCall
from serving.embedded.observe.metrics import CONTENT_TYPE, Metrics
from serving.embedded.rest.json import examples, outputs, requests, values
from serving.errors import InvalidArgument

_JSON = b"application/json"
_INT64_MAX = 2**63 - 1
_NOT_FOUND = b"<HTML><HEAD>\n<TITLE>404 Not Found</TITLE>\n</HEAD><BODY>\n<H1>Not Found</H1>\n</BODY></HTML>\n"


class Request(NamedTuple):
    """An HTTP request. match: its path, held against its route's. model: the one it names, if any. body: unpacked."""

    method: str
    path: str
    match: Match[str]
    model: str
    body: bytes

    @property
    def spec(self) -> ModelSpec:
        """Which version of which model it asks for. Raises InvalidArgument for a number that is none."""
        spec = ModelSpec(name=self.model)
        version, label = self.match.group("version", "label")
        if version:
            if int(version) > _INT64_MAX:
                raise InvalidArgument(f"Failed to convert version: {version} to numeric.")
            spec.version.value = int(version)
        if label:
            spec.version_label = unquote(label, errors="replace")
        return spec


class Reply(NamedTuple):
    """An HTTP answer, and the code that it stands for."""

    body: bytes
    code: Code = Code.OK
    status: int = 200
    content_type: bytes = _JSON


class ModelHandlers:
    """The models' routes, all but the reload. timeout: seconds for an inference."""

    def __init__(self, api: Api, timeout: float) -> None:
        self._api = api
        self._timeout = timeout

    async def predict(self, request: Request) -> Reply:
        """`:predict`, of rows (instances) or columns (inputs)."""
        spec, document, deadline = self._inference(request)
        with self._api.core.use(spec) as version:
            name = spec.signature_name or DEFAULT_SIGNATURE
            signature = version.servable.signatures.get(name)
            if signature is None:
                raise InvalidArgument(f'Serving signature name: "{name}" not found in signature def')
            no_booleans = b"true" not in request.body and b"false" not in request.body
            inputs = requests.predict_inputs(
                document, signature.definition, spec.signature_name, no_booleans=no_booleans
            )
            call = PredictCall(spec, inputs.arrays, deadline=deadline)
            prediction = await self._api.predictor.predict_on(version, call)
        return _reply(outputs.outputs_json(prediction.outputs, row_format=inputs.row_format))

    async def classify(self, request: Request) -> Reply:
        """`:classify`, of examples."""
        spec, document, deadline = self._inference(request)
        answer = await self._api.examples.classify(
            ClassificationRequest(model_spec=spec, input=examples.examples_input(document)), deadline
        )
        return _reply(examples.classification_json(answer.result))

    async def regress(self, request: Request) -> Reply:
        """`:regress`, of examples."""
        spec, document, deadline = self._inference(request)
        answer = await self._api.examples.regress(
            RegressionRequest(model_spec=spec, input=examples.examples_input(document)), deadline
        )
        return _reply(examples.regression_json(answer.result))

    async def metadata(self, request: Request) -> Reply:
        """The signatures of a version."""
        message = GetModelMetadataRequest(model_spec=request.spec, metadata_field=[info.SIGNATURE_DEF])
        return _reply(outputs.metadata_json(info.metadata(self._api.core, message)))

    async def status(self, request: Request) -> Reply:
        """The states of a model's versions."""
        return _reply(
            outputs.message_json(await self._api.admin.status(GetModelStatusRequest(model_spec=request.spec)))
        )

    async def no_model(self, _: Request) -> Reply:
        """A path that names no model."""
        raise InvalidArgument("Missing model name in request.")

    async def malformed(self, request: Request) -> Reply:
        """Whatever else is asked of the API."""
        raise InvalidArgument(f"Malformed request: {request.method} {request.path}")

    async def preflight(self, _: Request) -> Reply:
        """What a browser asks before it asks; the answer is in the headers."""
        return _reply("")

    def _inference(self, request: Request) -> tuple[ModelSpec, Mapping[str, Any], float]:
        """What every inference begins with: the model and the signature, the body, and the deadline."""
        spec = request.spec
        document = values.parse_object(request.body)
        spec.signature_name = requests.signature_name(document)
        return spec, document, time.monotonic() + self._timeout


class ServerHandlers:
    """The routes beside the models': metrics, and the probes of whoever keeps the server running."""

    def __init__(self, errors: Callable[[], Mapping[str, Exception]], metrics: Metrics | None) -> None:
        self._errors = errors
        self._metrics = metrics

    async def metrics(self, _: Request) -> Reply:
        """Prometheus's text."""
        assert self._metrics is not None
        return Reply(self._metrics.exposition(), content_type=CONTENT_TYPE)

    async def health(self, _: Request) -> Reply:
        """Whether the process answers at all."""
        return Reply(b'{"status": "ok"}\n')

    async def readiness(self, _: Request) -> Reply:
        """Whether every model has a version to serve, and which have not, and why."""
        errors = {name: str(error) for name, error in self._errors().items()}
        body = json.dumps({"ready": not errors, "errors": errors}).encode() + b"\n"
        return Reply(body, Code.UNAVAILABLE, 503) if errors else Reply(body)

    async def not_found(self, _: Request) -> Reply:
        """Any other path."""
        return Reply(_NOT_FOUND, Code.NOT_FOUND, 404, b"text/html")


def _reply(text: str) -> Reply:
    return Reply(text.encode("utf-8", "surrogateescape"))

"""The table of REST routes, and what answers each: JSON to the requests that gRPC receives too, the answers to JSON.

https://www.tensorflow.org/tfx/serving/api_rest
"""

from __future__ import annotations

import asyncio
import json
import re
import time
from collections.abc import Awaitable, Callable, Collection
from functools import partial
from typing import NamedTuple
from urllib.parse import unquote

from serving.apis import messages, openapi
from serving.apis.signatures import DEFAULT_SIGNATURE
from serving.apis.status import Code
from serving.embedded.access.tokens import FOR_ANYONE, FOR_METADATA, FOR_PREDICT, FOR_READ
from serving.embedded.api import SIGNATURE_DEF, Api
from serving.embedded.inference.examples import classify, regress
from serving.embedded.inference.predict import predict
from serving.embedded.limits import Limits
from serving.embedded.observe.calls import Call, Operation
from serving.embedded.observe.metrics import CONTENT_TYPE, Metrics
from serving.embedded.offload import LARGE_BYTES, Offload
from serving.embedded.rest.bodies import Bodies, Document, encoded
from serving.embedded.rest.json import examples, outputs, requests
from serving.embedded.rest.messages import JSON, HttpRequest
from serving.errors import InvalidArgument, quoted

_MODEL = "/v1/models/(?P<model>[^/:]+)"
_VERSION = r"(?:/versions/(?P<version>\d+)|/labels/(?P<label>[^/:]+))?"
_GET, _POST, _PROBE = {"GET"}, {"POST"}, {"GET", "HEAD"}
_ANY: Collection[str] = ()
_INT64_MAX = 2**63 - 1
_NOT_FOUND = b"<HTML><HEAD>\n<TITLE>404 Not Found</TITLE>\n</HEAD><BODY>\n<H1>Not Found</H1>\n</BODY></HTML>\n"


class Request(NamedTuple):
    """A request on its route. match: its path, held against the route's. model: the one that it names, if any."""

    http: HttpRequest
    match: re.Match[str]
    model: str
    call: Call


class Reply(NamedTuple):
    """An HTTP answer, and the code that it stands for."""

    body: bytes | bytearray
    code: Code = Code.OK
    status: int = 200
    content_type: bytes = JSON


Handler = Callable[[Request], Awaitable[Reply]]


class Route(NamedTuple):
    """One row. methods: HTTP's, none for any. path: the whole path must match it, with the query string if any."""

    operation: Operation
    methods: Collection[str]
    path: re.Pattern[str]
    handler: Handler


class Routes:
    """The routes of a port. timeout: seconds for an inference, or no limit. metrics: None when they are off."""

    def __init__(
        self, api: Api, metrics: Metrics | None, offload: Offload, limits: Limits, timeout: float | None
    ) -> None:
        self._api = api
        self._metrics = metrics
        self._offload = offload
        self._scrape: asyncio.Task[bytes] | None = None
        self._bodies = Bodies(offload, limits)
        self._timeout = timeout

    def table(self, *, cors: bool, metrics_path: str) -> list[Route]:
        """The routes; the first that matches a request answers it, and the last matches any.

        cors: for browsers. metrics_path: empty where the metrics are elsewhere.
        """
        rows = [
            _api("Predict", FOR_PREDICT, _POST, f"{_MODEL}{_VERSION}:predict", self._predict, measured=True),
            _api("Classify", FOR_PREDICT, _POST, f"{_MODEL}{_VERSION}:classify", self._classify, measured=True),
            _api("Regress", FOR_PREDICT, _POST, f"{_MODEL}{_VERSION}:regress", self._regress, measured=True),
            _api("GetModelStatus", FOR_READ, _GET, f"{_MODEL}{_VERSION}", self._status, measured=True),
            _api("GetModelMetadata", FOR_METADATA, _GET, f"{_MODEL}{_VERSION}/metadata", self._metadata, measured=True),
            _api("NoModel", FOR_ANYONE, _GET, f"/v1/models{_VERSION}(?:/metadata)?", self._no_model),
            _api("OpenApi", FOR_READ, _GET, r"/openapi\.json", self._openapi),
            _api("Malformed", FOR_ANYONE, _ANY, "/v1/.*", self._malformed),
            *self.state(metrics_path),
        ]
        if cors:
            # What a browser asks before it asks; the answer is in the headers.
            rows.insert(0, _api("Preflight", FOR_ANYONE, {"OPTIONS"}, "/v1/.*", _always(Reply(b""))))
        return rows

    def state(self, metrics_path: str) -> list[Route]:
        """The routes that tell the server's state, and the last one."""
        not_found = Reply(_NOT_FOUND, Code.NOT_FOUND, 404, b"text/html")
        metrics = self._metrics is not None and metrics_path
        return [
            _probe("Health", FOR_ANYONE, "/healthz", _always(Reply(b'{"status": "ok"}\n'))),
            _probe("Readiness", FOR_ANYONE, "/readyz", self._readiness),
            *([_probe("Metrics", FOR_READ, metrics_path, self._exposition)] if metrics else ()),
            Route(Operation("REST", "NotFound", FOR_ANYONE, counts=False), _ANY, re.compile(".*"), _always(not_found)),
        ]

    async def _predict(self, request: Request) -> Reply:
        spec, document, deadline = await self._inference(request)
        call = request.call
        with self._api.core.use(spec) as version:
            name = spec.signature_name or DEFAULT_SIGNATURE
            signature = version.servable.signatures.get(name)
            if signature is None:
                raise InvalidArgument(f'Serving signature name: "{name}" not found in signature def')
            by_rows = "instances" in document.value
            inputs = await self._bodies.read(
                document,
                call,
                lambda value: requests.predict_inputs(
                    value, signature.input_types, spec.signature_name, no_booleans=document.no_booleans
                ),
            )
            answer_bytes, key = version.servable.answer_bytes, (by_rows, signature.fetches)
            size, input_bytes = call.size, sum([array.nbytes for array in inputs.values()])
            if answer_bytes:
                # A large answer is there as soon as the model has run: one as large, for its inputs, as the last.
                call.charge(int(answer_bytes.get(key, 0.0) * input_bytes))
            running = predict(self._api.engine, version, name, inputs, deadline=deadline, account=call, spec=spec)
            del inputs
            _, arrays = await running
        if answer_bytes:
            call.refund(call.size - size)
        body = await self._bodies.written(arrays, call, by_rows=by_rows)
        if call.size > size:
            answer_bytes[key] = (call.size - size) / max(1, input_bytes)
        elif answer_bytes:
            answer_bytes.pop(key, None)
        return Reply(body)

    async def _classify(self, request: Request) -> Reply:
        spec, document, deadline = await self._inference(request)
        examples_input = await self._bodies.read_message(document, request.call, examples.examples_input)
        message = messages.ClassificationRequest(model_spec=spec, input=examples_input)
        result = (await classify(self._api.engine, message, deadline, request.call)).result
        return Reply(await self._bodies.text(result.ByteSize(), partial(examples.classification_json, result)))

    async def _regress(self, request: Request) -> Reply:
        spec, document, deadline = await self._inference(request)
        examples_input = await self._bodies.read_message(document, request.call, examples.examples_input)
        message = messages.RegressionRequest(model_spec=spec, input=examples_input)
        result = (await regress(self._api.engine, message, deadline, request.call)).result
        return Reply(await self._bodies.text(result.ByteSize(), partial(examples.regression_json, result)))

    async def _metadata(self, request: Request) -> Reply:
        message = messages.GetModelMetadataRequest(model_spec=_spec(request), metadata_field=[SIGNATURE_DEF])
        return _reply(outputs.metadata_json(self._api.metadata(message)))

    async def _status(self, request: Request) -> Reply:
        request.call.header = self._api.runtimes_header(request.model)
        status = await self._api.status(messages.GetModelStatusRequest(model_spec=_spec(request)))
        return _reply(outputs.message_json(status))

    async def _openapi(self, request: Request) -> Reply:
        document = openapi.document(self._api.signatures(), asks_tokens=bool(request.call.caller))
        return _reply(json.dumps(document))

    async def _no_model(self, _: Request) -> Reply:
        raise InvalidArgument("Missing model name in request.")

    async def _malformed(self, request: Request) -> Reply:
        raise InvalidArgument(f"Malformed request: {request.http.method} {quoted(request.http.target)}")

    async def _exposition(self, _: Request) -> Reply:
        assert self._metrics is not None
        # Whoever asks meanwhile gets the same: however often that is, it takes one thread.
        if self._scrape is None or self._scrape.done():
            work = self._offload.run(LARGE_BYTES + 1, self._metrics.exposition)
            self._scrape = asyncio.get_running_loop().create_task(work)
        return Reply(await asyncio.shield(self._scrape), content_type=CONTENT_TYPE)

    async def _readiness(self, _: Request) -> Reply:
        """Whether there is a model, and each has a version to serve; which have not, and why."""
        ready = self._api.core.ready
        errors = {name: str(error) for name, error in self._api.core.errors().items()}
        body = json.dumps({"ready": ready, "errors": errors}).encode() + b"\n"
        return Reply(body) if ready else Reply(body, Code.UNAVAILABLE, 503)

    async def _inference(self, request: Request) -> tuple[messages.ModelSpec, Document, float | None]:
        """What every inference begins with: the model and the signature, the body, and the deadline if any."""
        spec = _spec(request)
        document = await self._bodies.parse(request.http, request.call)
        spec.signature_name = requests.signature_name(document.value)
        return spec, document, None if self._timeout is None else time.monotonic() + self._timeout


def _api(
    name: str, scopes: frozenset[str], methods: Collection[str], path: str, handler: Handler, *, measured: bool = False
) -> Route:
    """A route of TF Serving's API, which takes paths in any case."""
    pattern = re.compile(path, re.IGNORECASE)
    return Route(Operation("REST", name, scopes, measured), methods, pattern, handler)


def _probe(name: str, scopes: frozenset[str], path: str, handler: Handler) -> Route:
    """A route that tells the server's state, with any query string."""
    operation = Operation("REST", name, scopes, counts=False)
    return Route(operation, _PROBE, re.compile(rf"{re.escape(path)}(?:\?.*)?"), handler)


def _always(reply: Reply) -> Handler:
    async def answer(_: Request) -> Reply:
        return reply

    return answer


def _reply(text: str) -> Reply:
    return Reply(encoded(text))


def _spec(request: Request) -> messages.ModelSpec:
    """Which version of which model a path names. Raises InvalidArgument for a number that is none."""
    spec = messages.ModelSpec(name=request.model)
    version, label = request.match.group("version", "label")
    if version:
        if int(version) > _INT64_MAX:
            raise InvalidArgument(f"Failed to convert version: {version} to numeric.")
        spec.version.value = int(version)
    if label:
        spec.version_label = unquote(label)
    return spec

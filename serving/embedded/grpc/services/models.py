"""PredictionService and ModelService over gRPC: requests to the one implementation of each method, and back."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from functools import partial
from operator import attrgetter
from typing import Any

from google.protobuf.message import Message

from serving.apis import services, tensors
from serving.apis.messages import (
    GetModelMetadataRequest,
    GetModelStatusRequest,
    PredictRequest,
    ReloadConfigRequest,
    ReloadConfigResponse,
)
from serving.apis.tensors import Array
from serving.embedded.access.tokens import FOR_ADMIN, FOR_METADATA, FOR_PREDICT, FOR_READ
from serving.embedded.api import Api
from serving.embedded.grpc.answers import predict_response
from serving.embedded.grpc.methods import Rpc, Unary
from serving.embedded.grpc.services.peers import check_reload
from serving.embedded.inference import examples
from serving.embedded.inference.exchange import answer_predict, ask_predict, predict_head
from serving.embedded.inference.predict import Plan, find_signature, input_size, planned, with_span
from serving.embedded.observe.calls import Call
from serving.embedded.offload import LARGE_BYTES, work_size
from serving.errors import InvalidArgument

_MODEL = attrgetter("model_spec.name")
_TYPED_BYTES = 8


class ModelServices:
    """Both services.

    reload_from: who may ask for a reload (--reload_from). tensor_content: whether tensors are answered as raw bytes
    instead of float_val etc.
    """

    def __init__(self, api: Api, *, reload_from: str = "loopback", tensor_content: bool = False) -> None:
        self._api = api
        self._reload_from = reload_from
        self._tensor_content = tensor_content

    def rpcs(self) -> list[Rpc]:
        """The methods of both."""
        engine = self._api.engine
        return [
            _rpc(services.PREDICT, FOR_PREDICT, self._predict),
            _rpc(
                services.CLASSIFY,
                FOR_PREDICT,
                lambda request, call: examples.classify(engine, request, call.deadline, call),
            ),
            _rpc(
                services.REGRESS,
                FOR_PREDICT,
                lambda request, call: examples.regress(engine, request, call.deadline, call),
            ),
            _rpc(
                services.MULTI_INFERENCE,
                FOR_PREDICT,
                lambda request, call: examples.multi_inference(engine, request, call.deadline, call),
                lambda request: request.tasks[0].model_spec.name if request.tasks else "",
            ),
            _rpc(services.GET_MODEL_METADATA, FOR_METADATA, self._metadata),
            _rpc(services.GET_MODEL_STATUS, FOR_READ, self._status),
            _rpc(services.HANDLE_RELOAD_CONFIG_REQUEST, FOR_ADMIN, self._reload, lambda _: ""),
        ]

    async def _predict(self, request: PredictRequest, call: Call) -> bytes:
        if not request.HasField("model_spec"):
            raise InvalidArgument("Missing ModelSpec")
        engine = self._api.engine
        with self._api.core.use(request.model_spec) as version:
            signature = find_signature(engine, version, request.model_spec.signature_name)
            # The arrays are the call's from here on, the message is not.
            size = call.size
            plan: Plan
            exchange = call.sample(version.name)
            if exchange is not None:
                head = predict_head(request)
            read = partial(planned, engine, version, signature, request.inputs, request.output_filter, call.deadline)
            if size <= LARGE_BYTES:
                # What it takes as a message pays for small arrays too.
                plan = read(call.charge)
            else:
                array_size = input_size(signature, request.inputs, engine.limits)
                call.charge(array_size.nbytes)
                plan = await engine.offload(work_size(size + array_size.nbytes, array_size.converted), read)
                call.refund(size)
            del request, read
            if exchange is not None:
                ask_predict(exchange, head, signature, plan.run.feeds)
            aliases, fetches, answer_bytes = plan.aliases, plan.run.fetches, version.servable.answer_bytes
            request_bytes = call.size
            if answer_bytes:
                # A large answer is there as soon as the model has run: one as large, for its request, as the last.
                call.charge(int(answer_bytes.get(fetches, 0.0) * request_bytes))
            running = engine.run(with_span(plan.run, call))
            del plan
            outputs = dict(zip(aliases, await running, strict=True))
        size = _answer_bytes(outputs.values(), tensor_content=self._tensor_content)
        if size <= LARGE_BYTES:
            if answer_bytes:
                answer_bytes.pop(fetches, None)
            kept = outputs if exchange is None else dict(outputs)
            response = predict_response(signature, outputs, tensor_content=self._tensor_content)
            if exchange is not None:
                answer_predict(exchange, signature, kept, response)
            return response
        if exchange is not None:
            answer_predict(exchange, signature, outputs)
        # The arrays, and the answer twice, in pieces and joined.
        call.give_back()
        size *= 2
        answer_bytes[fetches] = size / max(1, request_bytes)
        call.charge(size)
        work = partial(predict_response, signature, outputs, tensor_content=self._tensor_content)
        del outputs
        encoded: bytes = await engine.offload(size, work)
        return encoded

    async def _status(self, request: GetModelStatusRequest, call: Call) -> Message:
        call.header = self._api.runtimes_header(request.model_spec.name)
        return await self._api.status(request)

    async def _metadata(self, request: GetModelMetadataRequest, _: Call) -> Message:
        return self._api.metadata(request)

    async def _reload(self, request: ReloadConfigRequest, call: Call) -> Message:
        check_reload(call.peer(), self._reload_from)
        await self._api.reload(request.config)
        response = ReloadConfigResponse()
        response.status.SetInParent()
        return response


def _answer_bytes(arrays: Iterable[Array], *, tensor_content: bool) -> int:
    """The bytes of outputs while they become a message."""
    size = 0
    for array in arrays:
        # A typed field keeps small integers as 32 bits, and takes twice that while it grows.
        typed = not tensor_content and array.dtype.kind in "biu"
        size += array.size * _TYPED_BYTES if typed else tensors.array_bytes(array)
    return size


def _rpc(method: services.Method, scopes: frozenset[str], handler: Unary, model: Callable[[Any], str] = _MODEL) -> Rpc:
    return Rpc(method.path, method.request_class, scopes, unary=handler, model=model, measured=True)

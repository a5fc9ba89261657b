"""PredictionService and ModelService over gRPC: requests to the one implementation of each method, and back."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from operator import attrgetter
from typing import Any

from google.protobuf.message import Message

from serving.apis import services, tensors
from serving.apis.messages import (
    GetModelMetadataRequest,
    PredictRequest,
    PredictResponse,
    ReloadConfigRequest,
    ReloadConfigResponse,
)
from serving.apis.tensors import Array
from serving.embedded.api import Api
from serving.embedded.grpc.methods import Rpc, Unary
from serving.embedded.grpc.services.peers import check_reload
from serving.embedded.inference import examples
from serving.embedded.inference.model import Signature
from serving.embedded.inference.predict import Plan, find_signature, input_bytes, planned
from serving.embedded.observe.calls import Call
from serving.embedded.offload import LARGE_BYTES
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
            _rpc(services.PREDICT, self._predict),
            _rpc(services.CLASSIFY, lambda request, call: examples.classify(engine, request, call.deadline, call)),
            _rpc(services.REGRESS, lambda request, call: examples.regress(engine, request, call.deadline, call)),
            _rpc(
                services.MULTI_INFERENCE,
                lambda request, call: examples.multi_inference(engine, request, call.deadline, call),
                lambda request: request.tasks[0].model_spec.name if request.tasks else "",
            ),
            _rpc(services.GET_MODEL_METADATA, self._metadata),
            _rpc(services.GET_MODEL_STATUS, lambda request, _: self._api.status(request)),
            _rpc(services.HANDLE_RELOAD_CONFIG_REQUEST, self._reload, lambda _: ""),
        ]

    async def _predict(self, request: PredictRequest, call: Call) -> Message | bytes:
        if not request.HasField("model_spec"):
            raise InvalidArgument("Missing ModelSpec")
        engine = self._api.engine
        with self._api.core.use(request.model_spec) as version:
            signature = find_signature(engine, version, request.model_spec.signature_name)
            # The arrays are the call's from here on, the message is not.
            size = call.size
            plan: Plan
            work = partial(planned, engine, version, signature, request.inputs, request.output_filter, call.deadline)
            if size <= LARGE_BYTES:
                plan = work(call.charge)
            else:
                call.charge(input_bytes(signature, request.inputs, engine.limits))
                plan = await engine.offload(size, work)
            del request, work
            call.refund(size)
            aliases, fetches, answer_bytes = plan.aliases, plan.run.fetches, version.servable.answer_bytes
            # A large answer is there as soon as the model has run: one as large, for its request, as the last.
            request_bytes = call.size
            call.charge(int(answer_bytes.get(fetches, 0.0) * request_bytes))
            running = engine.run(plan.run)
            del plan
            outputs = dict(zip(aliases, await running, strict=True))
        call.give_back()
        size = sum([_answer_bytes(array, tensor_content=self._tensor_content) for array in outputs.values()])
        if size <= LARGE_BYTES:
            answer_bytes.pop(fetches, None)
            call.charge(size)
            return self._response(signature, outputs)
        # As message and as bytes.
        size *= 2
        answer_bytes[fetches] = size / max(1, request_bytes)
        call.charge(size)
        encoded: bytes = await engine.offload(size, lambda: self._response(signature, outputs).SerializeToString())
        return encoded

    def _response(self, signature: Signature, outputs: dict[str, Array]) -> Message:
        response = PredictResponse(model_spec=signature.spec)
        while outputs:
            name = next(iter(outputs))
            tensors.fill_tensor_proto(
                response.outputs[name],
                outputs.pop(name),
                dtype=signature.output_types[name],
                tensor_content=self._tensor_content,
            )
        return response

    async def _metadata(self, request: GetModelMetadataRequest, _: Call) -> Message:
        return self._api.metadata(request)

    async def _reload(self, request: ReloadConfigRequest, call: Call) -> Message:
        check_reload(call.peer(), self._reload_from)
        await self._api.reload(request.config)
        response = ReloadConfigResponse()
        response.status.SetInParent()
        return response


def _answer_bytes(array: Array, *, tensor_content: bool) -> int:
    """The bytes of an output while it becomes a message."""
    # A typed field keeps small integers as 32 bits, and takes twice that while it grows.
    if not tensor_content and array.itemsize < _TYPED_BYTES and array.dtype.kind in "biu":
        return array.size * _TYPED_BYTES
    return tensors.array_bytes(array)


def _rpc(method: services.Method, handler: Unary, model: Callable[[Any], str] = _MODEL) -> Rpc:
    return Rpc(method.path, method.request_class, unary=handler, model=model, measured=True)

"""PredictionService and ModelService over gRPC: requests to the one implementation of each method, and back."""

from __future__ import annotations

from collections.abc import Callable
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
from serving.embedded.api import Api
from serving.embedded.grpc.methods import Rpc, Unary
from serving.embedded.grpc.peers import check_reload
from serving.embedded.inference import examples
from serving.embedded.inference.predict import predict
from serving.embedded.observe.calls import Call
from serving.errors import InvalidArgument

_MODEL = attrgetter("model_spec.name")


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
            _rpc(services.CLASSIFY, lambda request, call: examples.classify(engine, request, call.deadline)),
            _rpc(services.REGRESS, lambda request, call: examples.regress(engine, request, call.deadline)),
            _rpc(
                services.MULTI_INFERENCE,
                lambda request, call: examples.multi_inference(engine, request, call.deadline),
                lambda request: request.tasks[0].model_spec.name if request.tasks else "",
            ),
            _rpc(services.GET_MODEL_METADATA, self._metadata),
            _rpc(services.GET_MODEL_STATUS, lambda request, _: self._api.status(request)),
            _rpc(services.HANDLE_RELOAD_CONFIG_REQUEST, self._reload, lambda _: ""),
        ]

    async def _predict(self, request: PredictRequest, call: Call) -> Message:
        if not request.HasField("model_spec"):
            raise InvalidArgument("Missing ModelSpec")
        name = request.model_spec.signature_name
        with self._api.core.use(request.model_spec) as version:
            signature, outputs = await predict(
                self._api.engine, version, name, request.inputs, request.output_filter, call.deadline
            )
        response = PredictResponse(model_spec=signature.spec)
        for name, array in outputs.items():
            tensors.fill_tensor_proto(
                response.outputs[name],
                array,
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


def _rpc(method: services.Method, handler: Unary, model: Callable[[Any], str] = _MODEL) -> Rpc:
    return Rpc(method.path, method.request_class, unary=handler, model=model, measured=True)

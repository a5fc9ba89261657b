"""The gRPC front end: PredictionService, ModelService, health and reflection on grpc.aio, bytes in and bytes out."""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Awaitable, Callable
from typing import NamedTuple

import grpc
import grpc.aio
from google.protobuf.message import DecodeError
from grpc_reflection.v1alpha import reflection

from serving.apis import messages, services, tensors
from serving.apis.messages import (
    ClassificationRequest,
    GetModelMetadataRequest,
    GetModelStatusRequest,
    MultiInferenceRequest,
    PredictRequest,
    PredictResponse,
    RegressionRequest,
    ReloadConfigRequest,
    ReloadConfigResponse,
)
from serving.embedded import model_info
from serving.embedded.api import Api
from serving.embedded.observer import REQUEST_ID_HEADER, Call, request_id
from serving.embedded.predict import PredictCall
from serving.errors import Code, Internal, InvalidArgument, ServingError

log = logging.getLogger(__name__)

MAX_MESSAGE_BYTES = 2**31 - 1
_STATUS_CODES = {code: grpc.StatusCode[code.name] for code in Code}

Context = grpc.aio.ServicerContext[bytes, bytes]
Handler = Callable[[bytes, Context, Call], Awaitable[bytes]]


class GrpcOptions(NamedTuple):
    """How the gRPC front end answers. channel_arguments: gRPC's own options; unknown ones are let pass."""

    tensor_content: bool = False
    channel_arguments: tuple[tuple[str, str | int], ...] = ()
    reuse_port: bool = False


class GrpcFrontEnd:
    """Decodes requests, calls the one implementation of each method, encodes the answers."""

    def __init__(self, api: Api, options: GrpcOptions) -> None:
        self._api = api
        self._options = options

    def server(self) -> grpc.aio.Server:
        """A server with the methods registered, not yet listening."""
        server = grpc.aio.server(
            options=[
                ("grpc.max_receive_message_length", MAX_MESSAGE_BYTES),
                ("grpc.max_send_message_length", MAX_MESSAGE_BYTES),
                ("grpc.so_reuseport", int(self._options.reuse_port)),
                *self._options.channel_arguments,
            ]
        )
        handlers: dict[services.Method, Handler] = {
            services.PREDICT: self._predict,
            services.CLASSIFY: self._classify,
            services.REGRESS: self._regress,
            services.MULTI_INFERENCE: self._multi_inference,
            services.GET_MODEL_METADATA: self._metadata,
            services.GET_MODEL_STATUS: self._status,
            services.HANDLE_RELOAD_CONFIG_REQUEST: self._reload,
        }
        by_service: dict[str, dict[str, grpc.RpcMethodHandler[bytes, bytes]]] = {}
        for method, handler in handlers.items():
            by_service.setdefault(method.service, {})[method.name] = grpc.unary_unary_rpc_method_handler(
                self._answering(method, handler)
            )
        for service, methods in by_service.items():
            server.add_generic_rpc_handlers((grpc.method_handlers_generic_handler(service, methods),))
        names = (services.PREDICTION_SERVICE, services.MODEL_SERVICE, reflection.SERVICE_NAME)
        reflection.enable_server_reflection(names, server, messages.POOL)
        return server

    async def _predict(self, data: bytes, context: Context, call: Call) -> bytes:
        request = PredictRequest.FromString(data)
        if not request.HasField("model_spec"):
            raise InvalidArgument("Missing ModelSpec")
        call.model = request.model_spec.name
        asked = PredictCall(request.model_spec, request.inputs, request.output_filter, _deadline(context))
        prediction = await self._api.predictor.predict(asked)
        response = PredictResponse(model_spec=prediction.spec)
        data_types = prediction.signature.output_types
        for name, array in prediction.outputs.items():
            tensors.fill_tensor_proto(
                response.outputs[name],
                array,
                dtype=data_types[name],
                tensor_content=self._options.tensor_content,
            )
        return response.SerializeToString()

    async def _classify(self, data: bytes, context: Context, call: Call) -> bytes:
        request = ClassificationRequest.FromString(data)
        call.model = request.model_spec.name
        return (await self._api.examples.classify(request, _deadline(context))).SerializeToString()

    async def _regress(self, data: bytes, context: Context, call: Call) -> bytes:
        request = RegressionRequest.FromString(data)
        call.model = request.model_spec.name
        return (await self._api.examples.regress(request, _deadline(context))).SerializeToString()

    async def _multi_inference(self, data: bytes, context: Context, call: Call) -> bytes:
        request = MultiInferenceRequest.FromString(data)
        call.model = request.tasks[0].model_spec.name if request.tasks else ""
        return (await self._api.examples.multi_inference(request, _deadline(context))).SerializeToString()

    async def _metadata(self, data: bytes, _: Context, call: Call) -> bytes:
        request = GetModelMetadataRequest.FromString(data)
        call.model = request.model_spec.name
        return model_info.metadata(self._api.core, request).SerializeToString()

    async def _status(self, data: bytes, _: Context, call: Call) -> bytes:
        request = GetModelStatusRequest.FromString(data)
        call.model = request.model_spec.name
        return (await self._api.admin.status(request)).SerializeToString()

    async def _reload(self, data: bytes, _: Context, __: Call) -> bytes:
        await self._api.admin.reload(ReloadConfigRequest.FromString(data).config)
        response = ReloadConfigResponse()
        response.status.SetInParent()
        return response.SerializeToString()

    def _answering(self, method: services.Method, handler: Handler) -> Callable[[bytes, Context], Awaitable[bytes]]:
        """The handler with its request observed and its errors turned into gRPC statuses."""
        observer, path = self._api.observer, method.path
        logs = observer.logs

        async def answer(data: bytes, context: Context) -> bytes:
            given = _given_request_id(context)
            call = Call("GRPC", method.name, path, context.peer if logs else str, request_id(given))
            if given or logs:
                context.set_trailing_metadata(((REQUEST_ID_HEADER, call.request_id),))
            try:
                observer.enter()
                try:
                    result = await handler(data, context, call)
                finally:
                    observer.leave()
            except asyncio.CancelledError:
                observer.answered(call, Code.CANCELLED)
                raise
            except Exception as error:  # noqa: BLE001 - every error becomes an answer, the unforeseen are logged
                failure = _failure(error)
            else:
                observer.answered(call, Code.OK)
                return result
            observer.answered(call, failure.code)
            await context.abort(_STATUS_CODES[failure.code], str(failure))
            raise AssertionError("abort always raises")

        return answer


def _deadline(context: Context) -> float | None:
    remaining = context.time_remaining()
    return None if remaining is None else time.monotonic() + remaining


def _given_request_id(context: Context) -> str:
    for key, value in context.invocation_metadata() or ():
        if key == REQUEST_ID_HEADER:
            return str(value)
    return ""


def _failure(error: Exception) -> ServingError:
    if isinstance(error, ServingError):
        return error
    if isinstance(error, DecodeError):
        return InvalidArgument(f"The request is not the method's message: {error}")
    log.error("unforeseen error in a gRPC method", exc_info=error)
    return Internal(f"{type(error).__name__}: {error}")

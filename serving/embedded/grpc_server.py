"""The gRPC front end: PredictionService and ModelService on grpc.aio, bytes in and bytes out."""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Awaitable, Callable
from typing import NamedTuple

import grpc
import grpc.aio
from google.protobuf.message import DecodeError

from serving.apis import services, tensors
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
from serving.embedded.core import ServerCore
from serving.embedded.examples import ExampleInference
from serving.embedded.predict import PredictCall, Predictor
from serving.errors import Code, Internal, InvalidArgument, ServingError

log = logging.getLogger(__name__)

MAX_MESSAGE_BYTES = 2**31 - 1
_STATUS_CODES = {code: grpc.StatusCode[code.name] for code in Code}

Context = grpc.aio.ServicerContext[bytes, bytes]
Handler = Callable[[bytes, Context], Awaitable[bytes]]


class GrpcOptions(NamedTuple):
    """How the gRPC front end answers. channel_arguments: gRPC's own options, unknown ones are let pass."""

    tensor_content: bool = False
    channel_arguments: tuple[tuple[str, str | int], ...] = ()


class GrpcFrontEnd:
    """Decodes requests, calls the one implementation of each method, encodes the answers."""

    def __init__(
        self, core: ServerCore, predictor: Predictor, examples: ExampleInference, options: GrpcOptions
    ) -> None:
        self._core = core
        self._predictor = predictor
        self._examples = examples
        self._options = options

    def server(self) -> grpc.aio.Server:
        """A server with the methods registered, not yet listening."""
        server = grpc.aio.server(
            options=[
                ("grpc.max_receive_message_length", MAX_MESSAGE_BYTES),
                ("grpc.max_send_message_length", MAX_MESSAGE_BYTES),
                ("grpc.so_reuseport", 0),
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
                _answering(handler)
            )
        for service, methods in by_service.items():
            server.add_generic_rpc_handlers((grpc.method_handlers_generic_handler(service, methods),))
        return server

    async def _predict(self, data: bytes, context: Context) -> bytes:
        request = PredictRequest.FromString(data)
        if not request.HasField("model_spec"):
            raise InvalidArgument("Missing ModelSpec")
        call = PredictCall(request.model_spec, request.inputs, request.output_filter, _deadline(context))
        prediction = await self._predictor.predict(call)
        response = PredictResponse(model_spec=prediction.spec)
        for name, array in prediction.outputs.items():
            response.outputs[name].CopyFrom(
                tensors.make_tensor_proto(array, tensor_content=self._options.tensor_content)
            )
        return response.SerializeToString()

    async def _classify(self, data: bytes, context: Context) -> bytes:
        response = await self._examples.classify(ClassificationRequest.FromString(data), _deadline(context))
        return response.SerializeToString()

    async def _regress(self, data: bytes, context: Context) -> bytes:
        response = await self._examples.regress(RegressionRequest.FromString(data), _deadline(context))
        return response.SerializeToString()

    async def _multi_inference(self, data: bytes, context: Context) -> bytes:
        response = await self._examples.multi_inference(MultiInferenceRequest.FromString(data), _deadline(context))
        return response.SerializeToString()

    async def _metadata(self, data: bytes, _: Context) -> bytes:
        return model_info.metadata(self._core, GetModelMetadataRequest.FromString(data)).SerializeToString()

    async def _status(self, data: bytes, _: Context) -> bytes:
        return model_info.status(self._core, GetModelStatusRequest.FromString(data)).SerializeToString()

    async def _reload(self, data: bytes, _: Context) -> bytes:
        config = ReloadConfigRequest.FromString(data).config
        response = ReloadConfigResponse()
        await asyncio.get_running_loop().run_in_executor(None, self._core.reload, config)
        response.status.SetInParent()
        return response.SerializeToString()


def _deadline(context: Context) -> float | None:
    remaining = context.time_remaining()
    return None if remaining is None else time.monotonic() + remaining


def _answering(handler: Handler) -> Handler:
    """The handler with its errors turned into gRPC statuses."""

    async def answer(data: bytes, context: Context) -> bytes:
        try:
            return await handler(data, context)
        except ServingError as error:
            failure = error
        except DecodeError as error:
            failure = InvalidArgument(f"The request is not the method's message: {error}")
        except asyncio.CancelledError:
            raise
        except Exception as error:
            log.exception("unforeseen error in a gRPC method")
            failure = Internal(f"{type(error).__name__}: {error}")
        await context.abort(_STATUS_CODES[failure.code], str(failure))
        raise AssertionError("abort always raises")

    return answer

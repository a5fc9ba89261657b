"""The gRPC front end: PredictionService, ModelService, health and reflection, bytes in and bytes out."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable

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
from serving.apis.status import Code
from serving.embedded.api import Api
from serving.embedded.grpc.frames import header
from serving.embedded.grpc.stream import Method, Stream
from serving.embedded.inference import info
from serving.embedded.inference.predict import PredictCall
from serving.embedded.observe.calls import REQUEST_ID_HEADER, Call, request_id
from serving.errors import InvalidArgument, ServingError

_REQUEST_ID = REQUEST_ID_HEADER.encode()

Handler = Callable[[bytes, Stream, Call], Awaitable[bytes]]


class GrpcFrontEnd:
    """Decodes requests, calls the one implementation of each method, encodes the answers.

    tensor_content: whether tensors are answered as raw bytes instead of float_val etc.
    """

    def __init__(self, api: Api, *, tensor_content: bool = False) -> None:
        self._api = api
        self._tensor_content = tensor_content

    def methods(self) -> dict[str, Method]:
        """The methods of both services, by path."""
        handlers: dict[services.Method, Handler] = {
            services.PREDICT: self._predict,
            services.CLASSIFY: self._classify,
            services.REGRESS: self._regress,
            services.MULTI_INFERENCE: self._multi_inference,
            services.GET_MODEL_METADATA: self._metadata,
            services.GET_MODEL_STATUS: self._status,
            services.HANDLE_RELOAD_CONFIG_REQUEST: self._reload,
        }
        return {method.path: Method(self._answering(method, handler)) for method, handler in handlers.items()}

    async def _predict(self, data: bytes, stream: Stream, call: Call) -> bytes:
        request = PredictRequest.FromString(data)
        if not request.HasField("model_spec"):
            raise InvalidArgument("Missing ModelSpec")
        call.model = request.model_spec.name
        asked = PredictCall(request.model_spec, request.inputs, request.output_filter, stream.deadline)
        prediction = await self._api.predictor.predict(asked)
        response = PredictResponse(model_spec=prediction.spec)
        data_types = prediction.signature.output_types
        for name, array in prediction.outputs.items():
            tensors.fill_tensor_proto(
                response.outputs[name],
                array,
                dtype=data_types[name],
                tensor_content=self._tensor_content,
            )
        return response.SerializeToString()

    async def _classify(self, data: bytes, stream: Stream, call: Call) -> bytes:
        request = ClassificationRequest.FromString(data)
        call.model = request.model_spec.name
        return (await self._api.examples.classify(request, stream.deadline)).SerializeToString()

    async def _regress(self, data: bytes, stream: Stream, call: Call) -> bytes:
        request = RegressionRequest.FromString(data)
        call.model = request.model_spec.name
        return (await self._api.examples.regress(request, stream.deadline)).SerializeToString()

    async def _multi_inference(self, data: bytes, stream: Stream, call: Call) -> bytes:
        request = MultiInferenceRequest.FromString(data)
        call.model = request.tasks[0].model_spec.name if request.tasks else ""
        return (await self._api.examples.multi_inference(request, stream.deadline)).SerializeToString()

    async def _metadata(self, data: bytes, _: Stream, call: Call) -> bytes:
        request = GetModelMetadataRequest.FromString(data)
        call.model = request.model_spec.name
        return info.metadata(self._api.core, request).SerializeToString()

    async def _status(self, data: bytes, _: Stream, call: Call) -> bytes:
        request = GetModelStatusRequest.FromString(data)
        call.model = request.model_spec.name
        return (await self._api.admin.status(request)).SerializeToString()

    async def _reload(self, data: bytes, _: Stream, __: Call) -> bytes:
        await self._api.admin.reload(ReloadConfigRequest.FromString(data).config)
        response = ReloadConfigResponse()
        response.status.SetInParent()
        return response.SerializeToString()

    def _answering(self, method: services.Method, handler: Handler) -> Callable[[bytes, Stream], Awaitable[bytes]]:
        """The handler with its request observed."""
        observer, path = self._api.observer, method.path
        logs = observer.logs

        async def answer(data: bytes, stream: Stream) -> bytes:
            given = stream.metadata.get(_REQUEST_ID, b"").decode("latin-1")
            call = Call("GRPC", method.name, path, stream.peer, request_id(given))
            if given or logs:
                stream.trailers = header(_REQUEST_ID, call.request_id.encode())
            try:
                observer.enter()
                try:
                    result = await handler(data, stream, call)
                finally:
                    observer.leave()
            except asyncio.CancelledError:
                observer.answered(call, Code.CANCELLED)
                raise
            except DecodeError as error:
                observer.answered(call, Code.INVALID_ARGUMENT)
                raise InvalidArgument(f"The request is not the method's message: {error}") from error
            except Exception as error:
                observer.answered(call, error.code if isinstance(error, ServingError) else Code.INTERNAL)
                raise
            observer.answered(call, Code.OK)
            return result

        return answer

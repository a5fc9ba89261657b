"""Both APIs as AsyncTransports."""

from __future__ import annotations

from typing import TypeVar, cast

import grpc
import grpc.aio
import httpx
from google.protobuf.message import Message

from client.transports import grpc_wire, rest_wire
from client.transports.address import ServerAddress
from client.transports.rest import client_options, request_arguments, translated
from client.transports.security import Security
from client.types import Calls, Metadata, ModelSpec, Output, VersionStatus
from serving.apis import messages, services

_M = TypeVar("_M", bound=Message)


class AsyncGrpcTransport:
    """GrpcTransport, awaited; belongs to the event loop that it is first used in."""

    def __init__(self, address: ServerAddress, security: Security) -> None:
        options, credentials = grpc_wire.channel_options(security), grpc_wire.credentials(address, security)
        self._address = address
        self._headers = security.headers
        self._channel = (
            grpc.aio.secure_channel(address.target, credentials, options)
            if credentials
            else grpc.aio.insecure_channel(address.target, options)
        )
        self._calls = grpc_wire.unary_calls(self._channel)

    async def predict(self, model: ModelSpec, calls: Calls, *, timeout: float) -> dict[str, Output]:
        """See Transport."""
        request = grpc_wire.predict_request(model, next(calls()))
        return grpc_wire.predict_answer(await self._call(services.PREDICT, request, messages.PredictResponse, timeout))

    async def status(self, model: ModelSpec, *, timeout: float) -> list[VersionStatus]:
        """See Transport."""
        request = grpc_wire.status_request(model)
        response = await self._call(services.GET_MODEL_STATUS, request, messages.GetModelStatusResponse, timeout)
        return grpc_wire.status_answer(response)

    async def metadata(self, model: ModelSpec, *, timeout: float) -> Metadata:
        """See Transport."""
        request = grpc_wire.metadata_request(model)
        response = await self._call(services.GET_MODEL_METADATA, request, messages.GetModelMetadataResponse, timeout)
        return grpc_wire.metadata_answer(response)

    async def close(self) -> None:
        """See Transport."""
        await self._channel.close()

    async def _call(self, method: services.Method, request: Message, _response_class: type[_M], timeout: float) -> _M:
        try:
            return cast("_M", await self._calls[method](request, timeout=timeout, metadata=self._headers))
        except grpc.aio.AioRpcError as error:
            raise grpc_wire.translated(self._address, error) from error


class AsyncRestTransport:
    """RestTransport, awaited."""

    def __init__(self, address: ServerAddress, security: Security) -> None:
        self._address = address
        self._security = security
        self._http = httpx.AsyncClient(**client_options(address, security))

    async def predict(self, model: ModelSpec, calls: Calls, *, timeout: float) -> dict[str, Output]:
        """See Transport."""
        request = rest_wire.predict_request(model, calls)
        return rest_wire.predict_answer(*await self._call(request, timeout))

    async def status(self, model: ModelSpec, *, timeout: float) -> list[VersionStatus]:
        """See Transport."""
        return rest_wire.status_answer(*await self._call(rest_wire.status_request(model), timeout))

    async def metadata(self, model: ModelSpec, *, timeout: float) -> Metadata:
        """See Transport."""
        return rest_wire.metadata_answer(*await self._call(rest_wire.metadata_request(model), timeout))

    async def close(self) -> None:
        """See Transport."""
        await self._http.aclose()

    async def _call(self, request: rest_wire.Request, timeout: float) -> tuple[int, bytes]:
        try:
            response = await self._http.request(**request_arguments(request, timeout, self._security))
        except httpx.HTTPError as error:
            raise translated(self._address, error, timeout) from error
        return response.status_code, response.content

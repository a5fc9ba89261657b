"""TF Serving's gRPC API as a Transport."""

from __future__ import annotations

from typing import TypeVar, cast

import grpc
from google.protobuf.message import Message

from client.transports import grpc_wire
from client.transports.address import ServerAddress
from client.transports.security import Security
from client.types import Calls, Metadata, ModelSpec, Output, VersionStatus
from serving.apis import messages, services

_M = TypeVar("_M", bound=Message)


class GrpcTransport:
    """One HTTP/2 connection that all threads share."""

    def __init__(self, address: ServerAddress, security: Security) -> None:
        options, credentials = grpc_wire.channel_options(security), grpc_wire.credentials(address, security)
        self._address = address
        self._headers = security.headers
        self._channel = (
            grpc.secure_channel(address.target, credentials, options)
            if credentials
            else grpc.insecure_channel(address.target, options)
        )
        self._calls = grpc_wire.unary_calls(self._channel)

    def predict(self, model: ModelSpec, calls: Calls, *, timeout: float) -> dict[str, Output]:
        """See Transport."""
        request = grpc_wire.predict_request(model, next(calls()))
        return grpc_wire.predict_answer(self._call(services.PREDICT, request, messages.PredictResponse, timeout))

    def status(self, model: ModelSpec, *, timeout: float) -> list[VersionStatus]:
        """See Transport."""
        request = grpc_wire.status_request(model)
        response = self._call(services.GET_MODEL_STATUS, request, messages.GetModelStatusResponse, timeout)
        return grpc_wire.status_answer(response)

    def metadata(self, model: ModelSpec, *, timeout: float) -> Metadata:
        """See Transport."""
        request = grpc_wire.metadata_request(model)
        response = self._call(services.GET_MODEL_METADATA, request, messages.GetModelMetadataResponse, timeout)
        return grpc_wire.metadata_answer(response)

    def close(self) -> None:
        """See Transport."""
        self._channel.close()

    def _call(self, method: services.Method, request: Message, _response_class: type[_M], timeout: float) -> _M:
        try:
            return cast("_M", self._calls[method](request, timeout=timeout, metadata=self._headers))
        except grpc.RpcError as error:
            raise grpc_wire.translated(self._address, error) from error

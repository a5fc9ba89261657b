"""TF Serving's gRPC API as a Transport."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import TypeVar, cast

import grpc
from google.protobuf.message import DecodeError, Message

from client.address import ServerAddress
from client.errors import STATUS_CODES, server_error
from client.transport import Array, ModelSpec, VersionStatus
from serving.apis import messages, services
from serving.apis.tensors import make_ndarray, make_tensor_proto

# TF Serving sends up to 2 GiB; gRPC's own limit of 4 MB for received messages would refuse its larger answers.
_OPTIONS = (("grpc.max_receive_message_length", -1), ("grpc.max_send_message_length", -1))
_M = TypeVar("_M", bound=Message)


class GrpcTransport:
    """One HTTP/2 connection that all threads share."""

    def __init__(self, address: ServerAddress) -> None:
        self._channel = grpc.insecure_channel(address.target, options=_OPTIONS)
        self._calls = {
            method: self._channel.unary_unary(
                method.path,
                request_serializer=_serialize,
                response_deserializer=method.response_class.FromString,
            )
            for method in (services.PREDICT, services.GET_MODEL_STATUS)
        }

    def predict(
        self, model: ModelSpec, signature_name: str, inputs: Mapping[str, Array], *, timeout: float
    ) -> dict[str, Array]:
        """See Transport. Numbers travel as `tensor_content`: 784 bytes an image of uint8."""
        request = messages.PredictRequest(model_spec=_model_spec(model, signature_name))
        for name, array in inputs.items():
            request.inputs[name].CopyFrom(make_tensor_proto(array))
        response = self._call(services.PREDICT, request, messages.PredictResponse, timeout)
        return {name: make_ndarray(tensor) for name, tensor in response.outputs.items()}

    def status(self, model: ModelSpec, *, timeout: float) -> list[VersionStatus]:
        """See Transport."""
        request = messages.GetModelStatusRequest(model_spec=_model_spec(model))
        response = self._call(services.GET_MODEL_STATUS, request, messages.GetModelStatusResponse, timeout)
        states = messages.POOL.FindEnumTypeByName("tensorflow.serving.ModelVersionStatus.State").values_by_number
        return [
            VersionStatus(
                version=entry.version,
                state=states[entry.state].name,
                error_code=STATUS_CODES[entry.status.error_code],
                error_message=entry.status.error_message,
            )
            for entry in response.model_version_status
        ]

    def close(self) -> None:
        """See Transport."""
        self._channel.close()

    def _call(self, method: services.Method, request: Message, response_class: type[_M], timeout: float) -> _M:
        call = cast("Callable[..., _M]", self._calls[method])
        try:
            return call(request, timeout=timeout)
        except grpc.RpcError as error:
            # What a unary call raises is also a grpc.Call, which carries the status.
            failed = cast("grpc.Call", error)
            raise server_error(failed.code().name, failed.details() or "") from error
        except DecodeError as error:
            raise server_error("INTERNAL", f"the answer is not a {response_class.__name__}") from error


def _serialize(message: Message) -> bytes:
    return message.SerializeToString()


def _model_spec(model: ModelSpec, signature_name: str = "") -> messages.ModelSpec:
    spec = messages.ModelSpec(name=model.name, signature_name=signature_name)
    if model.version is not None:
        spec.version.value = model.version
    elif model.version_label is not None:
        spec.version_label = model.version_label
    return spec

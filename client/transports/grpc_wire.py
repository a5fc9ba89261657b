"""TF Serving's gRPC messages to and from the client's own types; what the sync and the async transport share."""

from __future__ import annotations

import array
import sys
from collections.abc import Callable, Sequence
from typing import Any

import grpc
from google.protobuf.message import DecodeError, Message

from client.errors import ClientUsageError, ServerError, server_error
from client.transports.address import ServerAddress
from client.transports.security import Security
from client.types import INTERNAL, Call, Metadata, ModelSpec, Output, Signature, TensorInfo, VersionStatus
from serving.apis import messages, services
from serving.apis.status import Code

# TF Serving sends up to 2 GiB; gRPC's own limit of 4 MB for received messages would refuse its larger answers.
_OPTIONS = (("grpc.max_receive_message_length", -1), ("grpc.max_send_message_length", -1))
_DATA_TYPES = messages.POOL.FindEnumTypeByName("tensorflow.DataType")
_STATES = messages.POOL.FindEnumTypeByName("tensorflow.serving.ModelVersionStatus.State")
# DataType's name -> the typed value field and array.array's code of its bytes, for what a classifier answers.
_FLAT = {
    "DT_FLOAT": ("float_val", "f"),
    "DT_DOUBLE": ("double_val", "d"),
    "DT_INT32": ("int_val", "i"),
    "DT_INT64": ("int64_val", "q"),
}


def channel_options(security: Security) -> list[tuple[str, str | int]]:
    """gRPC's channel arguments."""
    options: list[tuple[str, str | int]] = [*_OPTIONS]
    if security.server_name:
        options.append(("grpc.ssl_target_name_override", security.server_name))
    return options


def credentials(address: ServerAddress, security: Security) -> grpc.ChannelCredentials | None:
    """The channel's TLS credentials, None for plain text. Raises ClientUsageError for unreadable files."""
    if not address.is_secure:
        return None
    try:
        return grpc.ssl_channel_credentials(
            *(
                path.read_bytes() if path else None
                for path in (security.ca_file, security.key_file, security.certificate_file)
            )
        )
    except OSError as error:
        raise ClientUsageError(f"{error.filename}: cannot be read: {error.strerror}") from error


def predict_request(model: ModelSpec, call: Call) -> messages.PredictRequest:
    """Numbers travel as `tensor_content`: 784 bytes an image of uint8."""
    request = messages.PredictRequest(model_spec=_model_spec(model, call.signature_name))
    for name, tensor in call.inputs.items():
        proto = request.inputs[name]
        proto.dtype = _DATA_TYPES.values_by_name[tensor.dtype].number
        for size in tensor.shape:
            proto.tensor_shape.dim.add(size=size)
        if isinstance(tensor.content, bytes):
            proto.tensor_content = tensor.content
        else:
            proto.string_val.extend(tensor.content)
    return request


def predict_answer(response: messages.PredictResponse) -> dict[str, Output]:
    """Output name -> shape and flat values. Raises ServerError for a tensor that cannot be read."""
    return {name: _output(name, proto) for name, proto in response.outputs.items()}


def status_request(model: ModelSpec) -> messages.GetModelStatusRequest:
    """A GetModelStatusRequest."""
    return messages.GetModelStatusRequest(model_spec=_model_spec(model))


def status_answer(response: messages.GetModelStatusResponse) -> list[VersionStatus]:
    """The versions, in the server's order."""
    return [
        VersionStatus(
            version=entry.version,
            state=_STATES.values_by_number[entry.state].name,
            error_code=Code(entry.status.error_code).name,
            error_message=entry.status.error_message,
        )
        for entry in response.model_version_status
    ]


def metadata_request(model: ModelSpec) -> messages.GetModelMetadataRequest:
    """A GetModelMetadataRequest for the signatures, the only field that TF Serving has."""
    return messages.GetModelMetadataRequest(model_spec=_model_spec(model), metadata_field=["signature_def"])


def metadata_answer(response: messages.GetModelMetadataResponse) -> Metadata:
    """The signatures by name. Raises ServerError when they cannot be read."""
    signatures = messages.SignatureDefMap()
    try:
        signatures.ParseFromString(response.metadata["signature_def"].value)
    except DecodeError as error:
        raise ServerError("INTERNAL", "the server's metadata cannot be read") from error
    return Metadata(
        response.model_spec.name,
        response.model_spec.version.value,
        {
            name: Signature(
                {key: _tensor_info(info) for key, info in sorted(signature.inputs.items())},
                {key: _tensor_info(info) for key, info in sorted(signature.outputs.items())},
                signature.method_name,
            )
            for name, signature in sorted(signatures.signature_def.items())
            if not name.startswith(INTERNAL)
        },
    )


def translated(address: ServerAddress, error: grpc.RpcError | grpc.aio.AioRpcError) -> ServerError:
    """The ServerError for what a call raised: the server's status, or the library's word that it got nowhere."""
    code: grpc.StatusCode = error.code()
    details: str = error.details() or ""
    if code is grpc.StatusCode.UNAVAILABLE and "connect" in details.lower():
        details = f"{address}: {details.rsplit('last error: ', 1)[-1]}"
    return server_error(code.name, details)


def unary_calls(channel: grpc.Channel | grpc.aio.Channel) -> dict[services.Method, Callable[..., Any]]:
    """What calls each method that the client asks for; awaited where the channel is asyncio's."""
    return {
        method: channel.unary_unary(
            method.path,
            request_serializer=_serialize,
            response_deserializer=method.response_class.FromString,
        )
        for method in (services.PREDICT, services.GET_MODEL_STATUS, services.GET_MODEL_METADATA)
    }


def _serialize(message: Message) -> bytes:
    return message.SerializeToString()


def _model_spec(model: ModelSpec, signature_name: str = "") -> messages.ModelSpec:
    spec = messages.ModelSpec(name=model.name, signature_name=signature_name)
    if model.version is not None:
        spec.version.value = model.version
    elif model.version_label is not None:
        spec.version_label = model.version_label
    return spec


def _output(name: str, proto: messages.TensorProto) -> Output:
    shape = tuple(dim.size for dim in proto.tensor_shape.dim)
    dtype = _DATA_TYPES.values_by_number[proto.dtype].name
    if dtype == "DT_STRING":
        return Output(shape, list(proto.string_val))
    if dtype not in _FLAT:
        raise ServerError("INTERNAL", f"the output {name} is {dtype}: a classifier answers floats, integers or strings")
    field, code = _FLAT[dtype]
    if not proto.tensor_content:
        # A slice is a list, made in half the time that list() takes.
        return Output(shape, getattr(proto, field)[:])
    values = array.array(code)
    try:
        values.frombytes(proto.tensor_content)
    except ValueError as error:
        raise ServerError("INTERNAL", f"the output {name} is cut short") from error
    if sys.byteorder == "big":
        values.byteswap()
    return Output(shape, values.tolist())


def _tensor_info(info: messages.TensorInfo) -> TensorInfo:
    shape: Sequence[int] | None = (
        None if info.tensor_shape.unknown_rank else [dim.size for dim in info.tensor_shape.dim]
    )
    return TensorInfo(_DATA_TYPES.values_by_number[info.dtype].name, None if shape is None else tuple(shape))

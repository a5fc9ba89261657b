"""TF Serving's gRPC messages to and from the client's own types, without input and output.

What cannot be read in a response is a ServerError with the code INTERNAL.
"""

from __future__ import annotations

import array
import sys
from collections.abc import Iterable
from typing import TYPE_CHECKING, Any, NamedTuple

from google.protobuf.message import DecodeError, Message

from client.errors import ClientUsageError, ServerError
from client.transports.base import Exchange
from client.types import Call, Calls, Metadata, ModelSpec, Output, Signature, VersionStatus
from fashion_common.trace_context import TraceContext, parse
from serving.apis import messages, runtimes, services
from serving.apis.signatures import signatures
from serving.apis.status import Code

if TYPE_CHECKING:
    from serving.apis.tensors import Array

_DATA_TYPES = messages.POOL.FindEnumTypeByName("tensorflow.DataType")
_STATES = messages.POOL.FindEnumTypeByName("tensorflow.serving.ModelVersionStatus.State")
# DataType's name -> the typed value field and array.array's code of its bytes, for what a classifier answers.
_FLAT = {
    "DT_FLOAT": ("float_val", "f"),
    "DT_DOUBLE": ("double_val", "d"),
    "DT_INT32": ("int_val", "i"),
    "DT_INT64": ("int64_val", "q"),
}

# By the request's message.
_METHODS = {
    "PredictRequest": services.PREDICT,
    "ClassificationRequest": services.CLASSIFY,
    "RegressionRequest": services.REGRESS,
    "MultiInferenceRequest": services.MULTI_INFERENCE,
}

# Names and values.
Trailers = Iterable[Any]


class Request(NamedTuple):
    """One unary call: the method and its request message. trailers: whether the response comes with them, in a pair."""

    method: services.Method
    message: Message
    trailers: bool = False


def predict(model: ModelSpec, calls: Calls) -> Exchange[dict[str, Output]]:
    """The first of the calls; read as output name -> shape and flat values."""
    request = predict_request(model, next(calls()))
    return Exchange(Request(services.PREDICT, request), outputs, lambda response, _: (request, response))


def infer(model: ModelSpec, call: Call, _signature: Signature) -> Exchange[dict[str, Array]]:
    """A call of any signature; read as output name -> array."""
    request = predict_request(model, call)
    return Exchange(Request(services.PREDICT, request), _arrays, lambda response, _: (request, response))


def message(request: Message) -> Exchange[Message]:
    """The message's method; read as what was answered."""
    return Exchange(Request(_METHODS[request.DESCRIPTOR.name], request), lambda response: response)


def status(model: ModelSpec) -> Exchange[list[VersionStatus]]:
    """GetModelStatus; read as the versions in the server's order."""
    request = messages.GetModelStatusRequest(model_spec=model_spec(model))
    return Exchange(Request(services.GET_MODEL_STATUS, request, trailers=True), _version_statuses)


def metadata(model: ModelSpec) -> Exchange[Metadata]:
    """GetModelMetadata of the signatures, the only field that TF Serving has."""
    request = messages.GetModelMetadataRequest(model_spec=model_spec(model), metadata_field=["signature_def"])
    return Exchange(Request(services.GET_MODEL_METADATA, request), _metadata)


def metrics() -> Exchange[str]:
    """Raises ClientUsageError: TF Serving's gRPC has none."""
    raise ClientUsageError("metrics are on the REST port: ask http://HOST:8501")


def predict_request(model: ModelSpec, call: Call) -> messages.PredictRequest:
    """The request for a call; numbers travel as `tensor_content`, 784 bytes an image of uint8."""
    request = messages.PredictRequest(
        model_spec=model_spec(model, call.signature_name), output_filter=call.output_filter
    )
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


def outputs(response: messages.PredictResponse) -> dict[str, Output]:
    """The outputs of an answer by name. Raises ServerError for what is no classifier's."""
    return {name: _output(name, proto) for name, proto in response.outputs.items()}


def origin(trailers: Trailers | None) -> tuple[str, TraceContext | None]:
    """By what the request of an error is found: its id and its trace, "" and None where the server does not tell."""
    details = dict(trailers or ()).get("grpc-status-details-bin", b"")
    try:
        for detail in messages.Status.FromString(details if isinstance(details, bytes) else b"").details:
            if detail.type_url.endswith("/google.rpc.RequestInfo"):
                info = messages.RequestInfo.FromString(detail.value)
                return info.request_id, parse(info.serving_data)
    except DecodeError:
        pass
    return "", None


def _arrays(response: messages.PredictResponse) -> dict[str, Array]:
    from serving.apis import tensors

    try:
        arrays = {name: tensors.make_ndarray(response.outputs[name]) for name in sorted(response.outputs)}
    except tensors.TensorError as error:
        raise ServerError("INTERNAL", f"an output cannot be read: {error}") from error
    # What is a view of the message cannot be written to.
    return {name: array if array.flags.writeable else array.copy() for name, array in arrays.items()}


def _version_statuses(response: tuple[messages.GetModelStatusResponse, Trailers]) -> list[VersionStatus]:
    message, trailers = response
    served_by = runtimes.read_header(str(dict(trailers).get(runtimes.HEADER, "")))
    return [
        VersionStatus(
            version=entry.version,
            state=_STATES.values_by_number[entry.state].name,
            error_code=Code(entry.status.error_code).name,
            error_message=entry.status.error_message,
            runtime=served_by.get(entry.version, ""),
        )
        for entry in message.model_version_status
    ]


def _metadata(response: messages.GetModelMetadataResponse) -> Metadata:
    definitions = messages.SignatureDefMap()
    try:
        definitions.ParseFromString(response.metadata["signature_def"].value)
    except DecodeError as error:
        raise ServerError("INTERNAL", "the server's metadata cannot be read") from error
    spec = response.model_spec
    return Metadata(spec.name, spec.version.value, signatures(definitions.signature_def))


def model_spec(model: ModelSpec, signature_name: str = "") -> messages.ModelSpec:
    """The message of a model, and of one of its signatures."""
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

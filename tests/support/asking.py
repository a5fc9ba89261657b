"""Asking a live server over gRPC, without the client package."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import grpc
import numpy as np
import numpy.typing as npt
from google.protobuf.message import Message

from serving.apis import services, tensors
from serving.apis.messages import PredictRequest, PredictResponse

METHODS = [value for value in vars(services).values() if isinstance(value, services.Method)]


def call(channel: grpc.Channel, method: services.Method, request: Message, **options: Any) -> Any:
    """One call of a method; options: timeout, metadata."""
    stub = channel.unary_unary(
        method.path,
        request_serializer=method.request_class.SerializeToString,
        response_deserializer=method.response_class.FromString,
    )
    return stub(request, **{"timeout": 30, **options})


def predict_request(
    model: str, inputs: Mapping[str, npt.ArrayLike], *, dtypes: Mapping[str, int] | None = None, **spec: Any
) -> PredictRequest:
    """A PredictRequest; spec: version, signature_name."""
    request = PredictRequest()
    request.model_spec.name = model
    request.model_spec.signature_name = spec.get("signature_name", "")
    if "version" in spec:
        request.model_spec.version.value = spec["version"]
    for name, value in inputs.items():
        made = tensors.make_tensor_proto(value, dtype=(dtypes or {}).get(name))
        request.inputs[name].CopyFrom(made)
    return request


def outputs(response: PredictResponse) -> dict[str, npt.NDArray[Any]]:
    """The outputs of an answer as arrays."""
    return {name: np.asarray(tensors.make_ndarray(value)) for name, value in response.outputs.items()}


def predict(channel: grpc.Channel, model: str, inputs: Mapping[str, npt.ArrayLike], **spec: Any) -> dict[str, Any]:
    """The outputs for these inputs."""
    return outputs(call(channel, services.PREDICT, predict_request(model, inputs, **spec)))

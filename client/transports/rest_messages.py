"""Messages of PredictionService as the JSON of TF Serving's REST API, and its answers as messages.

Source: https://www.tensorflow.org/tfx/serving/api_rest
"""

from __future__ import annotations

import base64
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any

from client.errors import ClientUsageError
from client.types import Output
from serving.apis.messages import (
    ClassificationRequest,
    ClassificationResponse,
    Example,
    Feature,
    Input,
    PredictRequest,
    PredictResponse,
    RegressionRequest,
    RegressionResponse,
)

if TYPE_CHECKING:
    from google.protobuf.message import Message

    from serving.apis.tensors import Array

# The last part of the path.
_VERBS = {"PredictRequest": "predict", "ClassificationRequest": "classify", "RegressionRequest": "regress"}
_FIX = "name a gRPC server with --server grpc://HOST:PORT"


def verb(request: Message) -> str:
    """The path's last part: predict, classify or regress. Raises ClientUsageError for what REST does not have."""
    name = request.DESCRIPTOR.name
    if name not in _VERBS:
        raise ClientUsageError(f"REST has no {name}: {_FIX}")
    return _VERBS[name]


def body(request: Message) -> dict[str, Any]:
    """What JSON is made of, in the column format. Raises ClientUsageError for what REST cannot carry."""
    if isinstance(request, PredictRequest):
        if request.output_filter:
            raise ClientUsageError(f"REST cannot carry the output_filter {', '.join(request.output_filter)}: {_FIX}")
        content: dict[str, Any] = {"inputs": {name: _column(name, proto) for name, proto in request.inputs.items()}}
    else:
        assert isinstance(request, ClassificationRequest | RegressionRequest)
        content = dict(_examples(request.input))
    return {"signature_name": request.model_spec.signature_name, **content}


def predict_response(outputs: Mapping[str, Output]) -> PredictResponse:
    """The message of an answer's outputs; numbers are of 64 bits, since JSON does not tell their dtype."""
    import numpy as np

    from serving.apis.tensors import make_tensor_proto

    response = PredictResponse()
    for name, output in outputs.items():
        # numpy would cut zeros off the end of bytes.
        dtype = object if any(isinstance(value, bytes) for value in output.values) else None
        array = np.array(output.values, dtype).reshape(output.shape)
        response.outputs[name].CopyFrom(make_tensor_proto(array))
    return response


def classification_response(results: Sequence[Any]) -> ClassificationResponse:
    """The message of `[[[label, score], ...], ...]`."""
    response = ClassificationResponse()
    for classes in results:
        classification = response.result.classifications.add()
        for label, score in classes:
            classification.classes.add(label=label, score=score)
    return response


def regression_response(results: Sequence[float]) -> RegressionResponse:
    """The message of `[value, ...]`."""
    response = RegressionResponse()
    for value in results:
        response.result.regressions.add(value=value)
    return response


RESPONSES: dict[str, Callable[[Any], Message]] = {
    "classify": classification_response,
    "regress": regression_response,
}


def _column(name: str, proto: Any) -> Any:
    from serving.apis.tensors import TensorError, data_type_name, make_ndarray

    try:
        array: Array = make_ndarray(proto)
    except TensorError as error:
        raise ClientUsageError(f"the input {name} cannot be sent over REST: {error}: {_FIX}") from error
    if array.dtype.kind == "O":
        return _with_base64(array.tolist())
    if array.dtype.kind not in "fiub":
        raise ClientUsageError(f"the input {name} is {data_type_name(proto.dtype)}, which has no JSON form: {_FIX}")
    return array.tolist()


def _with_base64(values: Any) -> Any:
    return [_with_base64(value) for value in values] if isinstance(values, list) else _base64(values)


def _base64(value: bytes) -> dict[str, str]:
    return {"b64": base64.b64encode(value).decode()}


def _examples(message: Input) -> Iterator[tuple[str, Any]]:
    if message.HasField("example_list_with_context"):
        yield "context", _features(message.example_list_with_context.context)
        yield "examples", [_features(example) for example in message.example_list_with_context.examples]
    else:
        yield "examples", [_features(example) for example in message.example_list.examples]


def _features(example: Example) -> dict[str, Any]:
    return {name: _values(feature) for name, feature in example.features.feature.items()}


def _values(feature: Feature) -> list[Any]:
    if feature.HasField("bytes_list"):
        return [_base64(value) for value in feature.bytes_list.value]
    return list((feature.float_list if feature.HasField("float_list") else feature.int64_list).value)

"""Messages of PredictionService as the JSON of TF Serving's REST API, and its answers as messages.

Source: https://www.tensorflow.org/tfx/serving/api_rest
"""

from __future__ import annotations

import base64
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any

from client.errors import ClientUsageError, ServerError
from client.types import Output, Signature, TensorInfo
from serving.apis.messages import (
    POOL,
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
        content: dict[str, Any] = {
            "inputs": {name: _proto_column(name, proto) for name, proto in request.inputs.items()}
        }
    else:
        assert isinstance(request, ClassificationRequest | RegressionRequest)
        content = dict(_examples(request.input))
    return {"signature_name": request.model_spec.signature_name, **content}


def predict_response(outputs: Mapping[str, Output], signature: Signature | None = None) -> PredictResponse:
    """The message of an answer's outputs, as `output_arrays`; it does not say which version gave it."""
    from serving.apis.tensors import make_tensor_proto

    response = PredictResponse()
    for name, array in output_arrays(outputs, signature).items():
        dtype = None if signature is None else _data_type(signature.outputs[name])
        response.outputs[name].CopyFrom(make_tensor_proto(array, dtype=dtype))
    return response


def output_arrays(outputs: Mapping[str, Output], signature: Signature | None) -> dict[str, Array]:
    """The outputs of an answer as the signature declares them; without one, numbers are of 64 bits.

    Raises ServerError for outputs that the signature does not declare; ValueError, TypeError or OverflowError for
    values that are not of its dtype.
    """
    arrays = {}
    for name, output in outputs.items():
        if signature is None:
            arrays[name] = _output_array(output, None)
            continue
        # REST does not name a single output.
        alias = name or next(iter(signature.outputs), "")
        if alias not in signature.outputs:
            raise ServerError("INTERNAL", f"the output {alias!r} is not in the metadata: has another version answered?")
        arrays[alias] = _output_array(output, signature.outputs[alias])
    return arrays


def _output_array(output: Output, info: TensorInfo | None) -> Array:
    import numpy as np

    from serving.apis.tensors import numpy_dtype

    shape = output.shape
    if info is None:
        # numpy would cut zeros off the end of bytes.
        dtype = np.dtype(object) if any(isinstance(value, bytes) for value in output.values) else None
    else:
        dtype = numpy_dtype(_data_type(info))
        if not output.values:
            # The lists of JSON end at the first size of 0.
            shape += tuple(max(size, 0) for size in (info.shape or ())[len(shape) :])
    return np.array(output.values, dtype).reshape(shape)


def _data_type(info: TensorInfo) -> int:
    return POOL.FindEnumTypeByName("tensorflow.DataType").values_by_name[info.dtype].number


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


def column(name: str, array: Array) -> Any:
    """An input as JSON. Raises ClientUsageError for what JSON cannot carry."""
    import numpy as np

    if array.dtype.kind == "c":
        raise ClientUsageError(f"the input {name} is {array.dtype}, which has no JSON form: {_FIX}")
    if 0 in array.shape[:-1]:
        raise ClientUsageError(f"the input {name} is empty, and JSON cannot tell its shape {list(array.shape)}: {_FIX}")
    if array.dtype.kind == "O":
        return _with_base64(array.tolist())
    # The small types of ml_dtypes are no numbers of Python.
    return (array.astype(np.float32) if array.dtype.kind == "V" else array).tolist()


def _proto_column(name: str, proto: Any) -> Any:
    from serving.apis.tensors import TensorError, make_ndarray

    try:
        array = make_ndarray(proto)
    except TensorError as error:
        raise ClientUsageError(f"the input {name} cannot be sent over REST: {error}: {_FIX}") from error
    return column(name, array)


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

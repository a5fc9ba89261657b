"""tf.Examples made of dicts, as the requests of Classify, Regress and MultiInference, and their results.

Source: https://www.tensorflow.org/tfx/serving/api_rest#classify_and_regress_api; tensorflow/core/example/example.proto
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Literal, TypeAlias

from client.calls import signature_of
from client.errors import ClientUsageError
from client.transports.grpc_wire import model_spec
from client.types import ClassScore, Metadata, ModelSpec, Signature
from serving.apis import messages
from serving.apis.signatures import DEFAULT_SIGNATURE

Method: TypeAlias = Literal["classify", "regress"]
# One example: a value or a flat list of them by the feature's name.
Features: TypeAlias = "Mapping[str, Any]"
_METHOD_NAMES: dict[Method, str] = {"classify": "tensorflow/serving/classify", "regress": "tensorflow/serving/regress"}
# An error quotes so many characters of a value.
_QUOTED = 100


def classification_request(
    model: ModelSpec,
    metadata: Metadata,
    signature_name: str | None,
    examples: Sequence[Features],
    context: Features | None,
) -> messages.ClassificationRequest:
    """Raises ClientUsageError for what is no example, and for a signature that takes none."""
    spec = model_spec(model, _signature_name(metadata, "classify", signature_name))
    return messages.ClassificationRequest(model_spec=spec, input=_input(examples, context))


def regression_request(
    model: ModelSpec,
    metadata: Metadata,
    signature_name: str | None,
    examples: Sequence[Features],
    context: Features | None,
) -> messages.RegressionRequest:
    """Raises ClientUsageError as `classification_request`."""
    spec = model_spec(model, _signature_name(metadata, "regress", signature_name))
    return messages.RegressionRequest(model_spec=spec, input=_input(examples, context))


def multi_inference_request(
    model: ModelSpec,
    metadata: Metadata,
    signature_names: Sequence[str],
    examples: Sequence[Features],
    context: Features | None,
) -> messages.MultiInferenceRequest:
    """Each signature with the method that the metadata have for it. Raises ClientUsageError as the others."""
    request = messages.MultiInferenceRequest(input=_input(examples, context))
    for name in signature_names:
        method = signature_of(metadata, name)[1].method_name
        if method not in _METHOD_NAMES.values():
            raise ClientUsageError(f"the signature {name!r} is one of {method}: wanted are classify and regress")
        request.tasks.add(model_spec=model_spec(model, name), method_name=method)
    return request


def class_scores(result: messages.ClassificationResult) -> list[list[ClassScore]]:
    """The classes of each example, in the model's order."""
    return [[ClassScore(each.label, each.score) for each in row.classes] for row in result.classifications]


def values(result: messages.RegressionResult) -> list[float]:
    """The value of each example."""
    return [row.value for row in result.regressions]


def results(response: messages.MultiInferenceResponse) -> dict[str, list[list[ClassScore]] | list[float]]:
    """Each signature's result by its name."""
    return {
        result.model_spec.signature_name: values(result.regression_result)
        if result.HasField("regression_result")
        else class_scores(result.classification_result)
        for result in response.results
    }


def example(features: Features) -> messages.Example:
    """A tf.Example: text and bytes, whole numbers (and bools), or floats; numpy's too. Raises ClientUsageError."""
    if not isinstance(features, Mapping):
        raise ClientUsageError(f"an example is a dict of features, such as {{'x': 1.0}}, not {type(features).__name__}")
    message = messages.Example()
    for name, value in features.items():
        _fill(message.features.feature[name], name, value)
    return message


def _input(examples: Sequence[Features], context: Features | None) -> messages.Input:
    if isinstance(examples, Mapping) or not examples:
        raise ClientUsageError("examples are a list of one dict or more: [{'x': 1.0}, {'x': 2.0}]")
    messages_ = [example(features) for features in examples]
    if context is None:
        return messages.Input(example_list=messages.ExampleList(examples=messages_))
    return messages.Input(
        example_list_with_context=messages.ExampleListWithContext(examples=messages_, context=example(context))
    )


def _fill(feature: messages.Feature, name: str, value: Any) -> None:
    # Arrays and scalars of numpy, without an import of it.
    content = value.tolist() if hasattr(value, "tolist") else value
    items = list(content) if isinstance(content, list | tuple) else [content]
    types = set(map(type, items))
    reason: object = f"got {', '.join(sorted(kind.__name__ for kind in types))}"
    try:
        if types <= {str, bytes}:
            feature.bytes_list.value.extend(item.encode() if isinstance(item, str) else item for item in items)
            return
        if types <= {int, bool}:
            feature.int64_list.value.extend(map(int, items))
            return
        if types <= {float, int}:
            feature.float_list.value.extend(items)
            return
    except ValueError as error:
        reason = error
    raise ClientUsageError(
        f"the feature `{name}` takes text or bytes, int64, or floats, one or a flat list of them: "
        f"{repr(value)[:_QUOTED]}: {reason}"
    )


def _signature_name(metadata: Metadata, method: Method, signature_name: str | None) -> str:
    """The signature's name, by default that of the only one of the method. Raises ClientUsageError."""
    of_method = [name for name, each in metadata.signatures.items() if each.method_name == _METHOD_NAMES[method]]
    default = of_method[0] if len(of_method) == 1 else DEFAULT_SIGNATURE
    name, signature = signature_of(metadata, signature_name or default)
    if not _takes_examples(signature):
        inputs = ", ".join(f"{key} {info.dtype} {info}" for key, info in signature.inputs.items())
        fix = f"{', '.join(of_method)} would" if of_method else "infer runs this one"
        raise ClientUsageError(f"the signature {name!r} takes {inputs or 'nothing'}, and no tf.Examples: {fix}")
    return name


def _takes_examples(signature: Signature) -> bool:
    return [info.dtype for info in signature.inputs.values()] == ["DT_STRING"]

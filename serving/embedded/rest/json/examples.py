"""REST bodies of Classify and Regress: JSON objects as tf.Examples, and the results as JSON."""

from __future__ import annotations

from collections.abc import Mapping

from serving.apis.messages import ClassificationResult, Example, Feature, Input, RegressionResult
from serving.embedded.rest.json import values
from serving.embedded.rest.json.columns import decoded, is_base64
from serving.embedded.rest.json.outputs import float_texts
from serving.embedded.rest.json.values import Value, format_error
from serving.errors import InvalidArgument

_INT64_MAX = 2**63 - 1


def examples_input(document: Mapping[str, Value]) -> Input:
    """The `examples`, and the optional `context`, of a body. Raises InvalidArgument."""
    result = Input()
    with_context = "context" in document
    if with_context:
        result.example_list_with_context.context.CopyFrom(_example(document["context"]))
    if "examples" not in document:
        raise format_error(document, "When method is classify, key 'examples' is expected and was not found")
    examples = document["examples"]
    if not isinstance(examples, list):
        raise format_error(document, "Expecting 'examples' value to be an list/array")
    if not examples:
        raise format_error(document, "'examples' value is an empty array")
    target = result.example_list_with_context if with_context else result.example_list
    target.examples.extend(map(_example, examples))
    return result


def classification_json(result: ClassificationResult) -> str:
    """`{"results": [[["label", score], ...], ...]}`."""
    rows = [
        f"[{', '.join(f'[{values.quoted(item.label)}, {float_texts([item.score])[0]}]' for item in row.classes)}]"
        for row in result.classifications
    ]
    if not rows:
        raise InvalidArgument("Cannot convert empty ClassificationResults to JSON")
    return f'{{\n    "results": [{", ".join(rows)}\n    ]\n}}'


def regression_json(result: RegressionResult) -> str:
    """`{"results": [value, ...]}`."""
    if not result.regressions:
        raise InvalidArgument("Cannot convert empty RegressionResults to JSON")
    return f'{{\n    "results": [{", ".join(float_texts([item.value for item in result.regressions]))}]\n}}'


def _example(value: Value) -> Example:
    if not isinstance(value, dict):
        raise InvalidArgument(f"Example must be JSON object but got JSON {values.type_name(value)}")
    example = Example()
    for name, content in value.items():
        feature = example.features.feature[name]
        for element in content if isinstance(content, list) else [content]:
            _add(feature, name, element)
    return example


def _add(feature: Feature, name: str, value: Value) -> None:
    element: bytes | int | float
    if isinstance(value, str):
        field, element = "bytes_list", value.encode("utf-8", "surrogateescape")
    elif is_base64(value):
        field, element = "bytes_list", decoded(value)
    elif isinstance(value, int):
        field, element = "int64_list", int(value)
    elif isinstance(value, float):
        field, element = "float_list", value
    else:
        raise InvalidArgument(f"Feature: {name} has element with unexpected JSON type: {values.type_name(value)}")
    kind = feature.WhichOneof("kind")
    if kind not in (None, field):
        expected = kind.removesuffix("_list")
        raise InvalidArgument(f"Unexpected element type in feature: {name} expecting type: {expected}")
    if isinstance(element, int) and element > _INT64_MAX:
        raise InvalidArgument(f"Feature: {name} has uint64 element. Only int64 is supported.")
    getattr(feature, field).value.append(element)

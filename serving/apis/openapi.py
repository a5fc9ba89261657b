"""A server's REST API as an OpenAPI document, made from its models' signatures.

OpenAPI 3.1: https://spec.openapis.org/oas/v3.1.0. The API: https://www.tensorflow.org/tfx/serving/api_rest
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

from serving.apis.signatures import BYTES_SUFFIX, DEFAULT_SIGNATURE, Signature, TensorInfo

VERSION = "3.1.0"
_MEDIA = "application/json"
_NOT_IN_NAMES = re.compile(r"[^A-Za-z0-9._-]")
_BASE64 = {
    "type": "object",
    "properties": {"b64": {"type": "string", "contentEncoding": "base64"}},
    "required": ["b64"],
    "additionalProperties": False,
}
_ERROR = {"type": "object", "properties": {"error": {"type": "string"}}, "required": ["error"]}
_OBJECT = {"type": "object"}
_STATUS = {
    "type": "object",
    "properties": {
        "model_version_status": {
            "type": "array",
            "items": {
                "type": "object",
                "properties": {
                    "version": {"type": "string"},
                    "state": {"enum": ["UNKNOWN", "START", "LOADING", "AVAILABLE", "UNLOADING", "END"]},
                    "status": {
                        "type": "object",
                        "properties": {"error_code": {"type": "string"}, "error_message": {"type": "string"}},
                    },
                },
            },
        }
    },
}
_METADATA = {"type": "object", "properties": {"model_spec": _OBJECT, "metadata": _OBJECT}}
_CLASSES = {
    "type": "array",
    "description": "For each example its classes: label and score.",
    "items": {"type": "array", "items": {"type": "array", "prefixItems": [{"type": "string"}, {"type": "number"}]}},
}
_REGRESSIONS = {"type": "array", "description": "For each example its value.", "items": {"type": "number"}}


def document(
    models: Mapping[str, Mapping[str, Signature]], server: str = "/", *, asks_tokens: bool = False
) -> dict[str, Any]:
    """The OpenAPI document of models, their signatures by name. server: the address of the REST API.

    asks_tokens: whether each call wants a bearer token. Signatures with complex numbers are left out: JSON has none.
    """
    paths: dict[str, Any] = {}
    schemas: dict[str, Any] = {"Error": _ERROR, "Status": _STATUS, "Metadata": _METADATA}
    for model, signatures in models.items():
        _add_model(paths, schemas, model, signatures)
    components: dict[str, Any] = {"schemas": schemas}
    if asks_tokens:
        components["securitySchemes"] = {"token": {"type": "http", "scheme": "bearer"}}
    return {
        "openapi": VERSION,
        "info": {"title": f"Models: {', '.join(models) or 'none'}", "version": "1"},
        "servers": [{"url": server}],
        "security": [{"token": []}] if asks_tokens else [],
        "paths": paths,
        "components": components,
    }


def _add_model(paths: dict[str, Any], schemas: dict[str, Any], model: str, signatures: Mapping[str, Signature]) -> None:
    """The paths of a model, for its newest version, for one by number, and for one by label."""
    name = _NOT_IN_NAMES.sub("_", model)
    calls = _calls(schemas, name, {key: signatures[key] for key in signatures if _is_json(signatures[key])})
    version = {"name": "version", "in": "path", "required": True, "schema": {"type": "integer", "minimum": 0}}
    label = {"name": "label", "in": "path", "required": True, "schema": {"type": "string"}}
    for path, parameters, suffix in (
        (f"/v1/models/{model}", [], ""),
        (f"/v1/models/{model}/versions/{{version}}", [version], "_version"),
        (f"/v1/models/{model}/labels/{{label}}", [label], "_label"),
    ):
        rows = {"": ("get", "status", "", "Status"), "/metadata": ("get", "metadata", "", "Metadata")}
        rows |= {f":{method}": ("post", method, *call) for method, call in calls.items()}
        for end, (verb, operation, request, response) in rows.items():
            item = _operation(f"{name}_{operation}{suffix}", name, request, response)
            paths[f"{path}{end}"] = {verb: item, **({"parameters": parameters} if parameters else {})}


def _operation(operation_id: str, tag: str, request: str, response: str) -> dict[str, Any]:
    """request, response: names of schemas; "" for a request without a body."""
    operation: dict[str, Any] = {
        "operationId": operation_id,
        "tags": [tag],
        "responses": {
            "200": _content("What the model answers." if request else "What the server says.", response),
            "default": _content("Why not.", "Error"),
        },
    }
    if request:
        body = _content("", request)
        operation["requestBody"] = {"required": True, "content": body["content"]}
    return operation


def _content(description: str, schema: str) -> dict[str, Any]:
    return {"description": description, "content": {_MEDIA: {"schema": _reference(schema)}}}


def _reference(schema: str) -> dict[str, str]:
    return {"$ref": f"#/components/schemas/{schema}"}


def _calls(schemas: dict[str, Any], model: str, signatures: Mapping[str, Signature]) -> dict[str, tuple[str, str]]:
    """The methods that the signatures have, with the schemas of their requests and answers, which are added."""
    forms: dict[str, tuple[list[str], list[str]]] = {}
    for key, signature in signatures.items():
        name = f"{model}.{_NOT_IN_NAMES.sub('_', key)}"
        if signature.method != "predict":
            _add(
                schemas, forms, signature.method, f"{name}.examples", _examples_request(key), _result(signature.method)
            )
        requests, responses = _predict_forms(key, signature)
        for kind, request, response in zip(("rows", "columns")[-len(requests) :], requests, responses, strict=True):
            _add(schemas, forms, "predict", f"{name}.{kind}", request, response)
    calls = {}
    for method, names in forms.items():
        calls[method] = f"{model}.{method}.request", f"{model}.{method}.answer"
        for schema, parts in zip(calls[method], names, strict=True):
            schemas[schema] = {"anyOf": [_reference(part) for part in parts]}
    return calls


def _add(
    schemas: dict[str, Any],
    forms: dict[str, tuple[list[str], list[str]]],
    method: str,
    name: str,
    request: dict[str, Any],
    response: dict[str, Any],
) -> None:
    requests, responses = forms.setdefault(method, ([], []))
    for names, schema, value in ((requests, f"{name}.request", request), (responses, f"{name}.answer", response)):
        schemas[schema] = value
        names.append(schema)


def _predict_forms(key: str, signature: Signature) -> tuple[list[dict[str, Any]], list[dict[str, Any]]]:
    """The bodies of a Predict request and of its answer: by rows where every tensor has them, and by columns."""
    requests, responses = [], []
    tensors = [*signature.inputs.values(), *signature.outputs.values()]
    if all(tensor.shape is None or tensor.shape for tensor in tensors):
        requests.append(_request(key, "instances", {"type": "array", "minItems": 1, "items": _inputs(signature, 1)}))
        responses.append(_body("predictions", {"type": "array", "items": _outputs(signature, 1)}))
    requests.append(_request(key, "inputs", _inputs(signature, 0)))
    responses.append(_body("outputs", _outputs(signature, 0)))
    return requests, responses


def _request(key: str, field: str, values: dict[str, Any]) -> dict[str, Any]:
    """A body that names its signature, as it must unless that is the default."""
    body = _body(field, values)
    body["properties"]["signature_name"] = {"const": key, "type": "string"}
    if key != DEFAULT_SIGNATURE:
        body["required"].append("signature_name")
    return body


def _body(field: str, values: dict[str, Any]) -> dict[str, Any]:
    return {"type": "object", "properties": {field: values}, "required": [field]}


def _examples_request(key: str) -> dict[str, Any]:
    examples = {"type": "array", "minItems": 1, "items": _OBJECT, "description": "Features by name."}
    request = _request(key, "examples", examples)
    request["properties"]["context"] = {"type": "object", "description": "Features that all examples have."}
    return request


def _result(method: str) -> dict[str, Any]:
    return _body("results", _CLASSES if method == "classify" else _REGRESSIONS)


def _inputs(signature: Signature, begin: int) -> dict[str, Any]:
    """The inputs in JSON, by name; one alone may come without its name. begin: the first dimension that counts."""
    tensors = {name: _tensor(info, begin, _input(info.dtype)) for name, info in signature.inputs.items()}
    named = _named(tensors)
    return {"anyOf": [*tensors.values(), named]} if len(tensors) == 1 else named


def _outputs(signature: Signature, begin: int) -> dict[str, Any]:
    """The outputs in JSON, by name; one alone comes without its name."""
    tensors = {name: _tensor(info, begin, _output(name, info.dtype)) for name, info in signature.outputs.items()}
    return next(iter(tensors.values())) if len(tensors) == 1 else _named(tensors)


def _named(tensors: dict[str, Any]) -> dict[str, Any]:
    return {"type": "object", "properties": tensors, "required": list(tensors), "additionalProperties": False}


def _tensor(info: TensorInfo, begin: int, element: dict[str, Any]) -> dict[str, Any]:
    """Arrays in arrays, as many as there are dimensions; for any rank anything."""
    about = {"description": f"{info.dtype} {info}"}
    if info.shape is None:
        return about
    for size in reversed(info.shape[begin:]):
        element = {"type": "array", "items": element, **({} if size < 0 else {"minItems": size, "maxItems": size})}
    return {**about, **element}


def _input(dtype: str) -> dict[str, Any]:
    return {"anyOf": [{"type": "string"}, _BASE64]} if dtype == "DT_STRING" else _number(dtype)


def _output(name: str, dtype: str) -> dict[str, Any]:
    if dtype == "DT_STRING":
        return _BASE64 if name.endswith(BYTES_SUFFIX) else {"type": "string"}
    return _number(dtype)


def _number(dtype: str) -> dict[str, Any]:
    if dtype == "DT_BOOL":
        return {"type": "boolean"}
    bits = re.fullmatch(r"DT_(U?)INT(\d+)", dtype)
    if bits is None:
        return {"type": "number"}
    is_signed, width = not bits[1], int(bits[2])
    low, high = (-(2 ** (width - 1)), 2 ** (width - 1) - 1) if is_signed else (0, 2**width - 1)
    return {"type": "integer", "minimum": low, "maximum": high}


def _is_json(signature: Signature) -> bool:
    tensors = [*signature.inputs.values(), *signature.outputs.values()]
    return not any(tensor.dtype.startswith("DT_COMPLEX") for tensor in tensors)

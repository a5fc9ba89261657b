"""The OpenAPI document of a server: whole, for signatures of every kind."""

from __future__ import annotations

from typing import Any

import pytest

from serving.apis.openapi import document
from serving.apis.signatures import Signature, TensorInfo

ERROR = {"description": "Why not.", "content": {"application/json": {"schema": {"$ref": "#/components/schemas/Error"}}}}
FLOAT = TensorInfo("DT_FLOAT", (-1,))
BASE64 = {
    "type": "object",
    "properties": {"b64": {"type": "string", "contentEncoding": "base64"}},
    "required": ["b64"],
    "additionalProperties": False,
}


def operation(name: str, text: str, answer: str, request: str = "") -> dict[str, Any]:
    """An operation on the model `m`."""
    schema, responses = "#/components/schemas/", {"default": ERROR}
    content = {"application/json": {"schema": {"$ref": f"{schema}{answer}"}}}
    result = {
        "operationId": name,
        "tags": ["m"],
        "responses": {"200": {"description": text, "content": content}, **responses},
    }
    if request:
        body = {"application/json": {"schema": {"$ref": f"{schema}{request}"}}}
        result["requestBody"] = {"required": True, "content": body}
    return result


def schemas_of(signature: Signature, name: str = "serving_default") -> dict[str, Any]:
    """The schemas of a model `m` with one signature, but for those that every server has."""
    schemas = document({"m": {name: signature}})["components"]["schemas"]
    assert {"Error", "Status", "Metadata"} <= set(schemas)
    return {key: value for key, value in schemas.items() if key.startswith("m.")}


def body(field: str, values: dict[str, Any], key: str | None = None) -> dict[str, Any]:
    """An object with one field, and for a request the name of its signature."""
    properties: dict[str, Any] = {field: values}
    required = [field]
    if key is not None:
        properties["signature_name"] = {"const": key, "type": "string"}
        required += [] if key == "serving_default" else ["signature_name"]
    return {"type": "object", "properties": properties, "required": required}


def test_a_server_without_models() -> None:
    """A document all the same."""
    made = document({})
    assert {key: made[key] for key in ("openapi", "info", "servers", "paths")} == {
        "openapi": "3.1.0",
        "info": {"title": "Models: none", "version": "1"},
        "servers": [{"url": "/"}],
        "paths": {},
    }
    assert document({"a": {}, "b": {}}, "http://here")["servers"] == [{"url": "http://here"}]
    assert document({"a": {}, "b": {}})["info"]["title"] == "Models: a, b"


def test_the_paths_of_a_model() -> None:
    """For its newest version, for one by number and for one by label; with the methods that its signatures have."""
    paths = document({"m": {"serving_default": Signature({"x": FLOAT}, {"y": FLOAT}, "predict")}})["paths"]
    label = {"name": "label", "in": "path", "required": True, "schema": {"type": "string"}}
    number = {"name": "version", "in": "path", "required": True, "schema": {"type": "integer", "minimum": 0}}
    expected: dict[str, Any] = {}
    for path, suffix, parameters in (
        ("/v1/models/m", "", None),
        ("/v1/models/m/versions/{version}", "_version", number),
        ("/v1/models/m/labels/{label}", "_label", label),
    ):
        more = {} if parameters is None else {"parameters": [parameters]}
        expected[path] = {"get": operation(f"m_status{suffix}", "What the server says.", "Status"), **more}
        expected[f"{path}/metadata"] = {
            "get": operation(f"m_metadata{suffix}", "What the server says.", "Metadata"),
            **more,
        }
        expected[f"{path}:predict"] = {
            "post": operation(f"m_predict{suffix}", "What the model answers.", "m.predict.answer", "m.predict.request"),
            **more,
        }
    assert paths == expected


def test_names_that_a_schema_may_not_have() -> None:
    """They stay in paths, and are made others elsewhere."""
    made = document({"a b": {"s/1": Signature({"x": FLOAT}, {"y": FLOAT}, "predict")}})
    assert "/v1/models/a b:predict" in made["paths"]
    assert made["paths"]["/v1/models/a b:predict"]["post"]["operationId"] == "a_b_predict"
    assert "a_b.s_1.rows.request" in made["components"]["schemas"]


def test_one_tensor_comes_with_or_without_its_name() -> None:
    """By rows, which have a dimension less, and by columns."""
    inputs = {"x": TensorInfo("DT_FLOAT", (-1, 3))}
    outputs = {"y": TensorInfo("DT_INT8", (-1,))}
    row = {"description": "DT_FLOAT [N, 3]", "type": "array", "items": {"type": "number"}, "minItems": 3, "maxItems": 3}
    about = {"description": "DT_FLOAT [N, 3]"}
    element = {"type": "array", "items": {"type": "number"}, "minItems": 3, "maxItems": 3}
    column = {**about, "type": "array", "items": element}
    integer = {"type": "integer", "minimum": -128, "maximum": 127}

    def either(tensor: dict[str, Any]) -> dict[str, Any]:
        named = {"type": "object", "properties": {"x": tensor}, "required": ["x"], "additionalProperties": False}
        return {"anyOf": [tensor, named]}

    references = [{"$ref": f"#/components/schemas/m.s.{kind}"} for kind in ("rows", "columns")]
    assert schemas_of(Signature(inputs, outputs, "predict"), "s") == {
        "m.s.rows.request": body("instances", {"type": "array", "minItems": 1, "items": either(row)}, "s"),
        "m.s.rows.answer": body("predictions", {"type": "array", "items": {"description": "DT_INT8 [N]", **integer}}),
        "m.s.columns.request": body("inputs", either(column), "s"),
        "m.s.columns.answer": body("outputs", {"description": "DT_INT8 [N]", "type": "array", "items": integer}),
        "m.predict.request": {"anyOf": [{"$ref": f"{each['$ref']}.request"} for each in references]},
        "m.predict.answer": {"anyOf": [{"$ref": f"{each['$ref']}.answer"} for each in references]},
    }


def test_several_tensors_come_with_their_names() -> None:
    """Of a scalar there are no rows; of any rank there is anything."""
    inputs = {"a": TensorInfo("DT_STRING", ()), "b": TensorInfo("DT_BOOL", None)}
    outputs = {"y_bytes": TensorInfo("DT_STRING", (-1,)), "z": TensorInfo("DT_STRING", (2,))}
    text = {"anyOf": [{"type": "string"}, BASE64]}
    named = {
        "type": "object",
        "properties": {"a": {"description": "DT_STRING []", **text}, "b": {"description": "DT_BOOL [...]"}},
        "required": ["a", "b"],
        "additionalProperties": False,
    }
    answer = {
        "type": "object",
        "properties": {
            "y_bytes": {"description": "DT_STRING [N]", "type": "array", "items": BASE64},
            "z": {
                "description": "DT_STRING [2]",
                "type": "array",
                "items": {"type": "string"},
                "minItems": 2,
                "maxItems": 2,
            },
        },
        "required": ["y_bytes", "z"],
        "additionalProperties": False,
    }
    schemas = schemas_of(Signature(inputs, outputs, "predict"))
    assert schemas == {
        "m.serving_default.columns.request": body("inputs", named, "serving_default"),
        "m.serving_default.columns.answer": body("outputs", answer),
        "m.predict.request": {"anyOf": [{"$ref": "#/components/schemas/m.serving_default.columns.request"}]},
        "m.predict.answer": {"anyOf": [{"$ref": "#/components/schemas/m.serving_default.columns.answer"}]},
    }


def test_tensors_of_any_rank_may_have_rows() -> None:
    """Whoever asks knows whether they have."""
    anything = TensorInfo("DT_FLOAT", None)
    schemas = schemas_of(Signature({"x": anything}, {"y": anything}, "predict"))
    about = {"description": "DT_FLOAT [...]"}
    assert schemas["m.serving_default.rows.answer"] == body("predictions", {"type": "array", "items": about})


@pytest.mark.parametrize(
    ("method", "results"),
    [
        (
            "classify",
            {
                "type": "array",
                "description": "For each example its classes: label and score.",
                "items": {
                    "type": "array",
                    "items": {"type": "array", "prefixItems": [{"type": "string"}, {"type": "number"}]},
                },
            },
        ),
        (
            "regress",
            {"type": "array", "description": "For each example its value.", "items": {"type": "number"}},
        ),
    ],
)
def test_methods_of_examples(method: str, results: dict[str, Any]) -> None:
    """Beside Predict, which takes any signature."""
    signature = Signature({"inputs": TensorInfo("DT_STRING", (-1,))}, {"y": FLOAT}, f"tensorflow/serving/{method}")
    schemas = schemas_of(signature, "s")
    examples = {
        "type": "array",
        "minItems": 1,
        "items": {"type": "object"},
        "description": "Features by name.",
    }
    request = body("examples", examples, "s")
    request["properties"]["context"] = {"type": "object", "description": "Features that all examples have."}
    assert schemas["m.s.examples.request"] == request
    assert schemas["m.s.examples.answer"] == body("results", results)
    assert schemas[f"m.{method}.request"] == {"anyOf": [{"$ref": "#/components/schemas/m.s.examples.request"}]}
    assert [each["$ref"] for each in schemas["m.predict.request"]["anyOf"]] == [
        "#/components/schemas/m.s.rows.request",
        "#/components/schemas/m.s.columns.request",
    ]


@pytest.mark.parametrize(
    ("dtype", "schema"),
    [
        ("DT_BOOL", {"type": "boolean"}),
        ("DT_DOUBLE", {"type": "number"}),
        ("DT_QINT8", {"type": "number"}),
        ("DT_UINT8", {"type": "integer", "minimum": 0, "maximum": 255}),
        ("DT_INT16", {"type": "integer", "minimum": -32768, "maximum": 32767}),
        ("DT_UINT64", {"type": "integer", "minimum": 0, "maximum": 2**64 - 1}),
        ("DT_INT64", {"type": "integer", "minimum": -(2**63), "maximum": 2**63 - 1}),
    ],
)
def test_numbers_by_their_type(dtype: str, schema: dict[str, Any]) -> None:
    """Integers have their range."""
    schemas = schemas_of(Signature({"x": FLOAT}, {"y": TensorInfo(dtype, ())}, "predict"))
    assert schemas["m.serving_default.columns.answer"] == body("outputs", {"description": f"{dtype} []", **schema})


def test_signatures_with_complex_numbers_are_left_out() -> None:
    """Among their inputs or their outputs; a model that has no others has no methods."""
    numbers = TensorInfo("DT_COMPLEX64", (-1,))
    signatures = {
        "a": Signature({"x": numbers}, {"y": FLOAT}, "predict"),
        "b": Signature({"x": FLOAT}, {"y": numbers}, "predict"),
    }
    made = document({"m": signatures})
    assert set(made["components"]["schemas"]) == {"Error", "Status", "Metadata"}
    assert len(made["paths"]) == 6


def test_what_every_server_answers() -> None:
    """Errors, statuses and metadata."""
    text = {"type": "string"}
    state = ["UNKNOWN", "START", "LOADING", "AVAILABLE", "UNLOADING", "END"]
    status = {"type": "object", "properties": {"error_code": text, "error_message": text}}
    version = {"type": "object", "properties": {"version": text, "state": {"enum": state}, "status": status}}
    assert document({})["components"]["schemas"] == {
        "Error": {"type": "object", "properties": {"error": text}, "required": ["error"]},
        "Status": {
            "type": "object",
            "properties": {"model_version_status": {"type": "array", "items": version}},
        },
        "Metadata": {
            "type": "object",
            "properties": {"model_spec": {"type": "object"}, "metadata": {"type": "object"}},
        },
    }

"""The OpenAPI document of the recorded models agrees with what a real TF Serving took and answered over REST."""

from __future__ import annotations

import base64
import gzip
import json
import re
from collections.abc import Callable
from typing import Any

import httpx
import pytest
from jsonschema import Draft202012Validator
from openapi_spec_validator import validate

from tests.contract.test_rest import CASES
from tests.support.live import Server

_CALL = re.compile(r"/v1/models/(\w+)(?:/(?:versions|labels)/[^/:]+)?:(predict|classify|regress)", re.IGNORECASE)


def _answered(case: dict[str, Any]) -> bool:
    return case["response"]["status"] == 200 and _CALL.fullmatch(case["request"]["path"]) is not None


ANSWERED = [case for case in CASES if _answered(case)]


# A name too many, a number below zero for uint8, a rank and a width that the signature does not have.
LENIENT = {"err_extra_input_column", "err_uint8_negative", "err_wrong_rank", "err_wrong_width"}


def _body(request: dict[str, Any]) -> Any:
    body = request["body"]
    return json.loads(gzip.decompress(base64.b64decode(body)) if "X-Body-Base64" in request["headers"] else body)


@pytest.fixture(scope="module")
def document(server: Server) -> dict[str, Any]:
    """Of the recorded server."""
    response = httpx.get(f"http://{server.rest}/openapi.json")
    assert response.headers["content-type"] == "application/json"
    answer: dict[str, Any] = response.json()
    return answer


@pytest.fixture(scope="module")
def errors(document: dict[str, Any]) -> Callable[[str, str, Any], list[str]]:
    """What a schema has against a value. Asked with the operation's id, `request` or `answer`, and the value."""

    def of(operation: str, part: str, value: Any) -> list[str]:
        schema = {"$ref": f"#/components/schemas/{operation}.{part}", "components": document["components"]}
        return [error.message for error in Draft202012Validator(schema).iter_errors(value)]

    return of


def test_the_document_is_valid(document: dict[str, Any]) -> None:
    """By a validator of OpenAPI 3.1; every version and label of the model has its paths."""
    validate(document)
    assert document["openapi"] == "3.1.0"
    assert (document["security"], "securitySchemes" in document["components"]) == ([], False)
    assert "/v1/models/kitchen/labels/{label}:predict" in document["paths"]


@pytest.mark.parametrize("case", ANSWERED, ids=[case["name"] for case in ANSWERED])
def test_what_was_answered_has_its_form(case: dict[str, Any], errors: Callable[[str, str, Any], list[str]]) -> None:
    """Every answer of the real server, and every request that it took, but for what a signature does not allow."""
    match = _CALL.fullmatch(case["request"]["path"])
    assert match is not None
    operation = f"{match[1]}.{match[2].lower()}"
    request = errors(operation, "request", _body(case["request"]))
    if case["name"] in LENIENT:
        assert len(request) == 1
    else:
        assert request == []
        assert errors(operation, "answer", json.loads(case["response"]["body"])) == []

"""Every recorded REST case gives TF Serving's answer."""

from __future__ import annotations

import base64
import json
import math
from http.client import HTTPConnection
from pathlib import Path
from typing import Any

import pytest

from tests.support.live import Server

CASES = json.loads((Path(__file__).parent / "rest.json").read_text())
# Words of TensorFlow's kernels and of the JSON parser: the status counts, the text does not.
FREE_TEXTS = ("JSON Parse error:", "{{node ")


@pytest.mark.parametrize("case", CASES, ids=[case["name"] for case in CASES])
def test_recorded_answer(case: dict[str, Any], server: Server) -> None:
    """Status, content type and body are as recorded; JSON is compared as JSON."""
    check(case, server)


def check(case: dict[str, Any], server: Server) -> None:
    """Asks a case and compares the answer."""
    expected = case["response"]

    status, content_type, body = ask(server.rest, case["request"])

    assert (status, content_type) == (expected["status"], expected["content_type"])
    if content_type == "application/json" and expected["body"]:
        assert same(json.loads(body), json.loads(expected["body"])), body
    else:
        assert body == expected["body"]


def ask(address: str, request: dict[str, Any]) -> tuple[int, str | None, str]:
    """Sends a recorded request as it was sent: nothing is normalized on the way."""
    headers = dict(request["headers"])
    body = request["body"]
    payload = None if body is None else body.encode()
    if headers.pop("X-Body-Base64", None):
        payload = base64.b64decode(body)
    connection = HTTPConnection(address, timeout=30)
    try:
        connection.request(request["method"], request["path"], payload, headers)
        response = connection.getresponse()
        return response.status, response.getheader("Content-Type"), response.read().decode()
    finally:
        connection.close()


def same(ours: Any, theirs: Any) -> bool:
    """Whether two JSON values are equal: numbers within 1e-6, the order of keys free."""
    if isinstance(theirs, dict):
        return isinstance(ours, dict) and ours.keys() == theirs.keys() and all(same(ours[k], theirs[k]) for k in theirs)
    if isinstance(theirs, list):
        return isinstance(ours, list) and len(ours) == len(theirs) and all(map(same, ours, theirs))
    if isinstance(theirs, float):
        return type(ours) is float and (ours == theirs or math.isclose(ours, theirs, rel_tol=1e-6, abs_tol=1e-6) or (
            math.isnan(ours) and math.isnan(theirs)
        ))  # fmt: skip
    if isinstance(theirs, str) and any(free in theirs for free in FREE_TEXTS):
        return isinstance(ours, str)
    return type(ours) is type(theirs) and ours == theirs

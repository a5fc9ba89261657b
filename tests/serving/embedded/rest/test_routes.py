"""The REST routes of a server whose model does nothing: which answers what, and each answer whole."""

from __future__ import annotations

import json
from collections.abc import Iterator

import pytest

from serving.embedded.observe.metrics import CONTENT_TYPE
from tests.support.ports import Ports, ports

JSON, HTML = "application/json", "text/html"
AVAILABLE = (
    '{\n "model_version_status": [\n  {\n   "version": "1",\n   "state": "AVAILABLE",\n   "status": {\n    '
    '"error_code": "OK",\n    "error_message": ""\n   }\n  }\n ]\n}\n'
)
METADATA = (
    '{\n"model_spec":{\n "name": "m",\n "version": "1",\n "signature_name": ""\n}\n,\n"metadata": {"signature_def": '
    '{\n "signature_def": {}\n}\n}\n}\n'
)
NOT_FOUND = "<HTML><HEAD>\n<TITLE>404 Not Found</TITLE>\n</HEAD><BODY>\n<H1>Not Found</H1>\n</BODY></HTML>\n"


def error(text: str) -> str:
    """An error in TF Serving's form."""
    return f'{{\n    "error": {json.dumps(text)}\n}}'


MISSING = error("Missing model name in request.")
EMPTY = error("JSON Parse error: The document is empty")


@pytest.fixture(scope="module")
def live(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Ports]:
    """A server with one version of `m`, which has no signature."""
    with pytest.MonkeyPatch.context() as patch, ports(tmp_path_factory.mktemp("routes"), patch) as server:
        yield server


@pytest.mark.parametrize(
    ("method", "path", "status", "kind", "body"),
    [
        ("GET", "/v1/models/m", 200, JSON, AVAILABLE),
        ("GET", "/V1/Models/m", 200, JSON, AVAILABLE),
        ("GET", "/v1/models/%6d", 200, JSON, AVAILABLE),
        ("GET", "/v1/models/m/versions/1", 200, JSON, AVAILABLE),
        ("GET", "/v1/models/m/labels/a%20b", 200, JSON, AVAILABLE),
        (
            "GET", f"/v1/models/m/versions/{2**63 - 1}", 404, JSON,
            error("Could not find version 9223372036854775807 of model m"),
        ),
        (
            "GET", f"/v1/models/m/versions/{2**63}", 400, JSON,
            error("Failed to convert version: 9223372036854775808 to numeric."),
        ),
        ("GET", "/v1/models/none", 404, JSON, error("Could not find any versions of model none")),
        ("GET", "/v1/models/m/metadata", 200, JSON, METADATA),
        ("GET", "/v1/models/m/versions/1/metadata", 200, JSON, METADATA),
        ("GET", "/v1/models", 400, JSON, MISSING),
        ("GET", "/v1/models/versions/1", 400, JSON, MISSING),
        ("GET", "/v1/models/labels/a/metadata", 400, JSON, MISSING),
        ("PUT", "/v1/models/m", 400, JSON, error("Malformed request: PUT /v1/models/m")),
        ("POST", "/v1/models/m", 400, JSON, error("Malformed request: POST /v1/models/m")),
        ("GET", "/v1/models/m:predict", 400, JSON, error("Malformed request: GET /v1/models/m:predict")),
        ("POST", "/v1/models/m:predict", 400, JSON, EMPTY),
        ("POST", "/v1/models/m/versions/1:CLASSIFY", 400, JSON, EMPTY),
        ("POST", "/v1/models/m/labels/a:regress", 400, JSON, EMPTY),
        ("OPTIONS", "/v1/models/m:predict", 200, JSON, ""),
        ("OPTIONS", "/healthz", 404, HTML, NOT_FOUND),
        ("GET", "/healthz", 200, JSON, '{"status": "ok"}\n'),
        ("GET", "/healthz?verbose", 200, JSON, '{"status": "ok"}\n'),
        ("POST", "/healthz", 404, HTML, NOT_FOUND),
        ("GET", "/healthz/more", 404, HTML, NOT_FOUND),
        ("GET", "/HEALTHZ", 404, HTML, NOT_FOUND),
        ("GET", "/readyz", 200, JSON, '{"ready": true, "errors": {}}\n'),
        ("GET", "/", 404, HTML, NOT_FOUND),
    ],
)  # fmt: skip
def test_what_is_answered(live: Ports, method: str, path: str, status: int, kind: str, body: str) -> None:
    """By method and path: the status, the type, and the whole body."""
    answer = live.rest.request(method, path)
    assert (answer.status_code, answer.headers["content-type"], answer.text) == (status, kind, body)


@pytest.mark.parametrize("path", ["/healthz", "/readyz", "/metrics"])
def test_probes_answer_head_with_the_length_alone(live: Ports, path: str) -> None:
    """As they would GET."""
    answer = live.rest.head(path)
    assert (answer.status_code, answer.text) == (200, "")
    assert int(answer.headers["content-length"]) > 0


def test_metrics_are_prometheus_text(live: Ports) -> None:
    """Each scrape has what was counted until then."""
    first, second = live.rest.get("/metrics?name=x"), live.rest.get("/metrics")
    assert first.headers["content-type"] == second.headers["content-type"] == CONTENT_TYPE.decode()
    live.rest.get("/v1/models/m")
    assert live.rest.get("/metrics").text != second.text


@pytest.mark.parametrize(
    ("path", "body", "status", "text"),
    [
        (
            "/v1/models/m:predict", b'{"instances": [1.0], "signature_name": "s"}', 400,
            'Serving signature name: "s" not found in signature def',
        ),
        (
            "/v1/models/m/versions/1:predict", b'{"inputs": 1.0}', 400,
            'Serving signature name: "serving_default" not found in signature def',
        ),
        ("/v1/models/m/versions/2:predict", b"{}", 404, "Servable not found for request: Specific(m, 2)"),
        ("/v1/models/none:predict", b"{}", 404, "Servable not found for request: Latest(none)"),
        ("/v1/models/m/labels/a%20b:predict", b"{}", 400, "Unrecognized servable version label: a b"),
    ],
)  # fmt: skip
def test_inferences_that_name_what_there_is_not(live: Ports, path: str, body: bytes, status: int, text: str) -> None:
    """TF Serving's texts."""
    answer = live.rest.post(path, content=body)
    assert (answer.status_code, answer.text) == (status, error(text))


def test_a_status_says_which_runtime_serves_each_version(live: Ports) -> None:
    """In a header, as it is no part of TF Serving's answer."""
    assert live.rest.get("/v1/models/m").headers["x-runtimes"] == "1=none"
    assert live.rest.get("/v1/models/none").headers["x-runtimes"] == ""
    assert "x-runtimes" not in live.rest.get("/v1/models/m/metadata").headers

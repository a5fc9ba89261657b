"""A caller without rights tries every method of every service, over both APIs."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import grpc
import pytest
from openapi_spec_validator import validate

from fashion_common.tokens import SCOPES, entry
from serving.apis import services
from serving.apis.services import PROFILER_SERVICE as PROFILER
from tests.support.http1_server import raw_request
from tests.support.live import wait_until
from tests.support.ports import REQUESTS, UNKNOWN, Ports, described, ports

METADATA = {"predict", "read"}
# What each method and route takes; one that is new has to be put here.
GRPC_SCOPES: Mapping[str, set[str]] = {
    services.PREDICT.path: {"predict"},
    services.CLASSIFY.path: {"predict"},
    services.REGRESS.path: {"predict"},
    services.MULTI_INFERENCE.path: {"predict"},
    services.GET_MODEL_METADATA.path: METADATA,
    services.GET_MODEL_STATUS.path: {"read"},
    services.HANDLE_RELOAD_CONFIG_REQUEST.path: {"admin"},
    f"/{PROFILER}/Profile": {"admin"},
    f"/{PROFILER}/Terminate": {"admin"},
    "/grpc.reflection.v1.ServerReflection/ServerReflectionInfo": {"read"},
    "/grpc.reflection.v1alpha.ServerReflection/ServerReflectionInfo": {"read"},
    "/grpc.health.v1.Health/Check": set(SCOPES),
    "/grpc.health.v1.Health/Watch": set(SCOPES),
}
REST_SCOPES: Mapping[str, set[str]] = {
    "Predict": {"predict"},
    "Classify": {"predict"},
    "Regress": {"predict"},
    "GetModelMetadata": METADATA,
    "GetModelStatus": {"read"},
    "OpenApi": {"read"},
    "Metrics": {"read"},
}
OPEN_METHODS = {path for path in GRPC_SCOPES if "/grpc.health." in path}
OPEN_ROUTES = {"NoModel", "Preflight", "Malformed", "Health", "Readiness", "NotFound"}
MISSING = "The request has no token: send the header authorization: Bearer TOKEN"
UNKNOWN_TOKEN = "The request's token is not known here: is it this server's, and was it not withdrawn?"  # noqa: S105


@pytest.fixture(scope="module")
def live(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Ports]:
    """A server with every service and route, and tokens of each single scope, called as it."""
    path = tmp_path_factory.mktemp("tokens")
    file = path / "tokens"
    file.write_text("".join(f"{entry(f'{scope}-er', scope, [scope]).line}\n" for scope in SCOPES))
    with pytest.MonkeyPatch.context() as patch, ports(path, patch, token_file=str(file)) as server:
        yield server


def ask(live: Ports, path: str, token: str | None) -> tuple[str, str]:
    """The code and the text that a method answers an empty message with."""
    metadata = () if token is None else (("authorization", f"Bearer {token}"),)
    method: Any = live.grpc.stream_stream(path)
    answers = method(iter((b"",)), timeout=10, metadata=metadata)
    try:
        next(answers, None)
        answers.cancel()
    except grpc.RpcError:
        return answers.code().name, answers.details()
    return "OK", ""


def test_every_method_has_its_scope_here(live: Ports) -> None:
    """And those of the descriptors are all tried, whether the server has them or not."""
    assert set(live.methods.by_path) == set(GRPC_SCOPES)
    assert {route.operation.name for route in live.routes} == set(REST_SCOPES) | OPEN_ROUTES


@pytest.mark.parametrize(
    ("token", "code", "text"),
    [(None, "UNAUTHENTICATED", MISSING), ("wrong", "UNAUTHENTICATED", UNKNOWN_TOKEN)],
    ids=["no token", "a wrong token"],
)
def test_a_stranger_gets_health_alone_over_grpc(live: Ports, token: str | None, code: str, text: str) -> None:
    """What there is not is answered as ever."""
    for path in sorted(described() | set(live.methods.by_path) | {UNKNOWN}):
        if path in OPEN_METHODS:
            assert ask(live, path, token) == ("OK", ""), path
        elif path in GRPC_SCOPES:
            assert ask(live, path, token) == (code, text), path
        else:
            assert ask(live, path, token) == ("UNIMPLEMENTED", f"Method not found: {path}")


@pytest.mark.parametrize("scope", SCOPES)
def test_a_token_does_what_its_scope_names_alone_over_grpc(live: Ports, scope: str) -> None:
    """With another one the answer names both."""
    for path, scopes in GRPC_SCOPES.items():
        code, text = ask(live, path, scope)
        if scope in scopes:
            assert code not in ("UNAUTHENTICATED", "PERMISSION_DENIED"), path
        else:
            wanted = " or ".join(sorted(scopes))
            assert code == "PERMISSION_DENIED"
            assert text == f"The token of {scope}-er has the scope {scope}, and this method wants {wanted}"


@pytest.mark.parametrize(
    ("token", "text", "challenge"),
    [(None, MISSING, "Bearer"), ("wrong", UNKNOWN_TOKEN, 'Bearer error="invalid_token"')],
    ids=["no token", "a wrong token"],
)
def test_a_stranger_gets_probes_alone_over_rest(live: Ports, token: str | None, text: str, challenge: str) -> None:
    """The whole answer, in TF Serving's form; what there is not is answered as ever."""
    headers = {} if token is None else {"authorization": f"Bearer {token}"}
    for name, (method, path) in REQUESTS.items():
        answer = live.rest.request(method, path, headers=headers)
        if name in OPEN_ROUTES:
            assert answer.status_code not in (401, 403), path
            continue
        assert answer.status_code == 401, path
        assert answer.text == f'{{\n    "error": {json.dumps(text)}\n}}'
        assert {key: answer.headers.get(key) for key in ("content-type", "www-authenticate", "connection")} == {
            "content-type": "application/json", "www-authenticate": challenge, "connection": "close",
        }  # fmt: skip


@pytest.mark.parametrize("scope", SCOPES)
def test_a_token_does_what_its_scope_names_alone_over_rest(live: Ports, scope: str) -> None:
    """With another one: 403, and what it would take."""
    for name, (method, path) in REQUESTS.items():
        answer = live.rest.request(method, path, headers={"authorization": f"Bearer {scope}"})
        scopes = REST_SCOPES.get(name, set(SCOPES))
        if scope in scopes:
            assert answer.status_code not in (401, 403), path
            continue
        wanted = sorted(scopes)
        text = f"The token of {scope}-er has the scope {scope}, and this method wants {' or '.join(wanted)}"
        assert (answer.status_code, answer.json()) == (403, {"error": text}), path
        assert answer.headers["www-authenticate"] == f'Bearer error="insufficient_scope", scope="{" ".join(wanted)}"'


def test_other_ways_of_writing_a_path_are_no_way_in(live: Ports) -> None:
    """Whatever a route takes for its own, is its own for a stranger too."""
    for path in (
        "/V1/MODELS/m:PREDICT",
        "/v1/models/%6d:predict",
        "/metrics?x",
        "/v1/models/m/versions/1",
        "/OPENAPI.JSON",
    ):
        for method in ("GET", "POST", "HEAD", "PUT"):
            answer = live.rest.request(method, path)
            assert answer.status_code in (400, 401, 404), (method, path)


def test_a_strangers_body_is_not_waited_for(live: Ports) -> None:
    """Neither over REST, where no `100 Continue` is sent, nor over gRPC: the headers are enough to refuse it."""
    head = "POST /v1/models/m:predict HTTP/1.1\r\nHost: x\r\nContent-Length: 80000000\r\nExpect: 100-continue\r\n\r\n"
    assert raw_request(live.rest.base_url.port or 0, head.encode()).startswith(b"HTTP/1.1 401 Unauthorized\r\n")

    def nothing() -> Iterator[bytes]:
        wait_until(lambda: bool(done))
        yield b""

    done: list[bool] = []
    method: Any = live.grpc.stream_stream(services.PREDICT.path)
    answers = method(nothing(), timeout=10)
    with pytest.raises(grpc.RpcError):
        next(answers)
    done.append(True)
    assert answers.code() == grpc.StatusCode.UNAUTHENTICATED


def test_a_page_may_send_a_token(live: Ports) -> None:
    """What a browser asks before it asks, without one."""
    answer = live.rest.request(*REQUESTS["Preflight"])
    assert answer.headers["access-control-allow-headers"] == "Content-Type, Authorization"


def test_the_openapi_document_says_that_calls_want_a_token(live: Ports) -> None:
    """RFC 6750's, of every call."""
    document = live.rest.get("/openapi.json", headers={"authorization": "Bearer read"}).json()
    validate(document)
    assert document["security"] == [{"token": []}]
    assert document["components"]["securitySchemes"] == {"token": {"type": "http", "scheme": "bearer"}}


def test_the_access_log_has_the_name_and_never_the_token(live: Ports) -> None:
    """Of whom was refused by its scope too; of strangers there is none."""
    callers = {"read": ("read-er", "OK"), "admin": ("admin-er", "PERMISSION_DENIED"), "x": (None, "UNAUTHENTICATED")}
    for token, (caller, code) in callers.items():
        answer = live.rest.get("/v1/models/m", headers={"authorization": f"Bearer {token}"})
        line = logged(live, answer.headers["x-request-id"])
        assert (line.get("caller"), line["code"], line["model"]) == (caller, code, "m")
        assert f"Bearer {token}" not in json.dumps(line)
        ask(live, services.GET_MODEL_STATUS.path, token)
        wait_until(lambda: services.GET_MODEL_STATUS.path in live.log.read_text().splitlines()[-1])
        line = json.loads(live.log.read_text().splitlines()[-1])
        assert line.get("caller") == caller


def logged(live: Ports, request_id: str) -> dict[str, Any]:
    """The line of a call in the access log."""

    def lines() -> list[dict[str, Any]]:
        found = map(json.loads, live.log.read_text().splitlines())
        return [line for line in found if line["request_id"] == request_id]

    wait_until(lambda: bool(lines()))
    return lines()[0]


def test_the_file_is_taken_over_when_it_changes(live: Ports, tmp_path: Path) -> None:
    """Within a second or so, over both APIs."""
    file = Path(live.server._flags.token_file)
    text = file.read_text()
    file.write_text(f"{text}{entry('new', 'new', ['read']).line}\n")
    wait_until(lambda: live.rest.get("/v1/models/m", headers={"authorization": "Bearer new"}).status_code == 200)
    assert ask(live, services.GET_MODEL_STATUS.path, "new")[0] == "INVALID_ARGUMENT"
    file.write_text(text)
    wait_until(lambda: live.rest.get("/v1/models/m", headers={"authorization": "Bearer new"}).status_code == 401)

"""The client's calls as OpenTelemetry's spans: where the program has imported it, over both APIs, in asyncio too."""

from __future__ import annotations

import asyncio
import contextlib
import re
from collections.abc import Iterator
from typing import Any

import grpc
import pytest
from opentelemetry.sdk.trace import ReadableSpan, TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter
from opentelemetry.trace import SpanKind, StatusCode

import client
import client.aio
from client import telemetry, tracing
from client.connection import Connection
from client.errors import server_error
from client.transports.address import ServerAddress
from client.transports.fake import FakeTransport
from client.types import ModelSpec
from fashion_common.trace_context import parse
from serving.apis import services
from tests.support.records import TRACEPARENT
from tests.support.status_servers import grpc_server, http_server

TRACE_ID = TRACEPARENT.split("-")[1]
STATUS = services.GET_MODEL_STATUS.path.lstrip("/")


class Server:
    """One that is not there the first time, and then answers; and what came with each attempt."""

    def __init__(self, failures: int = 1) -> None:
        self.failures = failures
        self.headers: list[dict[str, str]] = []

    def grpc(self, context: grpc.ServicerContext) -> bytes:
        """One attempt over gRPC."""
        self.headers.append({key: str(value) for key, value in context.invocation_metadata()})
        if len(self.headers) <= self.failures:
            context.abort(grpc.StatusCode.UNAVAILABLE, "not now")
        return b""

    def rest(self, headers: Any) -> tuple[int, bytes]:
        """One attempt over REST."""
        self.headers.append(dict(headers))
        return (503, b"{}") if len(self.headers) <= self.failures else (200, b'{"model_version_status": []}')


@pytest.fixture
def exporter(monkeypatch: pytest.MonkeyPatch) -> InMemorySpanExporter:
    """The spans of an SDK that the program has set up."""
    exporter = InMemorySpanExporter()
    provider = TracerProvider(shutdown_on_exit=False)
    provider.add_span_processor(SimpleSpanProcessor(exporter))
    monkeypatch.setattr(telemetry, "get_tracer", provider.get_tracer)
    return exporter


def attributes(span: ReadableSpan) -> dict[str, Any]:
    """Of a span, without the port."""
    return {key: value for key, value in (span.attributes or {}).items() if key != "server.port"}


@contextlib.contextmanager
def asked(scheme: str, *, asynchronous: bool, failures: int = 1) -> Iterator[Server]:
    """A server that was asked for a status."""
    server = Server(failures)
    with grpc_server(server.grpc) if scheme == "grpc" else http_server(server.rest) as port:
        address = f"{scheme}://127.0.0.1:{port}"

        async def ask_later() -> None:
            async with client.aio.connect(address) as connection:
                await connection.status()

        if asynchronous:
            asyncio.run(ask_later())
        else:
            with client.connect(address) as connection:
                connection.status()
        yield server


@pytest.mark.parametrize("asynchronous", [False, True])
@pytest.mark.parametrize("scheme", ["grpc", "http"])
def test_a_call_and_its_attempts(exporter: InMemorySpanExporter, scheme: str, asynchronous: bool) -> None:
    """A span for the call in the caller's trace, one in it for each attempt, whose id goes to the server."""
    with client.trace(TRACEPARENT, "a=1"), asked(scheme, asynchronous=asynchronous) as server:
        pass
    failed, answered, call = exporter.get_finished_spans()
    assert call.parent
    assert f"{call.parent.span_id:016x}" in TRACEPARENT
    assert call.attributes == {"fashion.model.name": "fashion_mnist"}
    assert call.status.status_code is StatusCode.UNSET
    sent = [parse(each["traceparent"], each["tracestate"]) for each in server.headers]
    for span, context in zip((failed, answered), sent, strict=True):
        assert context
        assert (span.kind, call.kind) == (SpanKind.CLIENT, SpanKind.CLIENT)
        assert span.parent
        assert span.parent.span_id == call.get_span_context().span_id  # type: ignore[union-attr]
        assert context.span_id == f"{span.get_span_context().span_id:016x}"  # type: ignore[union-attr]
        assert (context.trace_id, context.tracestate, context.sampled) == (TRACE_ID, "a=1", True)
    assert failed.status.status_code is StatusCode.ERROR
    common: dict[str, Any] = {"server.address": "127.0.0.1"}
    if scheme == "grpc":
        assert (call.name, answered.name) == ("GetModelStatus", STATUS)
        common |= {"rpc.system.name": "grpc", "rpc.method": STATUS}
        key, codes = "rpc.response.status_code", ("UNAVAILABLE", "OK")
        again: dict[str, Any] = {}
    else:
        assert (call.name, answered.name) == ("GET", "GET")
        url = (answered.attributes or {})["url.full"]
        assert str(url).endswith("/v1/models/fashion_mnist")
        common |= {"http.request.method": "GET", "url.full": url}
        key, codes = "http.response.status_code", (503, 200)  # type: ignore[assignment]
        again = {"http.request.resend_count": 1}
    assert attributes(failed) == {**common, key: codes[0], "error.type": "UNAVAILABLE"}
    assert attributes(answered) == {**common, **again, key: codes[1]}


def test_a_call_that_fails(exporter: InMemorySpanExporter) -> None:
    """The call is an error too, and the error's text names the trace that the span begins."""
    with pytest.raises(client.ServerError) as raised, asked("grpc", asynchronous=False, failures=9):
        pass
    *attempts, call = exporter.get_finished_spans()
    assert len(attempts) == 3
    assert (call.parent, call.status.status_code) == (None, StatusCode.ERROR)
    assert (call.attributes or {})["error.type"] == "UNAVAILABLE"
    trace_id = f"{call.get_span_context().trace_id:032x}"  # type: ignore[union-attr]
    assert str(raised.value).endswith(f" [trace {trace_id}]")


def test_the_programs_current_span_is_the_caller(exporter: InMemorySpanExporter) -> None:
    """Before a trace of the code around the call."""
    with (
        telemetry.get_tracer("test").start_as_current_span("mine") as mine,  # type: ignore[attr-defined]
        client.trace(TRACEPARENT),
        asked("grpc", asynchronous=True, failures=0),
    ):
        context = tracing.current()
        assert context is not None
        assert context.span_id == f"{mine.get_span_context().span_id:016x}"
    _, call, _ = exporter.get_finished_spans()
    assert call.parent == mine.get_span_context()


def test_a_server_that_is_not_there_and_a_fault_of_our_own(exporter: InMemorySpanExporter) -> None:
    """No status that nobody answered; an error that is no server's has its type."""
    with client.connect("http://127.0.0.1:1", retry=False) as connection:
        with pytest.raises(client.ServerError):
            connection.status()
        with pytest.raises(client.ClientUsageError):
            connection.exchange(services.MULTI_INFERENCE.request_class())
    attempt, call, other = exporter.get_finished_spans()
    assert "http.response.status_code" not in (attempt.attributes or {})
    assert (call.attributes or {})["error.type"] == "UNAVAILABLE"
    assert (other.attributes or {})["error.type"] == "ClientUsageError"


class _Addressed(FakeTransport):
    """A transport that has an address, and answers or raises."""

    address: ServerAddress | None = None
    failure: Exception | None = None

    def send(self, request: Any, timeout: float) -> Any:
        if self.failure is not None:
            raise self.failure
        return super().send(request, timeout)


def _spans(exporter: InMemorySpanExporter, *transports: FakeTransport) -> list[ReadableSpan]:
    with contextlib.suppress(Exception):
        Connection(transports, ModelSpec("m")).status()
    return list(exporter.get_finished_spans())


@pytest.mark.parametrize(
    ("url", "place"),
    [
        (None, {}),
        ("grpc://h:9", {"server.address": "h", "server.port": 9}),
        ("http://[::1]", {"server.address": "::1", "server.port": 8501}),
        ("unix:///run/s", {"server.address": "/run/s"}),
    ],
)
def test_an_attempt_says_where_it_goes(exporter: InMemorySpanExporter, url: str | None, place: dict[str, Any]) -> None:
    """Host and port, or the socket's path; nothing where nobody knows."""
    transport = _Addressed()
    transport.address = ServerAddress.parse(url) if url else None
    attempt, call = _spans(exporter, transport)
    assert attempt.attributes == {
        **place, "rpc.system.name": "grpc", "rpc.method": "call", "rpc.response.status_code": "OK",
    }  # fmt: skip
    assert (attempt.name, call.name, call.attributes) == ("call", "call", {"fashion.model.name": "m"})
    assert attempt.status.status_code is call.status.status_code is StatusCode.UNSET


@pytest.mark.parametrize(
    ("failure", "attributes_", "description"),
    [
        (
            server_error("INTERNAL", "broken"),
            {"error.type": "INTERNAL", "rpc.response.status_code": "INTERNAL"},
            "INTERNAL: broken",
        ),
        (ValueError("odd"), {"error.type": "ValueError"}, None),
    ],
)
def test_a_failure_is_in_both_spans(
    exporter: InMemorySpanExporter, failure: Exception, attributes_: dict[str, str], description: str | None
) -> None:
    """By its code and text where it is a server's, else by its type; no error is recorded a second time."""
    transport = _Addressed()
    transport.failure = failure
    attempt, call = _spans(exporter, transport)
    assert attempt.attributes == {"rpc.system.name": "grpc", "rpc.method": "call", **attributes_}
    assert call.attributes == {"fashion.model.name": "m", "error.type": attributes_["error.type"]}
    for span in (attempt, call):
        assert (span.status.status_code, span.events) == (StatusCode.ERROR, ())
        assert (span.status.description or "").partition(" [")[0] == (description or "")


def test_each_attempt_over_rest_has_its_number(exporter: InMemorySpanExporter) -> None:
    """The first has none; the status is what was answered."""
    with asked("http", asynchronous=False, failures=2):
        pass
    *attempts, _ = exporter.get_finished_spans()
    found = [each.attributes or {} for each in attempts]
    assert [each.get("http.request.resend_count") for each in found] == [None, 1, 2]
    assert [each["http.response.status_code"] for each in found] == [503, 503, 200]
    assert {each["http.request.method"] for each in found} == {"GET"}
    [url] = {str(each["url.full"]) for each in found}
    assert re.fullmatch(r"http://127\.0\.0\.1:\d+/v1/models/fashion_mnist", url)
    assert {url.split("/")[2].split(":")[1]} == {str(each["server.port"]) for each in found}

"""Calls as OpenTelemetry's spans: their names, what is in them, and that they cost nothing where they are off."""

from __future__ import annotations

import contextlib
import os
import subprocess
import sys
import threading
import time
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from importlib import metadata
from pathlib import Path
from types import SimpleNamespace
from typing import Any, NamedTuple

import grpc
import httpx
import numpy as np
import pytest
from opentelemetry.sdk.trace import ReadableSpan, TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter
from opentelemetry.sdk.trace.sampling import ALWAYS_OFF, Decision, ParentBased, Sampler, SamplingResult
from opentelemetry.trace import SpanKind, StatusCode, get_current_span

from fashion_common import telemetry
from fashion_common.telemetry import TelemetryError, is_wanted
from fashion_common.trace_context import TraceContext
from serving.apis import services
from serving.apis.messages import SignatureDef
from serving.apis.status import Code
from serving.apis.tensors import Array
from serving.embedded.access.tokens import FOR_ANYONE
from serving.embedded.flags import Flags
from serving.embedded.inference.batch_queue import BatchingOptions
from serving.embedded.inference.model import LoadedModel
from serving.embedded.observe.calls import Call, Interceptor, Operation
from serving.embedded.observe.telemetry import Telemetry
from serving.embedded.server import ModelServer
from tests.support.asking import call, predict_request
from tests.support.live import running, wait_until
from tests.support.otlp_receiver import receiver
from tests.support.records import TRACEPARENT

TRACE_ID = int(TRACEPARENT.split("-")[1], 16)
ROOT = Path(__file__).parents[4]
PREDICT = services.PREDICT.path.lstrip("/")
X = np.array([1.0, 2.0], np.float32)


class Doubling:
    """y = 2 x, once it may run; a value below zero fails."""

    def __init__(self) -> None:
        definition = SignatureDef(method_name="tensorflow/serving/predict")
        definition.inputs["x"].name, definition.inputs["x"].dtype = "x:0", 1
        definition.outputs["y"].name, definition.outputs["y"].dtype = "y:0", 1
        self.signatures: Mapping[str, SignatureDef] = {"serving_default": definition}
        self.loop_free = frozenset({"y:0"})
        self.runtime = "none"
        self.gate = threading.Event()
        self.gate.set()

    def run(self, feeds: Mapping[str, Array], fetches: Sequence[str]) -> list[Array]:
        """See the class."""
        assert self.gate.wait(10)
        if (feeds["x:0"] < 0).any():
            raise ValueError("below zero")
        return [feeds["x:0"] * 2 for _ in fetches]

    def close(self) -> None:
        """Nothing."""


class Traced(NamedTuple):
    """A server in this process with such a model, and its spans."""

    grpc: str
    rest: str
    model: Doubling
    exporter: InMemorySpanExporter

    def spans(self, count: int) -> list[ReadableSpan]:
        """The spans that have ended, in the order of their begin, once there are so many; they are taken out."""
        wait_until(lambda: len(self.exporter.get_finished_spans()) >= count)
        spans = sorted(self.exporter.get_finished_spans(), key=lambda span: (span.start_time, -(span.end_time or 0)))
        assert len(spans) == count, [span.name for span in spans]
        self.exporter.clear()
        return spans

    def predict(self, *values: float, **metadata: str) -> list[float]:
        """y over gRPC."""
        with grpc.insecure_channel(self.grpc) as channel:
            request = predict_request("m", {"x": np.array(values, np.float32)})
            answer = call(channel, services.PREDICT, request, metadata=tuple(metadata.items()))
            return list(answer.outputs["y"].float_val)


@contextlib.contextmanager
def traced(path: Path, sampler: Sampler | None = None, batching: BatchingOptions | None = None) -> Iterator[Traced]:
    """Such a server."""
    (path / "m/1").mkdir(parents=True)
    (path / "m/1/saved_model.pb").touch()
    exporter, model = InMemorySpanExporter(), Doubling()
    provider = TracerProvider(sampler=sampler, shutdown_on_exit=False)
    provider.add_span_processor(SimpleSpanProcessor(exporter))
    flags = Flags(
        port=0, rest_api_port=0, model_name="m", model_base_path=f"{path}/m", enable_batching=batching is not None,
        enable_grpc_healthcheck_service=True, shutdown_grace_seconds=1, max_concurrent_requests=8,
    )  # fmt: skip
    server = ModelServer(
        flags, lambda name, number, _: LoadedModel(name, number, model, batching), telemetry=Telemetry(provider)
    )
    addresses = server.start()
    assert addresses.grpc
    assert addresses.rest
    try:
        yield Traced(addresses.grpc, addresses.rest, model, exporter)
    finally:
        model.gate.set()
        server.stop()


@pytest.fixture
def live(tmp_path: Path) -> Iterator[Traced]:
    """Such a server, all of whose calls are traced."""
    with traced(tmp_path) as server:
        yield server


def attributes(span: ReadableSpan) -> dict[str, Any]:
    """Of a span, without what differs each time."""
    return {
        key: value
        for key, value in (span.attributes or {}).items()
        if key not in {"network.peer.port", "fashion.request.id"}
    }


def ids(span: ReadableSpan) -> tuple[int, int]:
    """A span's trace and its own id."""
    context = span.get_span_context()
    assert context is not None
    return context.trace_id, context.span_id


def test_a_call_over_grpc(live: Traced) -> None:
    """A span in the caller's trace, and its parse, queue, run and serialise one after the other within it."""
    assert live.predict(1, 2, traceparent=TRACEPARENT, tracestate="a=1") == [2, 4]
    server, parse, queue, run, serialise = live.spans(5)
    assert (server.name, server.kind) == (PREDICT, SpanKind.SERVER)
    assert attributes(server) == {
        "rpc.system.name": "grpc", "rpc.method": PREDICT, "rpc.response.status_code": "OK",
        "network.peer.address": "127.0.0.1", "fashion.model.name": "m",
    }  # fmt: skip
    assert server.parent
    assert server.parent.is_remote
    assert f"{server.parent.span_id:016x}" in TRACEPARENT
    assert server.context.trace_state.to_header() == "a=1"
    children = (parse, queue, run, serialise)
    assert [span.name for span in children] == ["parse", "queue", "run", "serialise"]
    for span in children:
        assert ids(span)[0] == TRACE_ID
        assert span.parent
        assert span.parent.span_id == ids(server)[1]
    times = [time for span in children for time in (span.start_time or 0, span.end_time or 0)]
    assert times == sorted(times)
    assert (server.start_time, server.end_time) == (times[0], times[-1])
    assert abs(times[0] / 1e9 - time.time()) < 60
    assert attributes(run) == {
        "fashion.model.name": "m", "fashion.model.version": 1, "fashion.model.runtime": "none",
        "fashion.batch.requests": 1,
    }  # fmt: skip
    assert not run.links


def test_a_call_over_rest(live: Traced) -> None:
    """The same, named by its route; without a traceparent it begins a trace."""
    url = f"http://{live.rest}/v1/models/m"
    assert httpx.post(f"{url}/versions/1:predict", json={"instances": [1, 2]}).json() == {"predictions": [2, 4]}
    server, *children = live.spans(5)
    assert (server.name, server.parent) == ("POST /v1/models/{model}:predict", None)
    assert attributes(server) == {
        "http.request.method": "POST", "http.route": "/v1/models/{model}:predict", "url.scheme": "http",
        "url.path": "/v1/models/m/versions/1:predict", "http.response.status_code": 200,
        "network.peer.address": "127.0.0.1", "fashion.model.name": "m",
    }  # fmt: skip
    assert [span.name for span in children] == ["parse", "queue", "run", "serialise"]
    httpx.get(f"{url}/metadata")
    (metadata,) = live.spans(1)
    assert metadata.name == "GET /v1/models/{model}/metadata"
    assert attributes(metadata)["url.path"] == "/v1/models/m/metadata"


def test_errors(live: Traced) -> None:
    """Only a fault of the server's is an error; the trace that the answer names is the span's."""
    with pytest.raises(grpc.RpcError):
        live.predict(-1)
    server, parse = (span for span in live.spans(2) if span.name in {PREDICT, "parse"})
    assert (server.status.status_code, attributes(server)["error.type"]) == (StatusCode.ERROR, "INTERNAL")
    assert parse.name == "parse"
    answer = httpx.post(f"http://{live.rest}/v1/models/m:predict", json={"instances": ["x"]})
    assert answer.status_code == 400
    (server,) = live.spans(1)
    assert server.status.status_code is StatusCode.UNSET
    assert attributes(server)["http.response.status_code"] == 400
    trace_id, span_id = ids(server)
    assert answer.headers["traceresponse"] == f"00-{trace_id:032x}-{span_id:016x}-01"


def test_what_tells_the_servers_state_has_no_span(live: Traced) -> None:
    """Probes would be most of all spans; paths that anyone can make up would be names."""
    for path in ("/healthz", "/readyz", "/v1/models", "/nothing", "/v1/x"):
        httpx.get(f"http://{live.rest}{path}")
    with grpc.insecure_channel(live.grpc) as channel:
        check: Any = channel.unary_unary("/grpc.health.v1.Health/Check")
        check(b"")
        unknown: Any = channel.unary_unary("/no.Service/None")
        with pytest.raises(grpc.RpcError):
            unknown(b"")
    live.predict(1)
    live.spans(5)


def test_a_call_that_is_not_sampled_costs_no_span(tmp_path: Path) -> None:
    """Unless its caller's trace is: the decision is the caller's."""
    with traced(tmp_path, ParentBased(ALWAYS_OFF)) as server:
        server.predict(1)
        server.predict(1, traceparent=TRACEPARENT[:-1] + "0")
        assert server.exporter.get_finished_spans() == ()
        server.predict(1, traceparent=TRACEPARENT)
        server.spans(5)


def test_a_merged_run_links_to_every_request_in_it(tmp_path: Path) -> None:
    """It is one span, in one request's trace; each other request links to it."""
    with traced(tmp_path, batching=BatchingOptions(batch_timeout_seconds=0.05)) as server:
        with ThreadPoolExecutor(4) as pool:
            list(pool.map(server.predict, (1, 2, 3, 4)))
        wait_until(lambda: Counter(span.name for span in server.exporter.get_finished_spans())[PREDICT] == 4)
        spans = list(server.exporter.get_finished_spans())
    calls = {ids(span): span for span in spans if span.name == PREDICT}
    runs = {ids(span): span for span in spans if span.name == "run"}
    assert len(runs) < 4
    merged = [run for run in runs.values() if run.links]
    assert merged
    for run in merged:
        members = [(link.context.trace_id, link.context.span_id) for link in run.links]
        assert len(set(members)) == len(members) == attributes(run)["fashion.batch.requests"]
        assert run.parent
        assert members[0] == (run.parent.trace_id, run.parent.span_id)
        for member in members[1:]:
            (link,) = calls[member].links
            assert (link.context.trace_id, link.context.span_id) == ids(run)
    names = Counter(span.name for span in spans)
    assert names["parse"] == names["queue"] == names["serialise"] == 4


def test_a_merged_run_that_fails_is_run_again_call_by_call(tmp_path: Path) -> None:
    """Each has a run of its own then, and the one that is to blame none."""
    with traced(tmp_path, batching=BatchingOptions(batch_timeout_seconds=0.05)) as server:

        def ask(value: float) -> bool:
            try:
                return server.predict(value) == [2 * value]
            except grpc.RpcError:
                return False

        with ThreadPoolExecutor(3) as pool:
            assert list(pool.map(ask, (-1, 2, 3))) == [False, True, True]
        wait_until(lambda: Counter(span.name for span in server.exporter.get_finished_spans())[PREDICT] == 3)
        runs = [span for span in server.exporter.get_finished_spans() if span.name == "run"]
    assert 1 <= len(runs) <= 2


class Recorded:
    """A telemetry whose spans are kept, and the interceptor of its calls."""

    def __init__(self, sampler: Sampler | None = None, scheme: str = "http") -> None:
        self.exporter = InMemorySpanExporter()
        provider = TracerProvider(sampler=sampler, shutdown_on_exit=False)
        provider.add_span_processor(SimpleSpanProcessor(self.exporter))
        self.telemetry = Telemetry(provider, scheme)
        self.interceptor = Interceptor(lambda: ["m"], telemetry=self.telemetry)

    def call(self, operation: Operation, path: str, peer: str = "", **metadata: str) -> Call:
        """A call that begins."""
        headers = {name.encode(): value.encode() for name, value in metadata.items()}
        return Call(self.interceptor, operation, path, lambda: peer, "id", metadata=headers)

    def span(self) -> ReadableSpan:
        """The one span that has ended."""
        (span,) = self.exporter.get_finished_spans()
        return span


GRPC = Operation("GRPC", "Predict", FOR_ANYONE)


@pytest.mark.parametrize(
    ("peer", "address"),
    [
        ("ipv4:10.0.0.7:50514", {"network.peer.address": "10.0.0.7", "network.peer.port": 50514}),
        ("ipv6:::1:50514", {"network.peer.address": "::1", "network.peer.port": 50514}),
        ("127.0.0.1:9", {"network.peer.address": "127.0.0.1", "network.peer.port": 9}),
        ("unix:", {}),
        ("", {}),
    ],
)
def test_the_span_of_a_grpc_call(peer: str, address: Mapping[str, Any]) -> None:
    """Who called, as far as it has an address; what it was of, and what came of it."""
    recorded = Recorded()
    with recorded.call(GRPC, "/s/Predict", peer) as call:
        call.model, call.code = "m", Code.NOT_FOUND
    span = recorded.span()
    assert (span.name, span.kind, span.parent) == ("s/Predict", SpanKind.SERVER, None)
    assert dict(span.attributes or {}) == {
        "rpc.system.name": "grpc", "rpc.method": "s/Predict", "rpc.response.status_code": "NOT_FOUND",
        "fashion.model.name": "m", "fashion.request.id": "id", **address,
    }  # fmt: skip
    assert span.status.status_code is StatusCode.UNSET
    assert (span.end_time or 0) >= (span.start_time or 0)


@pytest.mark.parametrize(
    ("name", "method", "route"),
    [
        ("Predict", "POST", "/v1/models/{model}:predict"),
        ("Classify", "POST", "/v1/models/{model}:classify"),
        ("Regress", "POST", "/v1/models/{model}:regress"),
        ("GetModelStatus", "GET", "/v1/models/{model}"),
        ("GetModelMetadata", "GET", "/v1/models/{model}/metadata"),
    ],
)
def test_the_span_of_a_rest_call(name: str, method: str, route: str) -> None:
    """By its route's template; the path itself is an attribute."""
    recorded = Recorded(scheme="https")
    with recorded.call(Operation("REST", name, FOR_ANYONE), "/v1/models/m"):
        pass
    span = recorded.span()
    assert span.name == f"{method} {route}"
    assert dict(span.attributes or {}) == {
        "http.request.method": method, "http.route": route, "url.scheme": "https", "url.path": "/v1/models/m",
        "http.response.status_code": 200, "fashion.model.name": "", "fashion.request.id": "id",
    }  # fmt: skip


def test_which_calls_have_no_span() -> None:
    """Routes without a template, what is no request, and what the sampler drops."""
    recorded = Recorded()
    for operation in (
        Operation("REST", "Health", FOR_ANYONE),
        Operation("REST", "Predict", FOR_ANYONE, counts=False),
        Operation("GRPC", "Check", FOR_ANYONE, counts=False),
    ):
        with recorded.call(operation, "/p") as call:
            assert call.span is None
    dropping = Recorded(ParentBased(ALWAYS_OFF))
    with dropping.call(GRPC, "/p") as call:
        assert call.span is None
    with dropping.call(GRPC, "/p", traceparent=f"{TRACEPARENT[:-1]}0") as call:
        assert call.span is None
    with dropping.call(GRPC, "/p", traceparent=TRACEPARENT) as call:
        assert call.span is not None
        assert call.trace.trace_id == TRACEPARENT.split("-")[1]
        assert call.trace.sampled
    assert recorded.exporter.get_finished_spans() == ()
    assert len(dropping.exporter.get_finished_spans()) == 1


@pytest.mark.parametrize(
    ("code", "grpc_fault", "rest_fault"),
    [
        (Code.OK, False, False),
        (Code.INVALID_ARGUMENT, False, False),
        (Code.RESOURCE_EXHAUSTED, False, False),
        (Code.UNKNOWN, True, True),
        (Code.DEADLINE_EXCEEDED, True, True),
        (Code.UNIMPLEMENTED, True, True),
        (Code.INTERNAL, True, True),
        (Code.UNAVAILABLE, True, True),
        (Code.DATA_LOSS, True, True),
    ],
)
def test_which_codes_are_a_fault_of_the_servers(code: Code, grpc_fault: bool, rest_fault: bool) -> None:
    """Over HTTP those that are 5xx."""
    for operation, is_fault in (
        (GRPC, grpc_fault), (Operation("REST", "Predict", FOR_ANYONE), rest_fault),
    ):  # fmt: skip
        recorded = Recorded()
        with recorded.call(operation, "/p") as call:
            call.code = code
        span = recorded.span()
        assert (span.status.status_code is StatusCode.ERROR) is is_fault
        assert (span.attributes or {}).get("error.type") == (code.name if is_fault else None)


def test_the_times_of_a_call_follow_each_other(monkeypatch: pytest.MonkeyPatch) -> None:
    """Each phase begins where the one before ended; a call that never ran has no serialise."""
    recorded = Recorded()
    clock = [100.0]
    monkeypatch.setattr(time, "perf_counter", lambda: clock[0])
    monkeypatch.setattr(time, "time_ns", lambda: 10**18 + int(clock[0] * 1e9))
    with recorded.call(GRPC, "/p") as call:
        assert call.span
        clock[0] = 100.25
        call.span.parsed()
        clock[0] = 101.0
        call.span.phase("queue", 100.5)
        call.span.phase("run", 100.75, attributes={"a": 1})
    with recorded.call(GRPC, "/p") as other:
        assert other.span
        clock[0] = 103.0
        other.span.parsed()
    spans = recorded.exporter.get_finished_spans()
    expected = (
        ("parse", 100.0, 100.25), ("queue", 100.25, 100.5), ("run", 100.5, 100.75), ("serialise", 100.75, 101.0),
        ("p", 100.0, 101.0), ("parse", 101.0, 103.0), ("p", 101.0, 103.0),
    )  # fmt: skip
    assert [span.name for span in spans] == [name for name, _, _ in expected]
    for span, (_, begin, end) in zip(spans, expected, strict=True):
        times = [(nanoseconds or 0) / 1e9 - 10**9 for nanoseconds in (span.start_time, span.end_time)]
        assert times == pytest.approx([begin, end], abs=1e-3)
    assert dict(spans[2].attributes or {}) == {"a": 1}


def test_a_trace_has_the_id_that_was_decided_on() -> None:
    """Once; children and other traces have ids of their own."""
    asked: list[int] = []

    class Noted(Sampler):
        """Takes all, and notes their traces."""

        def should_sample(self, parent_context: Any, trace_id: int, *_: Any, **__: Any) -> SamplingResult:
            asked.append(trace_id)
            return SamplingResult(Decision.RECORD_AND_SAMPLE)

        def get_description(self) -> str:
            return "noted"

    recorded = Recorded(Noted())
    for _ in range(2):
        with recorded.call(GRPC, "/p") as call:
            assert call.span
            call.span.parsed()
    traces = [ids(span)[0] for span in recorded.exporter.get_finished_spans()]
    assert traces[0] == traces[1] != traces[2] == traces[3]
    assert set(traces) == set(asked)


@pytest.mark.parametrize(
    ("environment", "wanted"),
    [
        ({}, False),
        ({"OTEL_EXPORTER_OTLP_ENDPOINT": "http://x"}, True),
        ({"OTEL_EXPORTER_OTLP_TRACES_ENDPOINT": "http://x"}, True),
        ({"OTEL_TRACES_EXPORTER": "console"}, True),
        ({"OTEL_TRACES_EXPORTER": "none", "OTEL_EXPORTER_OTLP_ENDPOINT": "http://x"}, False),
        ({"OTEL_TRACES_EXPORTER": "otlp", "OTEL_SDK_DISABLED": "TRUE"}, False),
        ({"OTEL_SERVICE_NAME": "x", "OTEL_TRACES_SAMPLER": "always_on"}, False),
    ],
)
def test_when_it_is_on(environment: Mapping[str, str], wanted: bool) -> None:
    """When there is an exporter or an endpoint, as the standard's variables say it."""
    assert is_wanted(environment) is wanted
    if not wanted:
        assert telemetry.start("x", environment) is None


@pytest.mark.parametrize(
    ("environment", "text"),
    [
        ({"OTEL_TRACES_EXPORTER": "zipkin"}, "OTEL_TRACES_EXPORTER=zipkin needs the exporter zipkin, which"),
        ({"OTEL_TRACES_EXPORTER": "console, zipkin"}, "OTEL_TRACES_EXPORTER=zipkin needs the exporter zipkin, which"),
        (
            {"OTEL_TRACES_EXPORTER": "otlp", "OTEL_EXPORTER_OTLP_PROTOCOL": "http/json"},
            "OTEL_TRACES_EXPORTER=otlp needs the exporter http/json, which",
        ),
        (
            {
                "OTEL_EXPORTER_OTLP_ENDPOINT": "http://x", "OTEL_EXPORTER_OTLP_TRACES_PROTOCOL": "mine",
                "OTEL_EXPORTER_OTLP_PROTOCOL": "grpc",
            },
            "OTEL_TRACES_EXPORTER=otlp needs the exporter mine, which",
        ),
    ],
)  # fmt: skip
def test_an_exporter_that_there_is_not(environment: Mapping[str, str], text: str) -> None:
    """The text says what is there; what is asked for of traces alone goes before what is of all."""
    with pytest.raises(TelemetryError) as raised:
        telemetry.start("x", environment)
    assert str(raised.value) == (
        f"no traces are sent: {text} is not installed; the extra [telemetry] has otlp "
        "(OTEL_EXPORTER_OTLP_PROTOCOL=http/protobuf) and console"
    )


@pytest.mark.parametrize(
    ("protocol", "entry"), [("", "otlp_proto_http"), ("grpc", "otlp_proto_grpc"), ("http/protobuf", "otlp_proto_http")]
)
def test_an_exporter_that_cannot_be_made(monkeypatch: pytest.MonkeyPatch, protocol: str, entry: str) -> None:
    """It is named by its entry point, with its own reason."""
    looked: list[dict[str, str]] = []

    def fail() -> None:
        raise ValueError("no collector")

    def points(**wanted: str) -> list[SimpleNamespace]:
        looked.append(wanted)
        return [SimpleNamespace(load=lambda: fail)]

    monkeypatch.setattr(metadata, "entry_points", points)
    environment = {"OTEL_EXPORTER_OTLP_ENDPOINT": "http://x", "OTEL_EXPORTER_OTLP_PROTOCOL": protocol}
    with pytest.raises(TelemetryError) as raised:
        telemetry.start("x", environment)
    assert str(raised.value) == f"no traces are sent: the exporter {entry} cannot be made: no collector"
    assert looked == [{"group": "opentelemetry_traces_exporter", "name": entry}]


def test_what_a_slow_collector_is_given() -> None:
    """So many seconds."""
    gate, shut = threading.Event(), threading.Event()

    class Slow:
        """A provider that waits for its collector."""

        def shutdown(self) -> None:
            assert gate.wait(10)
            shut.set()

    provider: Any = Slow()
    telemetry.stop(provider, 0.01)
    assert not shut.is_set()
    gate.set()
    telemetry.stop(provider, 10)
    assert shut.is_set()


def test_the_trace_of_somebody_else() -> None:
    """As OpenTelemetry has it and back, with what a tracing system adds."""
    for trace in (
        TraceContext("4bf92f3577b34da6a3ce929d0e0e4736", "00f067aa0ba902b7", sampled=True, tracestate="a=1"),
        TraceContext("0bf92f3577b34da6a3ce929d0e0e4736", "00f067aa0ba902b7"),
    ):
        context = get_current_span(telemetry.context_of(trace)).get_span_context()
        assert context.is_remote
        assert telemetry.trace_of(context) == trace


def test_the_extra_is_missing(monkeypatch: pytest.MonkeyPatch) -> None:
    """The text says how to install it."""
    monkeypatch.setitem(sys.modules, "opentelemetry.sdk.resources", None)
    with pytest.raises(TelemetryError, match=r"OTEL_\* variables ask for: .* not installed: .*\[telemetry\]"):
        telemetry.start("x", {"OTEL_TRACES_EXPORTER": "otlp"})


def test_a_service_has_the_name_that_the_variables_give_it(monkeypatch: pytest.MonkeyPatch) -> None:
    """Or else the one that it has by itself."""
    for variables, name in (
        ({}, "own"),
        ({"OTEL_SERVICE_NAME": "given"}, "given"),
        ({"OTEL_RESOURCE_ATTRIBUTES": "service.name=other,a=b"}, "other"),
    ):
        with monkeypatch.context() as patch:
            for key, value in variables.items():
                patch.setenv(key, value)
            provider = telemetry.start("own", {"OTEL_TRACES_EXPORTER": "console", **variables})
            assert provider
            assert provider.resource.attributes["service.name"] == name
            telemetry.stop(provider, 5)


_OFF = """
import sys
import numpy as np
import client, client.connection, client.transports.fake
import serving.embedded.__main__, serving.embedded.server, serving.embedded.grpc.listener
connection = client.Connection([client.transports.fake.FakeTransport()], client.ModelSpec())
connection.predict(np.zeros((1, 28, 28), np.uint8))
assert not [name for name in sys.modules if name.startswith("opentelemetry")]
"""


def test_off_it_is_not_imported() -> None:
    """Neither by the server nor by the client and its calls."""
    subprocess.run([sys.executable, "-c", _OFF], cwd=ROOT, check=True)


def test_a_collector_that_is_not_there_holds_nothing_up(
    lite_flags: Sequence[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Requests are answered, and the server ends in its time."""
    monkeypatch.setenv("OTEL_EXPORTER_OTLP_ENDPOINT", "http://127.0.0.1:1")
    with running(*lite_flags) as server:
        for _ in range(3):
            assert httpx.post(f"http://{server.rest}/v1/models/m:predict", json={"instances": [1]}).is_success
        begin = time.monotonic()
        server.process.terminate()
        assert server.process.wait(30) == 0
        assert time.monotonic() - begin < 15


def test_a_trace_from_the_command_line_through_two_workers(
    lite_flags: Sequence[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A real receiver gets the client's spans and the server's, flushed when they end, in one trace."""
    from tests.support.live import free_port

    with receiver(tmp_path) as otlp:
        for key, value in otlp.environment.items():
            monkeypatch.setenv(key, value)
        grpc_port, rest_port = free_port(), free_port()
        flags = ("--workers=2", f"--port={grpc_port}", f"--rest_api_port={rest_port}")
        with running(*lite_flags, *flags) as server:
            done = subprocess.run(
                [
                    sys.executable, "-m", "client.cli", "call", "--server", f"grpc://{server.grpc}", "--model-name",
                    "m", "--input", "x=[1.0]",
                ],
                env={**os.environ, "TRACEPARENT": TRACEPARENT}, cwd=ROOT, capture_output=True, text=True, check=False,
            )  # fmt: skip
            assert done.returncode == 0, done.stderr
            server.process.terminate()
            assert server.process.wait(30) == 0
        spans = [span for span in otlp.spans() if span["trace"] == TRACEPARENT.split("-")[1]]
    by_id = {span["span"]: span for span in spans}
    (served,) = (span for span in spans if span["name"] == PREDICT and span["service"] == "fashion-serving")
    attempt = by_id[served["parent"]]
    called = by_id[attempt["parent"]]
    assert (attempt["service"], attempt["name"]) == ("fashion", PREDICT)
    assert attempt["attributes"]["rpc.response.status_code"] == "OK"
    assert attempt["attributes"]["server.port"] == grpc_port
    assert (called["name"], called["parent"]) == ("Predict", TRACEPARENT.split("-")[2])
    children = [span["name"] for span in spans if span["parent"] == served["span"]]
    assert sorted(children) == ["parse", "queue", "run", "serialise"]

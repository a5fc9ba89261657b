"""A call's place in a trace: from the headers of either API into the access log, and back with an error."""

from __future__ import annotations

import contextlib
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

import grpc
import httpx
import pytest
from google.rpc import error_details_pb2, status_pb2

import client
import client.aio
from fashion_common.trace_context import TraceContext, parse
from serving.apis import messages, services
from serving.apis.status import Code
from serving.embedded.access.tokens import FOR_ANYONE
from serving.embedded.flags import Flags
from serving.embedded.grpc.messages import error_details
from serving.embedded.inference.model import LoadedModel
from serving.embedded.observe.calls import Call, Interceptor, Operation
from serving.embedded.server import ModelServer
from tests.support.asking import call
from tests.support.fakes import FakeServable
from tests.support.ports import taken_line
from tests.support.records import TRACEPARENT
from tests.support.status_servers import grpc_server, http_server

TRACE_ID = TRACEPARENT.split("-")[1]
STATUS = messages.GetModelStatusRequest(model_spec=messages.ModelSpec(name="none"))


class Live(NamedTuple):
    """A server in this process that has no model `none`, and its access log."""

    grpc: str
    rest: str
    log: Path

    def line(self) -> dict[str, Any]:
        """The one line of the log; it is taken out."""
        return taken_line(self.log)


@pytest.fixture(scope="module")
def live(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Live]:
    """Such a server."""
    directory = tmp_path_factory.mktemp("trace")
    (directory / "m/1").mkdir(parents=True)
    (directory / "m/1/saved_model.pb").touch()
    log = directory / "access.log"
    with log.open("a") as stdout, pytest.MonkeyPatch.context() as patch:
        patch.setattr(sys, "stdout", stdout)
        flags = Flags(port=0, rest_api_port=0, model_name="m", model_base_path=f"{directory}/m", access_log=True)
        server = ModelServer(flags, lambda name, number, _: LoadedModel(name, number, FakeServable(number)))
    addresses = server.start()
    assert addresses.grpc
    assert addresses.rest
    try:
        yield Live(addresses.grpc, addresses.rest, log)
    finally:
        server.stop()


def grpc_error(live: Live, *metadata: tuple[str, str]) -> tuple[status_pb2.Status, TraceContext]:
    """The details of an error as Google's own messages read them, and the trace in them."""
    with grpc.insecure_channel(live.grpc) as channel, pytest.raises(grpc.RpcError) as raised:
        call(channel, services.GET_MODEL_STATUS, STATUS, metadata=metadata)
    error: Any = raised.value
    status = status_pb2.Status.FromString(dict(error.trailing_metadata())["grpc-status-details-bin"])
    assert (status.code, status.message) == (error.code().value[0], error.details())
    info = error_details_pb2.RequestInfo()
    assert status.details[0].Unpack(info)
    assert info.request_id == dict(error.trailing_metadata())["x-request-id"] == live.line()["request_id"]
    context = parse(info.serving_data)
    assert context is not None
    return status, context


def test_the_details_of_a_grpc_error_say_the_trace(live: Live) -> None:
    """A span of the caller's trace, or of a new one; the status is that of the trailers."""
    status, context = grpc_error(live, ("traceparent", TRACEPARENT), ("tracestate", "a=1"))
    assert status.code == Code.NOT_FOUND
    assert context.trace_id == TRACE_ID
    assert context.span_id not in TRACEPARENT
    assert context.sampled
    _, other = grpc_error(live)
    assert other.trace_id != TRACE_ID


def test_the_headers_of_a_rest_error_say_the_trace(live: Live) -> None:
    """And the access log; the body is TF Serving's, and an answer that is no error has no such header."""
    url = f"http://{live.rest}/v1/models/none"
    answer = httpx.get(url, headers={"Traceparent": TRACEPARENT})
    context = parse(answer.headers["traceresponse"])
    assert context is not None
    assert context.trace_id == TRACE_ID == live.line()["trace_id"]
    assert answer.json().keys() == {"error"}
    twice = httpx.get(url, headers=[("traceparent", TRACEPARENT), ("traceparent", TRACEPARENT)])
    assert twice.headers["traceresponse"].split("-")[1] == live.line()["trace_id"] != TRACE_ID
    assert "traceresponse" not in httpx.get(f"http://{live.rest}/healthz").headers
    live.line()


@pytest.mark.parametrize("scheme", ["grpc", "http"])
def test_an_error_of_the_client_names_its_request(live: Live, scheme: str) -> None:
    """Its id and trace are those of the server's log; the text has the trace if the caller belongs to one."""
    server = f"{scheme}://{live.grpc if scheme == 'grpc' else live.rest}"
    with client.connect(server, model=client.ModelSpec("none")) as connection:
        with pytest.raises(client.ServerError) as raised:
            connection.status()
        line = live.line()
        assert (raised.value.request_id, raised.value.trace_id) == (line["request_id"], line["trace_id"])
        assert "trace" not in str(raised.value)
        with client.trace(TRACEPARENT), pytest.raises(client.ServerError) as raised:
            connection.status()
        assert live.line()["trace_id"] == raised.value.trace_id == TRACE_ID
        assert str(raised.value).endswith(f" [trace {TRACE_ID}]")
        hinted = raised.value.with_hint("x")
        assert (hinted.request_id, hinted.trace_id) == (raised.value.request_id, TRACE_ID)
        assert str(hinted).endswith(f" (x) [trace {TRACE_ID}]")


def test_details_repeat_no_long_message() -> None:
    """Peers take no more than 8 KiB of headers; what UTF-8 does not have is replaced."""
    assert error_details(Code.INTERNAL, "x" * 1024, "id", TRACEPARENT)
    assert error_details(Code.INTERNAL, "x" * 1025, "id", TRACEPARENT) == b""
    assert error_details(Code.INTERNAL, "\ud800", "id", TRACEPARENT)


def test_a_trace_is_made_when_it_is_asked_for() -> None:
    """A call that nobody asks makes none; one that is asked twice says the same."""
    headers = {b"traceparent": TRACEPARENT.encode(), b"tracestate": b"a=1"}
    with Call(Interceptor(list), Operation("GRPC", "M", FOR_ANYONE), "/p", str, "", metadata=headers) as traced:
        assert traced._trace is None
        assert traced.trace is traced.trace
        assert traced.trace == traced.caller_trace._replace(span_id=traced.trace.span_id)  # type: ignore[union-attr]
        assert traced.trace.tracestate == "a=1"
        assert traced.origin.traceparent == TRACEPARENT


class Attempts:
    """What servers were sent: each fails once, then answers."""

    def __init__(self) -> None:
        self.headers: list[dict[str, str]] = []

    def grpc(self, context: grpc.ServicerContext) -> bytes:
        """One attempt over gRPC."""
        self.headers.append({key: str(value) for key, value in context.invocation_metadata()})
        if len(self.headers) == 1:
            context.abort(grpc.StatusCode.UNAVAILABLE, "not now")
        return b""

    def rest(self, headers: Any) -> tuple[int, bytes]:
        """One attempt over REST."""
        self.headers.append(dict(headers))
        return (503, b"{}") if len(self.headers) == 1 else (200, b'{"model_version_status": []}')


@contextlib.contextmanager
def attempts(scheme: str) -> Iterator[tuple[Attempts, str]]:
    """Such a server, and its address."""
    made = Attempts()
    with grpc_server(made.grpc) if scheme == "grpc" else http_server(made.rest) as port:
        yield made, f"{scheme}://127.0.0.1:{port}"


@pytest.mark.parametrize("scheme", ["grpc", "http"])
@pytest.mark.parametrize("asynchronous", [False, True])
def test_each_attempt_is_a_span_of_the_callers_trace(scheme: str, asynchronous: bool) -> None:
    """With what its tracing system adds; without a trace there is no header."""
    with attempts(scheme) as (made, address):
        ask(address, asynchronous=asynchronous, trace=True)
        first, second = (parse(each["traceparent"], each["tracestate"]) for each in made.headers)
        assert first
        assert second
        assert first.trace_id == second.trace_id == TRACE_ID
        assert len({first.span_id, second.span_id, TRACEPARENT.split("-")[2]}) == 3
        assert first.tracestate == second.tracestate == "a=1"
        ask(address, asynchronous=asynchronous, trace=False)
        assert "traceparent" not in made.headers[2]


def ask(address: str, *, asynchronous: bool, trace: bool) -> None:
    """Asks for the status."""
    import asyncio

    async def ask_later() -> None:
        async with client.aio.connect(address) as connection:
            await connection.status()

    with client.trace(TRACEPARENT, "a=1") if trace else contextlib.nullcontext():
        if asynchronous:
            asyncio.run(ask_later())
        else:
            with client.connect(address) as connection:
                connection.status()


@pytest.mark.parametrize("scheme", ["grpc", "http"])
def test_a_traceparent_among_the_callers_own_headers_goes_as_it_is(scheme: str) -> None:
    """And no other beside it."""
    security = client.Security(headers=(("traceparent", TRACEPARENT),))
    with attempts(scheme) as (made, address), client.trace(TRACEPARENT.replace("4", "5")):
        with client.connect(address, security=security) as connection:
            connection.status()
        assert [each["traceparent"] for each in made.headers] == [TRACEPARENT] * 2

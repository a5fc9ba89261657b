"""Every call that a port answers passes the one interceptor, and is noted with the status that its client got."""

from __future__ import annotations

import logging
import re
import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import httpx
import pytest

from serving.apis import services
from serving.apis.recordings import Origin
from serving.apis.services import PROFILER_SERVICE as PROFILER
from serving.apis.status import Code
from serving.embedded.access.tokens import FOR_ANYONE
from serving.embedded.admission.budget import Budget
from serving.embedded.admission.samples import Sample, Spare
from serving.embedded.observe.calls import Call, Interceptor, Operation
from serving.embedded.observe.metrics import Metrics
from serving.errors import Internal, InvalidArgument, ResourceExhausted
from tests.support.http2_peer import Peer, call
from tests.support.http2_server import SocketPipe
from tests.support.live import wait_until
from tests.support.ports import REQUESTS, UNKNOWN, Ports, described, ports

NEVER_REFUSED = {"Check", "Watch", "ServerReflectionInfo", "Health", "Readiness", "Metrics", "NotFound"}
HTTP_CODES = {200: "OK", 400: "INVALID_ARGUMENT", 404: "NOT_FOUND", 429: "RESOURCE_EXHAUSTED", 500: "INTERNAL"}


@pytest.fixture
def live(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Ports]:
    """Such a server, with messages and bodies of up to 1000 bytes and one request at a time."""
    with ports(tmp_path, monkeypatch, max_request_bytes=1000, max_concurrent_requests=1) as live_ports:
        yield live_ports


def test_every_method_passes_the_interceptor(live: Ports) -> None:
    """Those of the descriptors, whatever else the port answers, and a method that there is not."""
    missing = {"/grpc.health.v1.Health/List", f"/{PROFILER}/Monitor"}

    assert set(live.methods.by_path) == described() - missing
    for path in sorted(described() | set(live.methods.by_path) | {UNKNOWN}):
        code = live.ask(path)
        line = live.line()
        assert (line["protocol"], line["path"], line["code"]) == ("GRPC", path, code)
        assert (code == "UNIMPLEMENTED") == (path in missing | {UNKNOWN})


def test_every_route_passes_the_interceptor(live: Ports) -> None:
    """Each has a request here, which that route answers, and no other."""
    assert set(REQUESTS) == {route.operation.name for route in live.routes}
    for name, (method, path) in REQUESTS.items():
        answer = live.rest.request(method, path)
        line = live.line()
        (first, *_) = (
            route
            for route in live.routes
            if (not route.methods or method in route.methods) and route.path.fullmatch(path)
        )
        assert first.operation.name == name
        assert (line["protocol"], line["path"], line["code"]) == ("REST", path, HTTP_CODES[answer.status_code])
        assert line["model"] == ("m" if "/models/m" in path and name not in {"Malformed", "Preflight"} else "")
        assert answer.headers["x-request-id"] == line["request_id"]


def test_a_port_for_the_metrics_alone(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """It has them, and the probes, and nothing else; the REST port then has none."""
    with ports(tmp_path, monkeypatch, metrics_port=0) as live, httpx.Client(base_url=f"http://{live.metrics}") as http:
        assert live.rest.get("/v1/models/m").status_code == 200
        text = http.get("/metrics").text
        assert ':tensorflow:serving:request_count{model_name="m",status="OK"} 1.0' in text
        assert http.get("/healthz").status_code == http.get("/readyz").status_code == 200
        assert http.get("/v1/models/m").status_code == http.post("/v1/models/m:predict").status_code == 404
        assert live.rest.get("/metrics").status_code == 404
        assert live.rest.get("/healthz").status_code == 200


def test_scrapes_at_once(live: Ports, monkeypatch: pytest.MonkeyPatch) -> None:
    """Many take one thread, and no call waits for them."""
    opened, scrapes = threading.Event(), []
    assert live.server._metrics

    def exposition() -> bytes:
        scrapes.append(1)
        assert opened.wait(30)
        return b"text"

    monkeypatch.setattr(live.server._metrics, "exposition", exposition)
    with ThreadPoolExecutor(8) as pool:
        url = f"{live.rest.base_url}/metrics"
        answers = [pool.submit(httpx.get, url, timeout=30) for _ in range(8)]
        rest = live.server._rest
        wait_until(lambda: bool(scrapes and rest and len(rest._connections) >= len(answers)))
        assert live.rest.get("/v1/models/m").status_code == 200
        assert scrapes == [1]
        opened.set()
        assert {answer.result().text for answer in answers} == {"text"}


def test_what_is_never_refused(live: Ports) -> None:
    """Probes, metrics and reflection are answered while everything else is refused; so is what there is not."""
    held = Call(live.server._interceptor, Operation("GRPC", "Held", FOR_ANYONE), "", str, "")
    assert set(NEVER_REFUSED) == {
        operation.name
        for operation in [*live.methods._operations.values(), *(route.operation for route in live.routes)]
        if not operation.counts
    }
    # Log lines of `held` and of what it holds up do not matter here.
    with held:
        for path in live.methods.by_path:
            refused = live.ask(path) == "RESOURCE_EXHAUSTED"
            assert refused != (path.rpartition("/")[2] in NEVER_REFUSED), path
        for name, (method, path) in REQUESTS.items():
            refused = live.rest.request(method, path).status_code == 429
            assert refused != (name in NEVER_REFUSED), path
    assert live.ask(services.HANDLE_RELOAD_CONFIG_REQUEST.path) == "INVALID_ARGUMENT"


def test_every_call_gives_its_place_back(live: Ports) -> None:
    """However it ends: answered, wrong, never whole, too long, given up. Of one place, none may be lost."""
    interceptor = live.server._interceptor
    for path in sorted({*live.methods.by_path, UNKNOWN}):
        for data in (b"", b"\x0a\x05a", None, bytes(1001)):
            refused = live.ask(path, data) == "RESOURCE_EXHAUSTED"
            assert refused == (data == bytes(1001) and path != UNKNOWN), (path, data)
            wait_until(lambda: interceptor._under_way == 0)
        live.ask(path, timeout=0.0001)
        wait_until(lambda: interceptor._under_way == 0)
    for method, path in REQUESTS.values():
        for content in (b"", b"{", b"not gzip", bytes(1001)):
            headers = {"content-encoding": "gzip"} if content == b"not gzip" else {}
            status = live.rest.request(method, path, content=content, headers=headers).status_code
            assert status != 429 or content == bytes(1001), (path, content)
            wait_until(lambda: interceptor._under_way == 0)


@pytest.mark.parametrize("path", [services.PREDICT.path, "/grpc.health.v1.Health/Watch", UNKNOWN])
def test_calls_that_never_reach_their_method(live: Ports, path: str) -> None:
    """A message that is too long is noted with the status that its client gets."""
    assert live.ask(path, bytes(1001)) == ("UNIMPLEMENTED" if path == UNKNOWN else "RESOURCE_EXHAUSTED")
    line = live.line()
    assert (line["path"], line["code"]) == (path, "UNIMPLEMENTED" if path == UNKNOWN else "RESOURCE_EXHAUSTED")


def test_calls_without_a_message(live: Ports) -> None:
    """They are noted too."""
    assert live.ask(services.PREDICT.path, None) == "UNIMPLEMENTED"
    assert live.line()["code"] == "UNIMPLEMENTED"


def test_messages_that_are_none(live: Ports) -> None:
    """Whatever the service, its request is decoded in one place, with one answer."""
    for path in live.methods.by_path:
        # A length-delimited field that ends too early.
        assert live.ask(path, b"\x0a\x05a") == "INVALID_ARGUMENT", path
        assert live.line()["code"] == "INVALID_ARGUMENT"


def test_a_body_that_is_too_long(live: Ports) -> None:
    """It is noted under its model, whose name is in the path."""
    assert live.rest.post("/v1/models/m:predict", content=bytes(1001)).status_code == 429
    line = live.line()
    assert (line["model"], line["code"]) == ("m", "RESOURCE_EXHAUSTED")


def test_a_stream_that_ends_at_its_deadline(live: Ports) -> None:
    """It is noted when it ends, with DEADLINE_EXCEEDED."""
    host, _, port = live.address.rpartition(":")
    with SocketPipe((host, int(port))) as pipe:
        peer = Peer(pipe)
        peer.send(call(1, b"", "/grpc.health.v1.Health/Watch", grpc_timeout="200m"))
        assert peer.answer(1).status == Code.DEADLINE_EXCEEDED
    assert live.line()["code"] == "DEADLINE_EXCEEDED"


@pytest.mark.parametrize(
    ("error", "leaves", "code"),
    [
        (InvalidArgument("no"), InvalidArgument, Code.INVALID_ARGUMENT),
        (KeyError("no"), Exception, Code.INTERNAL),
        (KeyboardInterrupt(), KeyboardInterrupt, Code.CANCELLED),
    ],
    ids=["of the request", "unforeseen", "cancelled"],
)
def test_the_code_of_an_error(error: BaseException, leaves: type[BaseException], code: Code) -> None:
    """Its own, INTERNAL for one that nobody foresaw, CANCELLED for what is no error of the call's."""
    calls: list[Code] = []
    interceptor = Interceptor(list, access_log=lambda call: calls.append(call.code))

    with pytest.raises(leaves), Call(interceptor, Operation("GRPC", "X", FOR_ANYONE), "/s/X", str, ""):
        raise error

    assert calls == [code]


class Keeper:
    """A sampler that keeps something of every request to some models."""

    def __init__(self, *models: str) -> None:
        self._models = models
        self.kept: list[Sample] = []
        self.ended = 0

    def sample(self, model: str) -> Sample | None:
        """A new one, which is noted."""
        if model not in self._models:
            return None
        self.kept.append(Sample(Spare(Budget(0, lambda: 0.0), 0), model))
        return self.kept[-1]

    def end(self, sample: Sample, origin: Origin | None, seconds: float) -> None:
        """It is one that was made here, of a request that was answered just now."""
        assert sample in self.kept
        assert origin is not None
        assert 0 <= seconds < 60
        self.ended += 1


@pytest.mark.parametrize(("model", "counts"), [("a", [1, 0, 0]), ("b", [1, 1, 0]), ("c", [0, 0, 0])])
def test_what_is_kept_of_a_call_goes_to_each_who_wants_it(model: str, counts: list[int]) -> None:
    """To one as it is, to several by one that passes on what it is told, to nobody where nobody does."""
    keepers = [Keeper("a", "b"), Keeper("b"), Keeper()]
    with Call(Interceptor(list, samplers=keepers), Operation("GRPC", "X", FOR_ANYONE), "", str, "") as call:
        sample = call.sample(model)
        if sample is not None:
            sample.ask("PredictRequest", b"head", 0, list)
    asked = [[sample.request for sample in keeper.kept] for keeper in keepers]
    assert asked == [[("PredictRequest", b"head")] * count for count in counts]
    assert [keeper.ended for keeper in keepers] == counts


def test_the_limit() -> None:
    """It counts calls from their begin to their end, however they end; a refused one is noted and does not count."""
    calls: list[Code] = []
    interceptor = Interceptor(list, max_concurrent=1, access_log=lambda call: calls.append(call.code))
    counted, free = Operation("GRPC", "X", FOR_ANYONE), Operation("GRPC", "Y", FOR_ANYONE, counts=False)

    def run(inner: Operation) -> None:
        with Call(interceptor, counted, "", str, ""):
            with Call(interceptor, inner, "", str, ""):
                pass
            raise InvalidArgument("no")

    for _ in range(2):
        with pytest.raises(ResourceExhausted) as raised:
            run(counted)
        assert str(raised.value) == (
            "1 requests are under way, as many as --max_concurrent_requests lets in: try again"
        )
        with pytest.raises(InvalidArgument):
            run(free)

    assert calls == [Code.RESOURCE_EXHAUSTED, Code.RESOURCE_EXHAUSTED, Code.OK, Code.INVALID_ARGUMENT] * 2


@pytest.mark.parametrize("own", ["mine", "x" * 128])
def test_a_clients_own_request_id_is_kept(own: str) -> None:
    """As it is."""
    assert Call(Interceptor(list), Operation("GRPC", "X", FOR_ANYONE), "", str, own).request_id == own


@pytest.mark.parametrize("own", ["", "x" * 129, "a\nb", "\u00fc"])
def test_what_is_no_request_id_is_replaced(own: str) -> None:
    """By one of this server's own, which stays the call's."""
    interceptor = Interceptor(list)
    one, other = (Call(interceptor, Operation("GRPC", "X", FOR_ANYONE), "", str, own) for _ in range(2))

    assert own not in {one.request_id, other.request_id}
    assert one.request_id == one.request_id != other.request_id
    (life, number), (same_life, next_number) = (each.request_id.split("-") for each in (one, other))
    assert re.fullmatch("[0-9a-f]{12}", life)
    assert (same_life, int(next_number, 16)) == (life, int(number, 16) + 1)


def test_a_probe_is_answered_when_every_byte_of_the_budget_is_taken() -> None:
    """What it takes itself is given back."""
    budget = Budget(10, time.monotonic)
    interceptor = Interceptor(list, budget=budget)
    budget.charge(10)
    with (
        pytest.raises(ResourceExhausted),
        Call(interceptor, Operation("GRPC", "Predict", FOR_ANYONE), "", str, "", size=1),
    ):
        pytest.fail("it was let in")
    with Call(interceptor, Operation("GRPC", "Check", FOR_ANYONE, counts=False), "", str, "", size=1):
        assert budget.used == 11
    assert budget.used == 10


def test_an_unforeseen_error_is_told_to_the_client_and_to_the_log(caplog: pytest.LogCaptureFixture) -> None:
    """With its type and text; the log has its traceback too."""
    error = KeyError("no")
    operation = Operation("GRPC", "X", FOR_ANYONE)
    with pytest.raises(Internal) as raised, Call(Interceptor(list), operation, "/s/X", str, ""):
        raise error
    assert (str(raised.value), raised.value.__cause__) == ("KeyError: 'no'", error)
    (record,) = caplog.records
    assert (record.levelno, record.getMessage()) == (logging.ERROR, "unforeseen error in /s/X")
    assert record.exc_info
    assert record.exc_info[1] is error


def test_a_call_that_its_port_has_ended_keeps_its_code() -> None:
    """As one whose deadline has passed; without one it was given up."""
    call = Call(Interceptor(list), Operation("GRPC", "X", FOR_ANYONE), "", str, "")
    call.code = Code.DEADLINE_EXCEEDED
    with pytest.raises(KeyboardInterrupt), call:
        raise KeyboardInterrupt
    assert call.code == Code.DEADLINE_EXCEEDED


def test_a_call_pays_for_its_bytes_until_it_ends() -> None:
    """Those of its request, and what it asks for besides; it may give some back, or all."""
    budget = Budget(100, time.monotonic)
    call = Call(Interceptor(list, budget=budget), Operation("GRPC", "X", FOR_ANYONE), "", str, "", size=10)
    with call:
        assert (call.size, budget.used) == (10, 10)
        call.charge(30)
        assert (call.size, budget.used) == (40, 40)
        call.refund(5)
        assert (call.size, budget.used) == (35, 35)
        with pytest.raises(ResourceExhausted):
            call.charge(66)
        assert (call.size, budget.used) == (35, 35)
        call.give_back()
        assert (call.size, budget.used) == (0, 0)
        call.charge(7)
    assert (call.size, budget.used) == (0, 0)


def test_what_is_counted_of_a_call() -> None:
    """Its code and its time under its model's name, where TF Serving counts its method; other names are made up."""
    metrics = Metrics()
    interceptor = Interceptor(lambda: ["m"], metrics=metrics, max_concurrent=1)
    predict = Operation("GRPC", "Predict", FOR_ANYONE, measured=True)
    for operation, model in ((predict, "m"), (predict, "none"), (Operation("REST", "Health", FOR_ANYONE), "m")):
        with Call(interceptor, operation, "", str, "") as call:
            call.model = model
            call.code = Code.NOT_FOUND if model == "none" else Code.OK
            if model == "m" and operation is predict:
                with pytest.raises(ResourceExhausted), Call(interceptor, predict, "", str, ""):
                    pytest.fail("it was let in")
    text = metrics.exposition().decode()
    assert sorted(re.findall(r"^:tensorflow:serving:request_(?:count|latency_count)(.*)$", text, re.MULTILINE)) == [
        '{API="Predict",entrypoint="GRPC",model_name="m"} 1.0',
        '{API="Predict",entrypoint="GRPC",model_name="unknown"} 2.0',
        '{model_name="m",status="OK"} 1.0',
        '{model_name="unknown",status="NOT_FOUND"} 1.0',
        '{model_name="unknown",status="RESOURCE_EXHAUSTED"} 1.0',
    ]

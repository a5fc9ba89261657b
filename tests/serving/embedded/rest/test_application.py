"""What becomes of a request's body before its route sees it: unpacked, charged, or refused."""

from __future__ import annotations

import asyncio
import gzip
import random
import re
from collections.abc import Iterator
from typing import cast

import pytest

from fashion_common.tokens import OWN_LINE_VARIABLE, entry
from serving.apis.status import Code
from serving.embedded.access.callers import Access
from serving.embedded.access.tokens import FOR_ANYONE, FOR_READ, Tokens
from serving.embedded.admission.budget import Budget
from serving.embedded.limits import Limits
from serving.embedded.observe.calls import Call, Interceptor, Operation
from serving.embedded.offload import Offload
from serving.embedded.rest.application import RestApplication
from serving.embedded.rest.messages import Answer, HttpRequest, Refusal
from serving.embedded.rest.routes import Handler, Reply, Request, Route
from serving.errors import NotFound
from tests.support.http1_server import Port, request
from tests.support.http2_server import SimulatedLoop, simulated_loop

NOISE = random.Random(0).randbytes(2000)
LIMITS = Limits(max_unpacked_bytes=2000, max_unpack_ratio=10, max_free_unpack_bytes=100, max_bytes_in_flight=5000)


@pytest.fixture
def loop() -> Iterator[SimulatedLoop]:
    """A loop that fails the test when anything in it raised."""
    with simulated_loop() as loop:
        yield loop


def answer(loop: SimulatedLoop, body: bytes, limits: Limits = LIMITS) -> tuple[bytes, list[Code]]:
    """What a body that was sent as gzip is answered with, and the codes of the calls; nothing is held after it."""
    port = Port(loop, limits)
    data = port.connect().ask(request("/echo", body, "Content-Encoding: GZIP"))
    assert port.admission.budget.used == 0
    return data, [code for _, code in port.calls]


def test_a_body_is_unpacked_up_to_a_limit(loop: SimulatedLoop) -> None:
    """The last byte fits, one more does not."""
    data, codes = answer(loop, gzip.compress(NOISE))
    assert data.endswith(b"POST " + NOISE)
    assert codes == [Code.OK]
    data, codes = answer(loop, gzip.compress(NOISE + b"x"))
    assert b"429" in data
    assert b'larger than 2000 bytes when unpacked"' in data
    assert codes == [Code.RESOURCE_EXHAUSTED]


def test_a_body_may_not_become_much_larger_than_it_was_sent(loop: SimulatedLoop) -> None:
    """But for small ones, whose bytes are few either way."""
    data, _ = answer(loop, gzip.compress(bytes(100)))
    assert data.endswith(b"POST " + bytes(100))
    data, codes = answer(loop, gzip.compress(bytes(1900)))
    assert b"bytes when unpacked, more than 10 times what was sent" in data
    assert codes == [Code.RESOURCE_EXHAUSTED]


def test_what_a_body_unfolds_to_is_charged(loop: SimulatedLoop) -> None:
    """Beyond the budget it is refused."""
    data, codes = answer(loop, gzip.compress(NOISE), LIMITS._replace(max_bytes_in_flight=3500))
    assert b"--max_bytes_in_flight is 3500" in data
    assert codes == [Code.RESOURCE_EXHAUSTED]


@pytest.mark.parametrize("body", [b"", b"no gzip", gzip.compress(NOISE)[:-1]], ids=["nothing", "none", "cut short"])
def test_what_is_no_whole_gzip_is_refused(loop: SimulatedLoop, body: bytes) -> None:
    """As a wrong request."""
    data, codes = answer(loop, body)
    assert b"400 Bad Request" in data
    assert codes == [Code.INVALID_ARGUMENT]


class Paths:
    """The paths of a route. looked_at: those that were held against it."""

    def __init__(self) -> None:
        self.looked_at: list[str] = []
        self._pattern = re.compile(r"/v1/models/(?P<model>[^/]+)", re.IGNORECASE)

    def fullmatch(self, path: str) -> re.Match[str] | None:
        """As a pattern's."""
        self.looked_at.append(path)
        return self._pattern.fullmatch(path)


class Application:
    """A REST application with two routes, and the calls that its log was told of.

    /v1/models/NAME is answered by `handler`, to POST and GET; whatever else is not found.
    """

    def __init__(
        self,
        handler: Handler,
        *,
        cors: bool = False,
        access: Access | None = None,
        limits: Limits = Limits(),  # noqa: B008 - a constant
        max_concurrent: int = 0,
        budget: int = 0,
    ) -> None:
        async def not_found(_: Request) -> Reply:
            return Reply(b"nothing", Code.NOT_FOUND, 404, b"text/plain")

        self.calls: list[Call] = []
        interceptor = Interceptor(
            list,
            access_log=self.calls.append,
            max_concurrent=max_concurrent,
            budget=Budget(budget, lambda: 0.0),
        )
        self.paths = Paths()
        routes = [
            Route(Operation("REST", "Model", FOR_READ), {"POST", "GET"}, cast("re.Pattern[str]", self.paths), handler),
            Route(Operation("REST", "NotFound", FOR_ANYONE), (), re.compile(".*"), not_found),
        ]
        self.rest = RestApplication(interceptor, routes, limits, Offload(), cors=cors, access=access)

    def ask(
        self, target: str = "/v1/models/m", body: bytes = b"", method: str = "POST", **headers: bytes
    ) -> tuple[Answer, Call]:
        """The answer to a request of a peer, and the one call that it was."""
        names = {name.replace("_", "-").encode(): value for name, value in headers.items()}
        request = HttpRequest(method, target, names, body, True, False, caller="me")
        return asyncio.run(self.rest.answer(request, lambda: "peer:1")), self.calls.pop()


async def ok(request: Request) -> Reply:
    """The body and the model's name."""
    return Reply(bytes(request.http.take_body()) + b" for " + request.model.encode())


async def fails(_: Request) -> Reply:
    """An error that quotes what is no text."""
    raise NotFound('no "\udc80"')


def test_an_answer_has_its_request_id_and_what_browsers_need() -> None:
    """The client's own id, where it has one; CORS where it is asked for, with tokens' header where there are tokens."""
    answer, call = Application(ok).ask(body=b"abc", x_request_id=b"mine")
    assert answer == Answer(200, b"abc for m", b"application/json", b"x-request-id: mine\r\n")
    assert (call.operation.name, call.model, call.path, call.peer(), call.caller, call.code) == (
        "Model", "m", "/v1/models/m", "peer:1", "me", Code.OK,
    )  # fmt: skip
    answer, call = Application(ok, cors=True).ask()
    cors = "access-control-allow-origin: *\r\naccess-control-allow-methods: POST, GET\r\naccess-control-allow-headers: "
    assert answer.headers.decode() == f"x-request-id: {call.request_id}\r\n{cors}Content-Type\r\n"
    answer, call = Application(ok, cors=True, access=Access(None, None)).ask()
    assert answer.headers.decode() == f"x-request-id: {call.request_id}\r\n{cors}Content-Type, Authorization\r\n"


def test_an_error_is_answered_in_tf_servings_form_with_its_trace() -> None:
    """What cannot be sent as it is, is replaced."""
    answer, call = Application(fails).ask(x_request_id=b"mine")
    assert answer == Answer(
        404,
        b'{\n    "error": "no \\"?\\""\n}',
        b"application/json",
        b"x-request-id: mine\r\ntraceresponse: %s\r\n" % call.trace.traceparent.encode(),
    )
    assert call.code == Code.NOT_FOUND


def test_an_answer_that_stands_for_an_error_has_its_trace_too() -> None:
    """Its handler says which code; a header of the handler's own stands before."""

    async def unready(request: Request) -> Reply:
        request.call.header = b"x-own", b"value"
        return Reply(b"not now", Code.UNAVAILABLE, 503, b"text/plain")

    answer, call = Application(unready).ask(x_request_id=b"mine")
    headers = b"x-request-id: mine\r\nx-own: value\r\ntraceresponse: %s\r\n" % call.trace.traceparent.encode()
    assert answer == Answer(503, b"not now", b"text/plain", headers)
    assert call.code == Code.UNAVAILABLE


def test_the_first_route_that_takes_a_method_and_a_path_answers() -> None:
    """However often it is asked; names may be escaped."""
    application = Application(ok)
    for _ in range(2):
        assert application.ask("/V1/models/%C3%A4%20b")[0].body == " for ä b".encode()
        assert application.ask("/v1/models/%FF")[0].body == " for \ufffd".encode()
        assert application.ask("/v1/models/m", method="GET")[0].status == 200
        assert application.ask("/v1/models/m", method="PUT")[0].status == 404
        answer, call = application.ask("/v1/models/m/more")
        assert (answer.status, answer.body, call.operation.name, call.model) == (404, b"nothing", "NotFound", "")


def test_what_a_path_is_held_against_is_known_the_next_time() -> None:
    """Of the first 256 paths that are not longer than 256 bytes: clients make them up."""
    application = Application(ok)
    longest, too_long = ("/v1/models/" + "m" * (size - len("/v1/models/")) for size in (256, 257))
    for _ in range(2):
        for path in (longest, too_long):
            assert application.ask(path, b"x")[0].body == b"x for " + path[len("/v1/models/") :].encode()
    assert application.paths.looked_at == [longest, too_long, too_long]
    paths = [f"/v1/models/m{number}" for number in range(256)]
    for _ in range(2):
        for path in paths:
            assert application.ask(path, b"x")[0].body == f"x for {path[len('/v1/models/') :]}".encode()
    assert application.paths.looked_at[3:] == [*paths, paths[-1]]


def test_a_request_holds_its_bytes_while_it_is_answered() -> None:
    """As many as its body has."""
    held: list[int] = []

    async def note(request: Request) -> Reply:
        held.append(request.call.size)
        return Reply(b"")

    application = Application(note)
    application.ask(body=b"abc")
    application.ask(body=gzip.compress(bytes(1000)), content_encoding=b"gzip")
    assert held == [3, len(gzip.compress(bytes(1000))) + 1000]


@pytest.mark.parametrize("coding", [None, b"identity", b"br"])
def test_a_body_that_is_not_said_to_be_gzip_is_left_as_it_is(coding: bytes | None) -> None:
    """Though it is one."""
    body = gzip.compress(b"abc")
    application = Application(ok)
    answer, _ = application.ask(body=body) if coding is None else application.ask(body=body, content_encoding=coding)
    assert answer.body == body + b" for m"


def test_the_limits_of_unpacked_bodies_are_to_the_byte() -> None:
    """Ten times what was sent or 100 bytes, whichever is more, and never more than 2000; the text says which it was."""
    application = Application(ok, limits=LIMITS)

    def told(data: bytes) -> str:
        return application.ask(body=gzip.compress(data, mtime=0), content_encoding=b"gzip")[0].body.decode()

    ratio = 10 * len(gzip.compress(bytes(250), mtime=0))
    assert 100 < ratio < 2000
    assert len(gzip.compress(bytes(ratio), mtime=0)) * 10 == ratio
    assert told(bytes(ratio)) == "\0" * ratio + " for m"
    reason = "when unpacked, more than 10 times what was sent"
    assert told(bytes(ratio + 1)) == f'{{\n    "error": "The request body is larger than {ratio} bytes {reason}"\n}}'
    free = Application(ok, limits=LIMITS._replace(max_free_unpack_bytes=1500))
    assert free.ask(body=gzip.compress(bytes(1500)), content_encoding=b"gzip")[0].status == 200
    assert b"larger than 1500 bytes" in free.ask(body=gzip.compress(bytes(1501)), content_encoding=b"gzip")[0].body


def test_a_large_body_is_unpacked_in_pieces_away_from_the_event_loop() -> None:
    """The first piece at once where what was sent is small; each is charged as it comes."""
    application = Application(ok, limits=Limits(max_unpacked_bytes=10 * 2**20, max_unpack_ratio=10_000))
    data = bytes(9 * 2**20)
    answer, _ = application.ask(body=gzip.compress(data), content_encoding=b"x-gzip")
    assert answer.body == data + b" for m"


def test_no_more_is_unpacked_than_tells_that_it_is_too_much() -> None:
    """One byte beyond the limit, whatever the body would become."""
    limit = 2 * 2**20
    application = Application(
        ok,
        limits=Limits(max_unpacked_bytes=limit, max_unpack_ratio=10_000),
        budget=round((limit + 2**17) / 0.9),
    )
    answer, _ = application.ask(body=gzip.compress(bytes(9 * 2**20)), content_encoding=b"gzip")
    assert b"The request body is larger than 2097152 bytes when unpacked" in answer.body


def test_an_answer_belongs_to_its_callers_trace() -> None:
    """As the request's headers say."""
    answer, _ = Application(fails).ask(traceparent=b"00-%s-%s-01" % (b"a" * 32, b"b" * 16))
    assert b"traceresponse: 00-%s-" % (b"a" * 32) in answer.headers


def test_a_refusal_is_noted_under_its_route_as_far_as_that_is_known() -> None:
    """With who asked, and how to do better."""
    application = Application(ok, cors=True)
    refusal = Refusal(401, "who?", "me", "Bearer")
    refusal.method, refusal.target = "POST", "/v1/models/%6d"
    answer = application.rest.refuse(refusal, lambda: "peer:1")
    call = application.calls.pop()
    cors = b"access-control-allow-origin: *\r\naccess-control-allow-methods: POST, GET\r\n"
    headers = b"x-request-id: %s\r\n%saccess-control-allow-headers: Content-Type\r\n" % (call.request_id.encode(), cors)
    trace = call.trace.traceparent.encode()
    assert answer == Answer(
        401,
        b'{\n    "error": "who?"\n}',
        b"application/json",
        headers + b"www-authenticate: Bearer\r\ntraceresponse: %s\r\n" % trace,
    )
    assert (call.operation.name, call.model, call.path, call.peer(), call.caller, call.code, call.size) == (
        "Model", "m", "/v1/models/%6d", "peer:1", "me", Code.UNAUTHENTICATED, 0,
    )  # fmt: skip
    answer = application.rest.refuse(Refusal(408, "too slow"), lambda: "peer:1")
    call = application.calls.pop()
    assert (answer.status, b"www-authenticate" in answer.headers) == (408, False)
    assert (call.operation.name, call.model, call.path, call.caller, call.code) == (
        "Refused", "", "", "", Code.INVALID_ARGUMENT,
    )  # fmt: skip


def test_a_refusal_while_as_many_calls_as_may_be_are_under_way_says_its_own_reason() -> None:
    """It takes no place among them."""
    refusal = Refusal(401, "who?", "me")
    refusal.method, refusal.target = "POST", "/v1/models/m"
    refusals: list[Answer] = []

    async def refuse(_: Request) -> Reply:
        refusals.append(application.rest.refuse(refusal, lambda: "peer:2"))
        refusals.append(application.rest.refuse(Refusal(400, "what?"), lambda: "peer:2"))
        return Reply(b"")

    application = Application(refuse, max_concurrent=1)
    assert application.ask()[0].status == 200
    assert [answer.status for answer in refusals] == [401, 400]


def test_who_may_ask_is_told_by_the_route_and_the_headers(monkeypatch: pytest.MonkeyPatch) -> None:
    """Without access everybody may; with it, the name of who asks, or why not."""
    assert Application(ok).rest.admit("POST", "/v1/models/m", {}, False) == ""
    monkeypatch.setenv(OWN_LINE_VARIABLE, entry("reader", "secret", ["read"]).line)
    application = Application(ok, access=Access(Tokens(""), None))
    headers = {b"authorization": b"Bearer secret"}
    assert application.rest.admit("POST", "/v1/models/m", headers, False) == "reader"
    assert application.rest.admit("POST", "/elsewhere", {}, False) == ""
    with pytest.raises(Refusal) as raised:
        application.rest.admit("POST", "/v1/models/m", {}, False)
    text = "The request has no token: send the header authorization: Bearer TOKEN"
    refusal = raised.value
    assert (refusal.status, str(refusal), refusal.caller, refusal.challenge) == (401, text, "", "Bearer")
    monkeypatch.setenv(OWN_LINE_VARIABLE, entry("other", "secret", ["predict"]).line)
    application = Application(ok, access=Access(Tokens(""), None))
    with pytest.raises(Refusal) as raised:
        application.rest.admit("POST", "/v1/models/m", headers, False)
    assert (raised.value.status, raised.value.caller) == (403, "other")

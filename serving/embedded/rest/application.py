"""The REST front end: a request's route, its way through the interceptor, its body unpacked, the answer."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from urllib.parse import unquote

from fashion_common.trace_context import TRACERESPONSE
from serving.apis.status import Code
from serving.embedded.access.callers import Access
from serving.embedded.access.tokens import FOR_ANYONE
from serving.embedded.limits import Limits
from serving.embedded.observe.calls import REQUEST_ID_HEADER, Call, Interceptor, Operation
from serving.embedded.offload import LARGE_BYTES, Offload
from serving.embedded.rest.gzip import Gzip
from serving.embedded.rest.json import values
from serving.embedded.rest.messages import Answer, HttpRequest, Refusal
from serving.embedded.rest.routes import Reply, Request, Route
from serving.errors import ResourceExhausted, ServingError

_REQUEST_ID = REQUEST_ID_HEADER.encode()
_REQUEST_ID_LINE = _REQUEST_ID + b": %s\r\n%s"
_TRACERESPONSE_LINE = TRACERESPONSE.encode() + b": %s\r\n"
_CORS = (
    b"access-control-allow-origin: *\r\naccess-control-allow-methods: POST, GET\r\n"
    b"access-control-allow-headers: Content-Type\r\n"
)
_CORS_WITH_TOKENS = _CORS.replace(b": Content-Type", b": Content-Type, Authorization")
# Paths are few, but clients make them up.
_MAX_KNOWN_PATHS = 256
_MAX_KNOWN_PATH_BYTES = 256
# What is unpacked at a time.
_PIECE_BYTES = 2**22
_REFUSED = Operation("REST", "Refused", FOR_ANYONE, counts=False)

Peer = Callable[[], str]


class RestApplication:
    """Answers HTTP requests by a table whose last route matches any.

    cors: whether answers carry CORS headers. access: who may ask; None for everybody.
    """

    def __init__(
        self,
        interceptor: Interceptor,
        routes: Sequence[Route],
        limits: Limits,
        offload: Offload,
        *,
        cors: bool,
        access: Access | None = None,
    ) -> None:
        self._interceptor = interceptor
        self._routes = routes
        self._limits = limits
        self._offload = offload
        self._cors = (_CORS if access is None else _CORS_WITH_TOKENS) if cors else b""
        self._access = access
        self._known: dict[tuple[str, str], tuple[Route, re.Match[str], str]] = {}

    def admit(self, method: str, target: str, headers: Mapping[bytes, bytes], certified: bool) -> str:
        """The name of who asks, by the headers, and whether there is a client's certificate.

        Raises Refusal for who may not.
        """
        if self._access is None:
            return ""
        route, _, _ = self._route(method, target)
        caller, error, challenge = self._access.verdict(route.operation.scopes, headers, certified=certified)
        if error is not None:
            raise Refusal(error.code.http_status, str(error), caller, challenge)
        return caller

    async def answer(self, request: HttpRequest, peer: Peer) -> Answer:
        """The answer to a request of a peer."""
        headers = request.headers
        own_id = headers[_REQUEST_ID].decode("latin-1") if _REQUEST_ID in headers else ""
        route, match, model = self._route(request.method, request.target)
        size = len(request.body)
        call = Call(
            self._interceptor,
            route.operation,
            request.target,
            peer,
            own_id,
            size=size,
            metadata=headers,
            caller=request.caller,
        )
        call.model = model
        try:
            with call:
                if b"content-encoding" in headers and b"gzip" in headers[b"content-encoding"].lower():
                    request.body = await self._unpacked(request.take_body(), call)
                reply = await route.handler(Request(request, match, model, call))
                call.code = reply.code
        except ServingError as error:
            reply = _error_reply(error, error.code.http_status)
        return self._answer(reply, call)

    def refuse(self, refusal: Refusal, peer: Peer) -> Answer:
        """Takes note of a refusal, and gives its answer."""
        operation, model = _REFUSED, ""
        if refusal.method:
            route, _, model = self._route(refusal.method, refusal.target)
            # It is noted whatever else is under way.
            operation = route.operation._replace(counts=False)
        call = Call(self._interceptor, operation, refusal.target, peer, "", caller=refusal.caller)
        call.model = model
        with call:
            call.code = refusal.code
        if refusal.challenge:
            call.header = b"www-authenticate", refusal.challenge.encode()
        return self._answer(_error_reply(refusal, refusal.status), call)

    def _answer(self, reply: Reply, call: Call) -> Answer:
        headers = _REQUEST_ID_LINE % (call.request_id.encode("latin-1"), self._cors)
        if call.header:
            headers += b"%s: %s\r\n" % call.header
        if reply.code != Code.OK:
            headers += _TRACERESPONSE_LINE % call.trace.traceparent.encode()
        return Answer(reply.status, reply.body, reply.content_type, headers)

    def _route(self, method: str, path: str) -> tuple[Route, re.Match[str], str]:
        """The route of a request, its match, and the name of the model that it asks for."""
        known = self._known.get((method, path))
        if known is not None:
            return known
        for route in self._routes:
            if (not route.methods or method in route.methods) and (match := route.path.fullmatch(path)):
                model = unquote(match.groupdict().get("model", ""))
                if len(self._known) < _MAX_KNOWN_PATHS and len(path) <= _MAX_KNOWN_PATH_BYTES:
                    self._known[method, path] = route, match, model
                return route, match, model
        raise AssertionError(f"the table has no route for {method} {path}")

    async def _unpacked(self, packed: bytes | bytearray, call: Call) -> bytearray:
        """A body that was sent as gzip. Raises ServingError."""
        limits = self._limits
        by_ratio = max(limits.max_free_unpack_bytes, limits.max_unpack_ratio * len(packed))
        limit = min(limits.max_unpacked_bytes, by_ratio)
        gzip, body, step = Gzip(packed), bytearray(), LARGE_BYTES
        while not gzip.is_done:
            # The first piece at once where it is small.
            size = min(step, limit + 1 - len(body))
            piece = await self._offload.run(max(step, len(packed)), partial(gzip.unpack, size))
            call.charge(len(piece))
            body += piece
            step = _PIECE_BYTES
            if len(body) > limit:
                reason = f", more than {limits.max_unpack_ratio} times what was sent" if limit == by_ratio else ""
                raise ResourceExhausted(f"The request body is larger than {limit} bytes when unpacked{reason}")
        return body


def _error_reply(error: ServingError | Refusal, status: int) -> Reply:
    body = f'{{\n    "error": {values.quoted(str(error))}\n}}'.encode("utf-8", "replace")
    return Reply(body, error.code, status)

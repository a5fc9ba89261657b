"""The REST front end as an ASGI application: a request's route and body, its way through the interceptor, the reply."""

from __future__ import annotations

import asyncio
import re
import zlib
from collections.abc import Awaitable, Callable, Mapping, Sequence
from typing import Any
from urllib.parse import unquote

from serving.embedded.limits import Limits
from serving.embedded.observe.calls import REQUEST_ID_HEADER, Call, Interceptor
from serving.embedded.rest.json import values
from serving.embedded.rest.routes import Reply, Request, Route
from serving.errors import InvalidArgument, ResourceExhausted, ServingError

_REQUEST_ID = REQUEST_ID_HEADER.encode()
_CORS = (
    (b"access-control-allow-origin", b"*"),
    (b"access-control-allow-methods", b"POST, GET"),
    (b"access-control-allow-headers", b"Content-Type"),
)

# ASGI's own types are mappings of anything: https://asgi.readthedocs.io/en/latest/specs/main.html
Scope = Mapping[str, Any]
Receive = Callable[[], Awaitable[Mapping[str, Any]]]
Send = Callable[[dict[str, Any]], Awaitable[None]]


class RestApplication:
    """Answers HTTP requests by a table whose last route matches any. cors: whether answers carry CORS headers."""

    def __init__(self, interceptor: Interceptor, routes: Sequence[Route], limits: Limits, *, cors: bool) -> None:
        self._interceptor = interceptor
        self._routes = routes
        self._limits = limits
        self._cors = _CORS if cors else ()

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """One HTTP request, as ASGI has it."""
        if scope["type"] != "http":
            return
        headers = dict(scope["headers"])
        own_id = headers.get(_REQUEST_ID, b"").decode("latin-1")
        method, path = scope["method"], _path(scope)
        route, match = self._route(method, path)

        def peer() -> str:
            return ":".join(map(str, scope["client"] or ()))

        call = Call(self._interceptor, route.operation, path, peer, own_id)
        call.model = unquote(match.groupdict().get("model", ""), errors="replace")
        try:
            with call:
                # A route that is never refused takes no body.
                body = await self._body(headers, receive) if route.operation.counts else b""
                reply = await route.handler(Request(method, path, match, call.model, body))
                call.code = reply.code
        except ServingError as error:
            body = f'{{\n    "error": {values.quoted(str(error))}\n}}'.encode("utf-8", "replace")
            reply = Reply(body, error.code, error.code.http_status)
        reply_headers = [
            (b"content-type", reply.content_type),
            (b"content-length", str(len(reply.body)).encode()),
            (_REQUEST_ID, call.request_id.encode("latin-1")),
            *self._cors,
        ]
        await send({"type": "http.response.start", "status": reply.status, "headers": reply_headers})
        await send({"type": "http.response.body", "body": reply.body})

    def _route(self, method: str, path: str) -> tuple[Route, re.Match[str]]:
        for route in self._routes:
            if (not route.methods or method in route.methods) and (match := route.path.fullmatch(path)):
                return route, match
        raise AssertionError(f"the table has no route for {method} {path}")

    async def _body(self, headers: Mapping[bytes, bytes], receive: Receive) -> bytes:
        """The whole body, unpacked. Raises ServingError; CancelledError when the client goes away before its end."""
        limit = self._limits.max_body_bytes
        length = headers.get(b"content-length", b"0")
        announced = int(length) if length.isdigit() else 0
        pieces: list[bytes] = []
        size, more = 0, True
        while more and max(size, announced) <= limit:
            message = await receive()
            if message["type"] == "http.disconnect":
                raise asyncio.CancelledError
            pieces.append(message.get("body", b""))
            size += len(pieces[-1])
            more = message.get("more_body", False)
        if max(size, announced) > limit:
            raise ResourceExhausted(f"The request body is larger than {limit} bytes, the server's --max_request_bytes")
        body = b"".join(pieces)
        is_packed = b"gzip" in headers.get(b"content-encoding", b"").lower()
        return _unpacked(body, self._limits.max_unpacked_bytes) if is_packed else body


def _path(scope: Scope) -> str:
    """The path as it was sent: TF Serving takes a query string for a part of it."""
    path: str = scope["raw_path"].decode("latin-1")
    return f"{path}?{scope['query_string'].decode('latin-1')}" if scope["query_string"] else path


def _unpacked(body: bytes, limit: int) -> bytes:
    unpacker = zlib.decompressobj(wbits=zlib.MAX_WBITS | 16)
    try:
        result = unpacker.decompress(body, limit)
    except zlib.error as error:
        raise InvalidArgument(f"Failed to gunzip the request body: {error}") from error
    if unpacker.unconsumed_tail:
        raise ResourceExhausted(f"The request body is larger than {limit} bytes when unpacked")
    return result

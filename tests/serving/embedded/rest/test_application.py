"""The REST front end without a port: bodies in pieces, compressed, too long, cut short."""

from __future__ import annotations

import asyncio
import gzip
import re
from collections.abc import Mapping
from typing import Any

import pytest

from serving.apis.status import Code
from serving.embedded.limits import Limits
from serving.embedded.observe.calls import Interceptor, Operation
from serving.embedded.rest.application import RestApplication
from serving.embedded.rest.routes import Reply, Request, Route

LIMITS = Limits(max_body_bytes=30, max_unpacked_bytes=40)
BODY = bytes(range(30))
GZIP = {"content-encoding": "GZIP"}


class Exchange:
    """One request to a route that gives the body back, and what became of it."""

    def __init__(
        self,
        *pieces: bytes,
        headers: Mapping[str, str] | None = None,
        codes: list[Code] | None = None,
        cut_short: bool = False,
    ) -> None:
        self.codes = [] if codes is None else codes
        self.status = 0
        self.body = b""
        self._messages: list[dict[str, Any]] = [
            {"type": "http.request", "body": piece, "more_body": True} for piece in pieces
        ]
        if cut_short:
            self._messages.append({"type": "http.disconnect"})
        else:
            self._messages[-1]["more_body"] = False
        scope = {
            "type": "http",
            "method": "POST",
            "raw_path": b"/echo",
            "query_string": b"",
            "headers": [(name.encode(), value.encode()) for name, value in (headers or {}).items()],
            "client": ("127.0.0.1", 50514),
        }
        route = Route(Operation("REST", "Echo"), (), re.compile(".*"), self._echo)
        interceptor = Interceptor(list, access_log=lambda call: self.codes.append(call.code))
        asyncio.run(RestApplication(interceptor, [route], LIMITS, cors=False)(scope, self._receive, self._send))

    async def _echo(self, request: Request) -> Reply:
        return Reply(request.body)

    async def _receive(self) -> dict[str, Any]:
        return self._messages.pop(0)

    async def _send(self, message: dict[str, Any]) -> None:
        self.status = message.get("status", self.status)
        self.body += message.get("body", b"")


@pytest.mark.parametrize("pieces", [(BODY,), (BODY[:9], BODY[9:]), (b"", BODY, b"")], ids=["one", "two", "empty ones"])
def test_a_body_comes_in_any_pieces(pieces: tuple[bytes, ...]) -> None:
    """As long as the limit allows."""
    exchange = Exchange(*pieces)

    assert (exchange.status, exchange.body, exchange.codes) == (200, BODY, [Code.OK])


@pytest.mark.parametrize(
    ("pieces", "headers"),
    [
        ((BODY + b"0",), {}),
        ((BODY, b"0"), {}),
        ((BODY, b"0", b"0"), {}),
        ((b"0",), {"content-length": "31"}),
    ],
    ids=["at once", "the last piece", "a piece before the last", "announced"],
)
def test_a_body_that_is_too_long(pieces: tuple[bytes, ...], headers: dict[str, str]) -> None:
    """429, whether the request says so beforehand or not."""
    exchange = Exchange(*pieces, headers=headers)

    assert (exchange.status, exchange.codes) == (429, [Code.RESOURCE_EXHAUSTED])
    assert b"The request body is larger than 30 bytes, the server's --max_request_bytes" in exchange.body


def test_a_compressed_body() -> None:
    """It is unpacked up to a limit of its own, and refused when it is no gzip."""
    assert Exchange(gzip.compress(bytes(40)), headers=GZIP).body == bytes(40)
    too_long, no_gzip = Exchange(gzip.compress(bytes(41)), headers=GZIP), Exchange(b"not gzip", headers=GZIP)

    assert (too_long.status, too_long.codes) == (429, [Code.RESOURCE_EXHAUSTED])
    assert b"The request body is larger than 40 bytes when unpacked" in too_long.body
    assert (no_gzip.status, no_gzip.codes) == (400, [Code.INVALID_ARGUMENT])


def test_a_client_that_goes_away() -> None:
    """Its call is cancelled, and noted so."""
    codes: list[Code] = []

    with pytest.raises(asyncio.CancelledError):
        Exchange(BODY[:9], codes=codes, cut_short=True)

    assert codes == [Code.CANCELLED]

"""Stands before every request of the page: which site may send it, and what a browser may do with the answer.

Another site can make its name mean this machine (DNS rebinding) and can send forms here: the Host header tells the
first, the Origin header the second (https://developer.mozilla.org/en-US/docs/Web/HTTP/Reference/Headers/Origin).
"""

from __future__ import annotations

import ipaddress
import socket
from collections.abc import Awaitable, Callable, MutableMapping
from typing import Any
from urllib.parse import urlsplit

from starlette.datastructures import Headers, MutableHeaders
from starlette.responses import JSONResponse

_Message = MutableMapping[str, Any]
_Receive = Callable[[], Awaitable[_Message]]
_Send = Callable[[_Message], Awaitable[None]]
Application = Callable[[_Message, _Receive, _Send], Awaitable[None]]

_LOOPBACK = ("localhost", "127.0.0.1", "::1")
_SAFE_METHODS = ("GET", "HEAD")
HEADERS = {
    # Nothing inline, nothing from elsewhere; pictures that the user chose are blobs.
    "Content-Security-Policy": (
        "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' blob:; connect-src 'self'; "
        "base-uri 'none'; form-action 'none'; frame-ancestors 'none'; require-trusted-types-for 'script'"
    ),
    "X-Content-Type-Options": "nosniff",
    "X-Frame-Options": "DENY",
    "Referrer-Policy": "no-referrer",
    "Cross-Origin-Opener-Policy": "same-origin",
    "Cross-Origin-Resource-Policy": "same-origin",
    "Cache-Control": "no-cache",
}


class Guard:
    """An ASGI application in front of another one. host: the address or name that is listened on.

    Answers 403 to a Host that does not name this machine, and to a request of another origin that is no look.
    """

    def __init__(self, application: Application, host: str) -> None:
        self._application = application
        self._host = host

    async def __call__(self, scope: _Message, receive: _Receive, send: _Send) -> None:
        """Refuses the request or passes it on, and adds HEADERS to the answer."""

        async def send_with_headers(message: _Message) -> None:
            if message["type"] == "http.response.start":
                MutableHeaders(scope=message).update(HEADERS)
            await send(message)

        reason = self._refusal(scope["method"], Headers(scope=scope))
        application = JSONResponse({"error": reason}, 403) if reason else self._application
        await application(scope, receive, send_with_headers)

    def _refusal(self, method: str, headers: Headers) -> str:
        """Why a request is not answered; "" for one that is."""
        authority = headers.get("host", "")
        if not self._is_own(_host(authority)):
            return f"Host: {authority} is not what this page listens on: open the address that `fashion web` prints"
        origin = headers.get("origin")
        if method not in _SAFE_METHODS and origin is not None and urlsplit(origin).netloc != authority:
            return f"Origin: {origin} is another site than {authority}: only the page itself may send requests"
        return ""

    def _is_own(self, host: str) -> bool:
        """Whether a name is one that we listen on; an attacker's site has a name of its own, never an address."""
        if host in _LOOPBACK or host == self._host:
            return True
        is_open = self._host not in _LOOPBACK
        return is_open and (_is_address(host) or host == socket.gethostname().lower())


def _host(authority: str) -> str:
    """The host of `HOST` or `HOST:PORT`, in lower case; "" for what is none."""
    try:
        return urlsplit(f"//{authority}").hostname or ""
    except ValueError:
        return ""


def _is_address(host: str) -> bool:
    try:
        ipaddress.ip_address(host)
    except ValueError:
        return False
    return True

"""Who may ask the page, and what its answers tell a browser."""

from __future__ import annotations

import asyncio
import socket
from typing import Any

import httpx
import pytest
from starlette.responses import PlainTextResponse

from client.web.guard import HEADERS, Guard
from tests.support.fake_server import FakeServer
from tests.support.page import page, picture


def _ask(listens: str, method: str = "GET", **headers: str) -> httpx.Response:
    """What a guard on an address answers to a request."""

    async def ask() -> httpx.Response:
        transport: Any = httpx.ASGITransport(Guard(PlainTextResponse("passed"), listens))
        async with httpx.AsyncClient(transport=transport, base_url="http://127.0.0.1:8502") as browser:
            return await browser.request(method, "/", headers=headers)

    return asyncio.run(ask())


@pytest.mark.parametrize(
    ("listens", "host", "passes"),
    [
        ("127.0.0.1", "127.0.0.1:8502", True),
        ("127.0.0.1", "localhost:9000", True),
        ("127.0.0.1", "[::1]:8502", True),
        ("127.0.0.1", "evil.example:8502", False),
        ("127.0.0.1", "127.0.0.1.evil.example:8502", False),
        ("127.0.0.1", "192.168.1.7:8502", False),
        ("127.0.0.1", "", False),
        ("127.0.0.1", "[:8502", False),
        ("0.0.0.0", "192.168.1.7:8502", True),
        ("0.0.0.0", f"{socket.gethostname()}:8502", True),
        ("0.0.0.0", "evil.example", False),
        ("shop.example", "SHOP.example:8502", True),
        ("shop.example", "evil.example:8502", False),
    ],
)
def test_only_a_host_that_is_listened_on_is_answered(listens: str, host: str, passes: bool) -> None:
    """A name that another site made mean this machine (DNS rebinding) is none; an address cannot be such a name."""
    response = _ask(listens, host=host)
    assert response.status_code == (200 if passes else 403)
    if not passes:
        assert response.json()["error"] == (
            f"Host: {host} is not what this page listens on: open the address that `fashion web` prints"
        )


@pytest.mark.parametrize(
    ("method", "origin", "passes"),
    [
        ("POST", "http://127.0.0.1:8502", True),
        ("POST", "https://127.0.0.1:8502", True),
        ("POST", "http://127.0.0.1:9999", False),
        ("POST", "http://evil.example", False),
        ("POST", "null", False),
        ("PUT", "http://evil.example", False),
        ("GET", "http://evil.example", True),
    ],
)
def test_only_the_page_itself_may_send(method: str, origin: str, passes: bool) -> None:
    """Another site may look, since no browser gives it the answer; a request without Origin is no browser's."""
    response = _ask("127.0.0.1", method, origin=origin)
    assert response.status_code == (200 if passes else 403)
    if not passes:
        assert response.json()["error"] == (
            f"Origin: {origin} is another site than 127.0.0.1:8502: only the page itself may send requests"
        )
    assert _ask("127.0.0.1", "POST").status_code == 200


def test_every_answer_has_the_headers() -> None:
    """Files, JSON, errors and refusals; nothing inline may run, and no frame may show the page."""

    async def ask() -> list[httpx.Response]:
        async with page([FakeServer()]) as browser:
            return [
                await browser.get("/"),
                await browser.get("/page.js"),
                await browser.get("/nothing"),
                await browser.get("/api/state"),
                await browser.post("/api/predict", content=picture()),
                await browser.post("/api/predict", content=b"no picture"),
                await browser.get("/", headers={"host": "evil.example"}),
            ]

    responses = asyncio.run(ask())
    assert [response.status_code for response in responses] == [200, 200, 404, 200, 200, 422, 403]
    for response in responses:
        assert {name: response.headers[name] for name in HEADERS} == HEADERS
    policy = HEADERS["Content-Security-Policy"]
    assert policy.startswith("default-src 'none'")
    assert "unsafe" not in policy
    assert "frame-ancestors 'none'" in policy

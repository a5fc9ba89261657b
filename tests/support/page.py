"""The page in memory: its application asked by httpx, without a socket."""

from __future__ import annotations

import io
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from typing import Any

import httpx
from PIL import Image

from client.transports.address import ServerAddress
from client.transports.base import Transport
from client.transports.security import Security
from client.web.application import application
from client.web.served import Served
from client.web.snippets import Reach

URL = "http://127.0.0.1:8502"


@asynccontextmanager
async def page(
    transports: Sequence[Transport], url: str = "http://127.0.0.1:8501", model_name: str = "fashion_mnist"
) -> AsyncIterator[httpx.AsyncClient]:
    """A browser's view of the page that shows a model of these servers. url: the server in its snippets."""
    served = Served(transports, model_name, 5.0)
    reach = Reach(ServerAddress.parse(url), Security())
    transport: Any = httpx.ASGITransport(application(served, reach, "127.0.0.1"))
    try:
        async with httpx.AsyncClient(transport=transport, base_url=URL) as browser:
            yield browser
    finally:
        await served.close()


def picture(first_pixel: int = 0, size: int = 28) -> bytes:
    """A PNG, gray: a light garment on black; the pixel above on the left is the given one."""
    image = Image.new("L", (size, size))
    image.paste(200, (size // 4, size // 8, 3 * size // 4, 7 * size // 8))
    image.putpixel((0, 0), first_pixel)
    buffer = io.BytesIO()
    image.save(buffer, "PNG")
    return buffer.getvalue()

"""The page as an ASGI application: static files, and answers in JSON.

    GET  /api/state                        what is served, who answers, what the server counts
    POST /api/predict?name=&preprocess=    a picture file as the body; what the model saw of it, and its answers
    POST /api/infer                        `{"signature_name": NAME, "inputs": {NAME: VALUES}}` for any other model

An error is `{"error": text}`: 403 of the guard, 413 for a body too large, 422 for what the model or the client cannot
take, 502 for what the server answers, 503 where none does.
"""

from __future__ import annotations

import asyncio
import json
from pathlib import Path
from typing import Any, get_args

from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Mount, Route
from starlette.staticfiles import StaticFiles

from client.errors import ClientUsageError, ServerError, ServerUnreachableError
from client.limits import UPLOAD_BYTES
from client.types import Preprocess
from client.web import answers
from client.web.guard import Application, Guard
from client.web.served import Look, Served
from client.web.snippets import Reach
from fashion_common.served_model import CLASS_NAMES

_STATIC = Path(__file__).with_name("static")
# A picture may take 300 MB while it is decoded.
_UPLOADS = 2
_UPLOAD_SECONDS = 60.0


def application(served: Served, reach: Reach, host: str) -> Application:
    """The page of a model. reach: what its snippets say of the server. host: what is listened on."""
    page = _Page(served, reach)
    routes = [
        Route("/api/state", page.state),
        Route("/api/predict", page.predict, methods=["POST"]),
        Route("/api/infer", page.infer, methods=["POST"]),
        Mount("/", StaticFiles(directory=_STATIC, html=True)),
    ]
    handlers: dict[Any, Any] = {
        HTTPException: lambda _, error: _error(error.status_code, error.detail),
        ClientUsageError: lambda _, error: _error(422, str(error)),
        Exception: lambda _, error: _error(500, f"unforeseen {type(error).__name__}: {error}"),
        ServerError: lambda _, error: _error(503 if isinstance(error, ServerUnreachableError) else 502, str(error)),
    }
    return Guard(Starlette(routes=routes, exception_handlers=handlers), host)


class _Page:
    def __init__(self, served: Served, reach: Reach) -> None:
        self._served = served
        self._reach = reach
        self._uploads = asyncio.Semaphore(_UPLOADS)

    async def state(self, _request: Request) -> Response:
        look = await self._served.look()
        return JSONResponse(
            {
                "server": str(self._reach.address),
                "model_name": self._served.model_name,
                "class_names": CLASS_NAMES,
                "versions": [version.__dict__ for version in look.versions],
                "labels": look.labels,
                "answering": [answering._asdict() for answering in look.answering],
                "moves": [move._asdict() for move in self._served.moves],
                **await self._signatures(look),
                "counts": self._counts(),
                "uncounted": self._served.uncounted,
            }
        )

    async def predict(self, request: Request) -> Response:
        name = request.query_params.get("name", "")[:255] or "picture.png"
        preprocess: Preprocess = request.query_params.get("preprocess", "auto")  # type: ignore[assignment]
        if preprocess not in get_args(Preprocess):
            raise ClientUsageError(f"preprocess={preprocess}: expected one of {', '.join(get_args(Preprocess))}")
        async with self._uploads:
            content = await _body(request)
            pixels, doubt = await asyncio.to_thread(answers.seen, content, name, preprocess)
        del content
        look = await self._available()
        answer = await answers.predict(self._served, look, pixels, name, preprocess, self._reach)
        return JSONResponse({**answer, "warning": doubt})

    async def _signatures(self, look: Look) -> dict[str, Any]:
        """Whether the version that answers first takes garments, and else its signatures as a form."""
        if not look.answering:
            return {"garments": True, "waiting": _unserved(look)}
        metadata = await self._served.version(look.answering[0].version).metadata()
        if answers.takes_garments(metadata):
            return {"garments": True, "waiting": ""}
        from client.web.forms import form

        return {"garments": False, "waiting": "", "signatures": form(metadata)}

    async def infer(self, request: Request) -> Response:
        # numpy is not needed for pictures.
        from client.web.forms import infer

        content = await _body(request)
        try:
            question = json.loads(content)
        except (ValueError, RecursionError) as error:
            raise ClientUsageError(f"the body is no JSON: {error}") from error
        look = await self._available()
        return JSONResponse(await infer(self._served, look, question, self._reach))

    async def _available(self) -> Look:
        """What is served. Raises HTTPException while no version answers."""
        look = await self._served.look()
        if not look.answering:
            raise HTTPException(503, _unserved(look))
        return look

    def _counts(self) -> dict[str, Any] | None:
        minute = self._served.minute
        if minute is None:
            return None
        return {"rate": minute.rate, "rates": minute.rates, "errors": minute.errors, "latency_ms": minute.latency_ms}


def _unserved(look: Look) -> str:
    states = ", ".join(f"version {version.version} is {version.state}" for version in look.versions)
    return f"no version is AVAILABLE yet: {states or 'there is none'}"


async def _body(request: Request) -> bytes:
    """The body of a request. Raises HTTPException for one that is too large or too slow."""
    too_large = HTTPException(413, f"more than {UPLOAD_BYTES // 2**20} MB: send a smaller picture")

    async def read() -> bytes:
        content = bytearray()
        async for chunk in request.stream():
            content += chunk
            if len(content) > UPLOAD_BYTES:
                raise too_large
        return bytes(content)

    length = request.headers.get("content-length", "")
    if length.isdecimal() and int(length) > UPLOAD_BYTES:
        raise too_large
    try:
        return await asyncio.wait_for(read(), _UPLOAD_SECONDS)
    except asyncio.TimeoutError as error:
        raise HTTPException(408, f"the picture did not arrive within {_UPLOAD_SECONDS:g} s") from error


def _error(status: int, text: str) -> Response:
    return JSONResponse({"error": text}, status)

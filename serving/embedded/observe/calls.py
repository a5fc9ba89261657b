"""What is watched of every request: how many there are at a time, metrics, and the access log."""

from __future__ import annotations

import datetime as dt
import itertools
import json
import secrets
import sys
import time
from collections.abc import Callable, Collection
from typing import TextIO

from serving.apis.status import Code
from serving.embedded.observe.metrics import Metrics
from serving.errors import ResourceExhausted

REQUEST_ID_HEADER = "x-request-id"
# A longer id of a client's is no id: it would fill the log.
_MAX_REQUEST_ID = 128
_UNKNOWN_MODEL = "unknown"
_PREFIX = secrets.token_hex(6)
_NUMBERS = itertools.count(1)


class Call:
    """One request while it is answered; what is not known yet is empty."""

    __slots__ = ("api", "begin", "entrypoint", "model", "path", "peer", "request_id")

    def __init__(self, entrypoint: str, api: str, path: str, peer: Callable[[], str], request_id: str) -> None:
        self.begin = time.perf_counter()
        self.entrypoint = entrypoint
        self.api = api
        self.path = path
        self.peer = peer
        self.request_id = request_id
        self.model = ""


class Observer:
    """Lets requests in up to a limit, and notes how each was answered.

    max_concurrent: 0 = no limit. access_log: where a line of JSON for each request goes, or None.
    """

    def __init__(
        self,
        model_names: Callable[[], Collection[str]],
        *,
        max_concurrent: int = 0,
        metrics: Metrics | None = None,
        access_log: TextIO | None = None,
    ) -> None:
        self._model_names = model_names
        self._max_concurrent = max_concurrent
        self.metrics = metrics
        self._access_log = access_log
        self._under_way = 0

    @property
    def logs(self) -> bool:
        """Whether there is an access log."""
        return self._access_log is not None

    def enter(self) -> None:
        """One request more. Raises ResourceExhausted when there are as many as may be."""
        if self._max_concurrent and self._under_way >= self._max_concurrent:
            raise ResourceExhausted(
                f"{self._under_way} requests are under way, as many as --max_concurrent_requests lets in: try again"
            )
        self._under_way += 1

    def leave(self) -> None:
        """One request that entered is done."""
        self._under_way -= 1

    def answered(self, call: Call, code: Code) -> None:
        """Notes how a request was answered."""
        if self.metrics is not None and call.api:
            # Names that clients make up must not become metrics.
            model = call.model if call.model in self._model_names() else _UNKNOWN_MODEL
            self.metrics.request(model, call.api, call.entrypoint, code, call.begin)
        if self._access_log is not None:
            _write(self._access_log, call, code)


def request_id(given: str) -> str:
    """The client's own id, or a new one: unique to this process's life and its number in it."""
    if 0 < len(given) <= _MAX_REQUEST_ID and given.isascii() and given.isprintable():
        return given
    return f"{_PREFIX}-{next(_NUMBERS):x}"


def stdout() -> TextIO:
    """Where the access log goes."""
    return sys.stdout


def _write(log: TextIO, call: Call, code: Code) -> None:
    line = {
        "time": dt.datetime.now(dt.timezone.utc).isoformat(timespec="milliseconds"),
        "request_id": call.request_id,
        "protocol": call.entrypoint,
        "path": call.path,
        "model": call.model,
        "code": code.name,
        "duration_ms": round((time.perf_counter() - call.begin) * 1e3, 3),
        "peer": call.peer(),
    }
    log.write(json.dumps(line) + "\n")
    log.flush()

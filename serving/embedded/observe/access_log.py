"""The access log: a line of JSON for each call, whichever port answered it."""

from __future__ import annotations

import datetime as dt
import json
import time
from typing import TextIO

from serving.embedded.observe.calls import Call


class AccessLog:
    """Writes to a stream, a line at a time; `write` is what the interceptor calls."""

    def __init__(self, stream: TextIO) -> None:
        self._stream = stream

    def write(self, call: Call) -> None:
        """Writes the line of a call that has ended."""
        line = {
            "time": dt.datetime.now(dt.timezone.utc).isoformat(timespec="milliseconds"),
            "request_id": call.request_id,
            "protocol": call.operation.entrypoint,
            "path": call.path,
            "model": call.model,
            "code": call.code.name,
            "duration_ms": round((time.perf_counter() - call.begin) * 1e3, 3),
            "peer": call.peer(),
        }
        self._stream.write(json.dumps(line) + "\n")
        self._stream.flush()

"""The access log: a line of JSON for each call that has ended."""

from __future__ import annotations

import datetime as dt
import json
import time

from serving.embedded.observe.calls import Call
from serving.embedded.observe.log_writer import ATOMIC_BYTES, LogWriter

# Of what clients choose, so many characters are logged; fewer where they make a line too long all the same.
_MAX_TEXT = 1024
_SHORT_TEXT = 128


class AccessLog:
    """Writes to a descriptor, without ever holding up a call."""

    def __init__(self, descriptor: int) -> None:
        self._writer = LogWriter(descriptor, _notice)

    def write(self, call: Call) -> None:
        """Notes a call that has ended."""
        line = _line(call, _MAX_TEXT)
        # Six characters for one, in JSON.
        self._writer.write(line if len(line) <= ATOMIC_BYTES else _line(call, _SHORT_TEXT))

    def close(self) -> None:
        """Writes what is left, within a second."""
        self._writer.close()


def _line(call: Call, max_text: int) -> str:
    fields = {
        "time": _now(),
        "request_id": call.request_id,
        "trace_id": call.trace.trace_id,
        "protocol": call.operation.entrypoint,
        "path": call.path[:max_text],
        "model": call.model[:max_text],
        "code": call.code.name,
        "duration_ms": round((time.perf_counter() - call.begin) * 1e3, 3),
        "peer": call.peer(),
        **({"caller": call.caller} if call.caller else {}),
    }
    return json.dumps(fields) + "\n"


def _notice(count: int) -> str:
    """What stands for lines that were dropped."""
    return json.dumps({"time": _now(), "dropped": count}) + "\n"


def _now() -> str:
    return dt.datetime.now(dt.timezone.utc).isoformat(timespec="milliseconds")

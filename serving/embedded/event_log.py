"""The server's own log, on stderr: what happened to models, labels, configurations and certificates, a line each.

As text a line is the time and a sentence; as JSON (`--log_format=json`) it has the event's name and its fields beside
the sentence. docs/operations.md has the table of events.
"""

from __future__ import annotations

import datetime as dt
import json
import logging
from typing import NamedTuple

FORMATS = ("text", "json")
log = logging.getLogger(__name__)
# What is said at the start: flags that are ignored, addresses. As text it has no time, as TF Serving's has none.
notices = logging.getLogger(f"{__name__}.notices")


class Event(NamedTuple):
    """A kind of event. text: the sentence, with the names of fields in braces; further fields are in JSON alone."""

    name: str
    level: int
    text: str


EVENTS: dict[str, Event] = {}


def _event(name: str, level: int, text: str) -> Event:
    EVENTS[name] = event = Event(name, level, text)
    return event


# Of versions: TF Serving's own words, for whoever looks for them.
RUNTIME_CHOSEN = _event("runtime_chosen", logging.INFO, "{directory} is served by {runtime}: {reason}")
SIGNATURE_VERIFIED = _event("signature_verified", logging.INFO, "{directory}: {files} files are as signed with {key}")
VERSION_LOADED = _event(
    "version_loaded", logging.INFO, "Successfully loaded servable version {{name: {model} version: {version}}}"
)
VERSION_REFUSED = _event(
    "version_refused", logging.ERROR, "Servable {{name: {model} version: {version}}} failed to load: {error}"
)
VERSION_UNLOADED = _event(
    "version_unloaded", logging.INFO, "Done unloading servable version {{name: {model} version: {version}}}"
)
VERSION_LEFT = _event("version_left", logging.WARNING, "Servable {{name: {model} version: {version}}} is left {state}")
MODEL_UNAVAILABLE = _event("model_unavailable", logging.ERROR, "{model} cannot be served yet: {error}")
LABEL_MOVED = _event("label_moved", logging.INFO, "Label {label} of {model} moved from {before} to {version}")
CONFIGURATION_RELOADED = _event("configuration_reloaded", logging.INFO, "Reloaded the configuration: {models}")
CONFIGURATION_REFUSED = _event("configuration_refused", logging.ERROR, "{file} was not taken over: {error}")
CERTIFICATE_CHANGED = _event(
    "certificate_changed", logging.INFO, "{file} was read again: its certificate is served now"
)
CERTIFICATE_REFUSED = _event("certificate_refused", logging.ERROR, "{file} was not taken over: {error}")
TOKENS_CHANGED = _event("tokens_changed", logging.INFO, "{file} was read again: it has {tokens} tokens")
TOKENS_REFUSED = _event("tokens_refused", logging.ERROR, "{file} was not taken over: {error}")


def log_event(event: Event, **fields: object) -> None:
    """Logs what happened in one line, whatever the fields hold; None is shown as `no version`."""
    if log.isEnabledFor(event.level):
        texts = {name: "no version" if value is None else value for name, value in fields.items()}
        log.log(event.level, _one_line(event.text.format_map(texts)), extra={"event": event.name, "fields": fields})


def configure(log_format: str, level: int) -> None:
    """Sends what is logged to stderr, as it is now. log_format: of FORMATS. level: of what is no event."""
    as_json = _JsonFormatter()
    line = as_json if log_format == "json" else logging.Formatter("%(asctime)s %(message)s")
    bare = as_json if log_format == "json" else logging.Formatter("%(message)s")
    for logger, formatter in ((logging.getLogger(), line), (notices, bare)):
        handler = logging.StreamHandler()
        handler.setFormatter(formatter)
        logger.handlers = [handler]
    notices.propagate = False
    notices.setLevel(logging.INFO)
    logging.getLogger().setLevel(level)


class _JsonFormatter(logging.Formatter):
    """A JSON object a line: time, level, the event and its fields if it is one, the message, a traceback if any."""

    def format(self, record: logging.LogRecord) -> str:
        time = dt.datetime.fromtimestamp(record.created, dt.timezone.utc).isoformat(timespec="milliseconds")
        line: dict[str, object] = {"time": time, "level": record.levelname}
        if (event := getattr(record, "event", None)) is not None:
            line["event"] = event
            line.update(getattr(record, "fields", {}))
        line["message"] = record.getMessage()
        if record.exc_info:
            line["traceback"] = self.formatException(record.exc_info)
        return json.dumps(line, default=str)


def _one_line(text: str) -> str:
    """A text with what would break its line, or move a terminal's cursor, escaped."""
    if text.isprintable():
        return text
    return "".join(c if c.isprintable() else c.encode("unicode_escape").decode() for c in text)

"""The table of REST routes: which request is answered by what.

https://www.tensorflow.org/tfx/serving/api_rest
"""

from __future__ import annotations

import re
from collections.abc import Awaitable, Callable, Collection
from typing import NamedTuple

from serving.embedded.observe.calls import Operation
from serving.embedded.rest.handlers import ModelHandlers, Reply, Request, ServerHandlers

_MODEL = "/v1/models/(?P<model>[^/:]+)"
_VERSION = r"(?:/versions/(?P<version>\d+)|/labels/(?P<label>[^/:]+))?"
_GET, _POST, _PROBE = {"GET"}, {"POST"}, {"GET", "HEAD"}
_ANY: Collection[str] = ()

Handler = Callable[[Request], Awaitable[Reply]]


class Route(NamedTuple):
    """One row. methods: HTTP's, none for any. path: the whole path must match it, with the query string if any."""

    operation: Operation
    methods: Collection[str]
    path: re.Pattern[str]
    handler: Handler


def routes(models: ModelHandlers, server: ServerHandlers, *, cors: bool, metrics_path: str) -> list[Route]:
    """The table. The first route that matches a request answers it; the last one matches any.

    cors: whether browsers may ask. metrics_path: where the metrics are, or empty when they are off.
    """
    table = [
        _api("Predict", _POST, f"{_MODEL}{_VERSION}:predict", models.predict, measured=True),
        _api("Classify", _POST, f"{_MODEL}{_VERSION}:classify", models.classify, measured=True),
        _api("Regress", _POST, f"{_MODEL}{_VERSION}:regress", models.regress, measured=True),
        _api("GetModelStatus", _GET, f"{_MODEL}{_VERSION}", models.status, measured=True),
        _api("GetModelMetadata", _GET, f"{_MODEL}{_VERSION}/metadata", models.metadata, measured=True),
        _api("NoModel", _GET, f"/v1/models{_VERSION}(?:/metadata)?", models.no_model),
        _api("Malformed", _ANY, "/v1/.*", models.malformed),
        _probe("Health", "/healthz", server.health),
        _probe("Readiness", "/readyz", server.readiness),
        Route(Operation("REST", "NotFound", counts=False), _ANY, re.compile(".*", re.DOTALL), server.not_found),
    ]
    if cors:
        table.insert(0, _api("Preflight", {"OPTIONS"}, "/v1/.*", models.preflight))
    if metrics_path:
        table.insert(-1, _probe("Metrics", metrics_path, server.metrics))
    return table


def _api(name: str, methods: Collection[str], path: str, handler: Handler, *, measured: bool = False) -> Route:
    """A route of TF Serving's API, which takes paths in any case."""
    pattern = re.compile(path, re.IGNORECASE | re.ASCII | re.DOTALL)
    return Route(Operation("REST", name, measured), methods, pattern, handler)


def _probe(name: str, path: str, handler: Handler) -> Route:
    """A route that tells the server's state, with any query string."""
    return Route(Operation("REST", name, counts=False), _PROBE, re.compile(rf"{re.escape(path)}(?:\?.*)?"), handler)

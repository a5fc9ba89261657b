"""TF Serving's REST API as a Transport."""

from __future__ import annotations

from typing import Any

import httpx

from client.errors import ServerError, server_error
from client.transports import rest_wire
from client.transports.address import ServerAddress
from client.transports.security import Security
from client.types import Calls, Metadata, ModelSpec, Output, VersionStatus


class RestTransport:
    """A pool of HTTP/1.1 connections that all threads share."""

    def __init__(self, address: ServerAddress, security: Security) -> None:
        self._address = address
        self._security = security
        self._http = httpx.Client(**client_options(address, security))

    def predict(self, model: ModelSpec, calls: Calls, *, timeout: float) -> dict[str, Output]:
        """See Transport."""
        return rest_wire.predict_answer(*self._call(rest_wire.predict_request(model, calls), timeout))

    def status(self, model: ModelSpec, *, timeout: float) -> list[VersionStatus]:
        """See Transport."""
        return rest_wire.status_answer(*self._call(rest_wire.status_request(model), timeout))

    def metadata(self, model: ModelSpec, *, timeout: float) -> Metadata:
        """See Transport."""
        return rest_wire.metadata_answer(*self._call(rest_wire.metadata_request(model), timeout))

    def close(self) -> None:
        """See Transport."""
        self._http.close()

    def _call(self, request: rest_wire.Request, timeout: float) -> tuple[int, bytes]:
        try:
            response = self._http.request(**request_arguments(request, timeout, self._security))
        except httpx.HTTPError as error:
            raise translated(self._address, error, timeout) from error
        return response.status_code, response.content


def client_options(address: ServerAddress, security: Security) -> dict[str, Any]:
    """What httpx.Client and httpx.AsyncClient are made with."""
    return {
        "base_url": str(address),
        "verify": rest_wire.tls(address, security),
        "headers": dict(security.headers),
        # A proxy in the environment must not see requests that are meant for this very address.
        "trust_env": False,
    }


def request_arguments(request: rest_wire.Request, timeout: float, security: Security) -> dict[str, Any]:
    """What `request` of httpx.Client and httpx.AsyncClient is called with."""
    return {
        "method": request.method,
        "url": request.path,
        "headers": request.headers,
        "content": request.body,
        "timeout": timeout,
        # The name to expect in the server's certificate, where it is not the address's.
        "extensions": {"sni_hostname": security.server_name} if security.server_name else {},
    }


def translated(address: ServerAddress, error: httpx.HTTPError, timeout: float) -> ServerError:
    """The ServerError for a request that got no answer."""
    if isinstance(error, httpx.TimeoutException):
        return server_error("DEADLINE_EXCEEDED", f"{address}: no answer within {timeout:g} s")
    return server_error("UNAVAILABLE", f"{address}: {error or type(error).__name__}")

"""TF Serving's REST API: an HTTP client, its security, and httpx's errors as the client's."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import httpx

from client.errors import ClientUsageError, server_error
from client.tracing import attempt_headers
from client.transports import rest_wire
from client.transports.address import ServerAddress
from client.transports.base import Wire
from client.transports.diagnosis import diagnosis
from client.transports.security import Security


class RestTransport:
    """A pool of HTTP/1.1 connections that all threads, or all tasks of an event loop, share."""

    wire: Wire = rest_wire

    def __init__(self, address: ServerAddress, security: Security, *, asynchronous: bool) -> None:
        self.address = address
        self._security = security
        # The name to expect in the server's certificate, where it is not the address's.
        self._extensions = {"sni_hostname": security.server_name} if security.server_name else {}
        client = httpx.AsyncClient if asynchronous else httpx.Client
        verify = security.tls_context() if address.is_secure else False
        with self.client_errors(0):
            # A proxy in the environment must not see requests that are meant for this very address.
            self._http = client(
                base_url=str(address), verify=verify, headers=dict(security.sent_headers), trust_env=False
            )

    def send(self, request: rest_wire.Request, timeout: float) -> Any:
        """See Transport."""
        return self._http.request(
            request.method,
            request.path,
            headers=request.headers | dict(attempt_headers(self._security.headers)),
            content=request.body,
            timeout=timeout,
            extensions=self._extensions,
        )

    @contextmanager
    def client_errors(self, timeout: float, /) -> Iterator[None]:
        """See Transport; no answer is a ServerError, a host name that cannot be one a ClientUsageError."""
        try:
            yield
        except httpx.TimeoutException as error:
            raise server_error("DEADLINE_EXCEEDED", f"{self.address}: no answer within {timeout:g} s") from error
        except httpx.HTTPError as error:
            raise server_error("UNAVAILABLE", f"{self.address}: {error or type(error).__name__}") from error
        except (httpx.InvalidURL, UnicodeError) as error:
            raise ClientUsageError(f"{self.address} names no host: {error}") from error

    def diagnosis(self) -> str:
        """See Transport."""
        return diagnosis(self.address, self._security)

    def close(self) -> Any:
        """See Transport."""
        return self._http.aclose() if isinstance(self._http, httpx.AsyncClient) else self._http.close()

"""TF Serving's gRPC API: a channel, its security, and gRPC's errors as the client's."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import grpc
import grpc.aio

from client.errors import ClientUsageError, server_error
from client.tracing import attempt_headers
from client.transports import grpc_wire
from client.transports.address import ServerAddress
from client.transports.base import Wire
from client.transports.diagnosis import diagnosis
from client.transports.security import Security
from serving.apis import services

# TF Serving sends up to 2 GiB; gRPC's own limit of 4 MB for received messages would refuse its larger answers.
_OPTIONS = (("grpc.max_receive_message_length", -1), ("grpc.max_send_message_length", -1))


class GrpcTransport:
    """One HTTP/2 connection that all threads, or all tasks of an event loop, share."""

    wire: Wire = grpc_wire

    def __init__(self, address: ServerAddress, security: Security, *, asynchronous: bool) -> None:
        # The two modules open channels by functions of the same names.
        library: Any = grpc.aio if asynchronous else grpc
        options: list[tuple[str, str | int]] = [*_OPTIONS]
        if security.server_name:
            options.append(("grpc.ssl_target_name_override", security.server_name))
        self.address = address
        self._security = security
        self._headers = security.sent_headers
        self._asynchronous = asynchronous
        if address.is_secure:
            self._channel = library.secure_channel(address.target, _credentials(security), options)
        else:
            self._channel = library.insecure_channel(address.target, options)
        self._methods: dict[services.Method, Any] = {}

    def send(self, request: grpc_wire.Request, timeout: float) -> Any:
        """See Transport."""
        method = self._methods.get(request.method) or self._callable(request.method)
        metadata = self._headers + attempt_headers(self._headers)
        if not request.trailers:
            return method(request.message, timeout=timeout, metadata=metadata)
        if self._asynchronous:
            return _with_trailers(method(request.message, timeout=timeout, metadata=metadata))
        response, call = method.with_call(request.message, timeout=timeout, metadata=metadata)
        return response, call.trailing_metadata()

    @contextmanager
    def client_errors(self, _timeout: float, /) -> Iterator[None]:
        """See Transport; the server's status, or gRPC's own where no server answered, as a ServerError."""
        try:
            yield
        except grpc.RpcError as error:
            code: grpc.StatusCode = error.code()
            details: str = error.details() or ""
            if code is grpc.StatusCode.UNAVAILABLE and "connect" in details.lower():
                details = f"{self.address}: {details.rsplit('last error: ', 1)[-1]}"
            raise server_error(code.name, details).locate(*grpc_wire.origin(error.trailing_metadata())) from error

    def diagnosis(self) -> str:
        """See Transport."""
        return diagnosis(self.address, self._security)

    def close(self) -> Any:
        """See Transport."""
        return self._channel.close()

    def _callable(self, method: services.Method) -> Any:
        self._methods[method] = self._channel.unary_unary(
            method.path,
            request_serializer=method.request_class.SerializeToString,
            response_deserializer=method.response_class.FromString,
        )
        return self._methods[method]


async def _with_trailers(call: Any) -> tuple[Any, Any]:
    return await call, await call.trailing_metadata()


def _credentials(security: Security) -> grpc.ChannelCredentials:
    try:
        return grpc.ssl_channel_credentials(
            *(
                path.read_bytes() if path else None
                for path in (security.ca_file, security.key_file, security.certificate_file)
            )
        )
    except OSError as error:
        raise ClientUsageError(f"{error.filename}: cannot be read: {error.strerror}") from error

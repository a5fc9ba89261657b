"""The client's errors: what was asked wrongly (exit 2), and what the server or the way to it answered (exit 1)."""

from __future__ import annotations

from fashion_common.errors import EXIT_USAGE, FashionError

# gRPC's status codes by number (https://grpc.io/docs/guides/status-codes/).
STATUS_CODES = (
    "OK",
    "CANCELLED",
    "UNKNOWN",
    "INVALID_ARGUMENT",
    "DEADLINE_EXCEEDED",
    "NOT_FOUND",
    "ALREADY_EXISTS",
    "PERMISSION_DENIED",
    "RESOURCE_EXHAUSTED",
    "FAILED_PRECONDITION",
    "ABORTED",
    "OUT_OF_RANGE",
    "UNIMPLEMENTED",
    "INTERNAL",
    "UNAVAILABLE",
    "DATA_LOSS",
    "UNAUTHENTICATED",
)
# What TF Serving's REST API answers for these codes, read backwards; where several share a status, the likeliest.
_CODE_OF_HTTP_STATUS = {
    400: "INVALID_ARGUMENT",
    401: "UNAUTHENTICATED",
    403: "PERMISSION_DENIED",
    404: "NOT_FOUND",
    409: "ABORTED",
    413: "RESOURCE_EXHAUSTED",
    429: "RESOURCE_EXHAUSTED",
    499: "CANCELLED",
    500: "INTERNAL",
    501: "UNIMPLEMENTED",
    502: "UNAVAILABLE",
    503: "UNAVAILABLE",
    504: "DEADLINE_EXCEEDED",
}


class ClientError(FashionError):
    """The root of the client's errors."""


class ClientUsageError(ClientError):
    """The client was asked for something that cannot be: a bad address, a wrong option, an unreadable picture."""

    exit_code = EXIT_USAGE


class ImageError(ClientUsageError):
    """A picture that cannot be read; the text begins with its name."""


class ServerError(ClientError):
    """The server answered an error, or the call never reached it.

    `code` is a gRPC status code's name (`NOT_FOUND`), over both APIs; `details` is the server's own text.
    """

    def __init__(self, code: str, details: str, hint: str = "") -> None:
        super().__init__(f"{code}: {details}" + (f" ({hint})" if hint else ""))
        self.code = code
        self.details = details


class ServerUnreachableError(ServerError):
    """No server answers at the address (UNAVAILABLE)."""


class DeadlineExceededError(ServerError):
    """No answer within the deadline (DEADLINE_EXCEEDED)."""


_HINTS = {
    "UNAVAILABLE": "start a server with `fashion serve`, or name one with --server",
    "DEADLINE_EXCEEDED": "give it longer with --timeout SECONDS",
    "NOT_FOUND": "`fashion status` shows what is served; --model-name names another model",
    "UNIMPLEMENTED": "is this address TF Serving's? gRPC is usually on port 8500, REST on 8501",
}
_CLASSES: dict[str, type[ServerError]] = {
    "UNAVAILABLE": ServerUnreachableError,
    "DEADLINE_EXCEEDED": DeadlineExceededError,
}


def server_error(code: str, details: str) -> ServerError:
    """The error for a gRPC status code's name, with a hint where there is one."""
    return _CLASSES.get(code, ServerError)(code, " ".join(details.split()), _HINTS.get(code, ""))


def code_of_http_status(status: int) -> str:
    """The gRPC status code's name that an HTTP status of TF Serving's REST API stands for; UNKNOWN for others."""
    return _CODE_OF_HTTP_STATUS.get(status, "UNKNOWN")

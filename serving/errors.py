"""What a request can be answered with besides success, and what each answer is in HTTP.

Codes: https://grpc.github.io/grpc/core/md_doc_statuscodes.html; HTTP: TF Serving's REST API.
"""

# ruff: noqa: N818 - the names are gRPC's own

from __future__ import annotations

import enum

from fashion_common.errors import EXIT_USAGE, FashionError

# TF Serving cuts its messages here: they travel in an HTTP/2 header.
MAX_MESSAGE = 1024


class Code(enum.IntEnum):
    """The canonical status codes: the same numbers in gRPC, in TensorFlow and in a StatusProto."""

    OK = 0
    CANCELLED = 1
    UNKNOWN = 2
    INVALID_ARGUMENT = 3
    DEADLINE_EXCEEDED = 4
    NOT_FOUND = 5
    ALREADY_EXISTS = 6
    PERMISSION_DENIED = 7
    RESOURCE_EXHAUSTED = 8
    FAILED_PRECONDITION = 9
    ABORTED = 10
    OUT_OF_RANGE = 11
    UNIMPLEMENTED = 12
    INTERNAL = 13
    UNAVAILABLE = 14
    DATA_LOSS = 15
    UNAUTHENTICATED = 16


HTTP_STATUS = {
    Code.OK: 200,
    Code.CANCELLED: 499,
    Code.INVALID_ARGUMENT: 400,
    Code.FAILED_PRECONDITION: 400,
    Code.OUT_OF_RANGE: 400,
    Code.UNAUTHENTICATED: 401,
    Code.PERMISSION_DENIED: 403,
    Code.NOT_FOUND: 404,
    Code.ALREADY_EXISTS: 409,
    Code.ABORTED: 409,
    Code.RESOURCE_EXHAUSTED: 429,
    Code.UNIMPLEMENTED: 501,
    Code.UNAVAILABLE: 503,
    Code.DEADLINE_EXCEEDED: 504,
}


def http_status(code: Code) -> int:
    """The HTTP status of a code: 500 where the table has none (INTERNAL, UNKNOWN, DATA_LOSS)."""
    return HTTP_STATUS.get(code, 500)


class ServingError(FashionError):
    """A request that failed: its text goes to whoever asked, its `code` says what kind it is.

    The code belongs to the class; an error that comes from TensorFlow brings its own.
    """

    code = Code.UNKNOWN

    def __init__(self, message: str, code: Code | None = None) -> None:
        super().__init__(message)
        if code is not None:
            self.code = code

    def __str__(self) -> str:
        return super().__str__()[:MAX_MESSAGE]


class InvalidArgument(ServingError):
    """The request is wrong whatever the server's state."""

    code = Code.INVALID_ARGUMENT


class NotFound(ServingError):
    """A model or a version that is not served."""

    code = Code.NOT_FOUND


class FailedPrecondition(ServingError):
    """The request does not fit the model."""

    code = Code.FAILED_PRECONDITION


class Unimplemented(ServingError):
    """TF Serving does not do it either."""

    code = Code.UNIMPLEMENTED


class Unavailable(ServingError):
    """A configured model that could not be loaded, or a server that is stopping."""

    code = Code.UNAVAILABLE


class StillLoading(Unavailable):
    """A configured model whose first version is on its way."""


class ResourceExhausted(ServingError):
    """A limit of the server was met."""

    code = Code.RESOURCE_EXHAUSTED


class DeadlineExceeded(ServingError):
    """The client's deadline, or REST's timeout, passed before the answer was there."""

    code = Code.DEADLINE_EXCEEDED


class Cancelled(ServingError):
    """The client went away."""

    code = Code.CANCELLED


class Internal(ServingError):
    """A fault of the server's own."""

    code = Code.INTERNAL


class ServerConfigError(FashionError):
    """A flag or a configuration file that cannot be followed: the start ends at once."""

    exit_code = EXIT_USAGE

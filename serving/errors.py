"""The errors of serving; each text names the value, the rule and the fix.

FashionError
├── ServingError               a request that failed, with its status code
│   ├── InvalidArgument
│   ├── NotFound
│   ├── FailedPrecondition
│   ├── PermissionDenied
│   ├── Unauthenticated
│   ├── Unimplemented
│   ├── Unavailable
│   │   └── StillLoading
│   ├── ResourceExhausted
│   ├── DeadlineExceeded
│   └── Internal
└── ServerConfigError          exit code 2: the server does not start
"""

# ruff: noqa: N818 - the names are gRPC's own

from __future__ import annotations

from fashion_common.errors import EXIT_USAGE, FashionError
from serving.apis.status import Code

# TF Serving cuts its messages here: they travel in an HTTP/2 header.
MAX_MESSAGE = 1024
# Of a caller's own text, an error repeats no more.
MAX_QUOTED = 200


class ServingError(FashionError):
    """A request that failed: its text goes to whoever asked, its `code` says what kind it is.

    The code belongs to the class; an error that comes from TensorFlow brings its own. log_text: what the server's log
    has instead, where the text to callers must not tell all, such as paths.
    """

    code = Code.UNKNOWN

    def __init__(self, message: str, code: Code | None = None, *, log_text: str = "") -> None:
        super().__init__(message)
        if code is not None:
            self.code = code
        self.log_text = log_text or message

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


class PermissionDenied(ServingError):
    """The server is not told to do this for this caller."""

    code = Code.PERMISSION_DENIED


class Unauthenticated(ServingError):
    """Nobody knows who asks."""

    code = Code.UNAUTHENTICATED


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


class Internal(ServingError):
    """A fault of the server's own."""

    code = Code.INTERNAL


class ServerConfigError(FashionError):
    """A flag or a configuration file that cannot be followed: the start ends at once."""

    exit_code = EXIT_USAGE


def quoted(text: str) -> str:
    """A caller's own text as an error repeats it: its beginning, when it is long."""
    return text if len(text) <= MAX_QUOTED else f"{text[:MAX_QUOTED]}..."

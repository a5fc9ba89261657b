"""The client's errors.

    FashionError
    └── ClientError
        ├── ClientUsageError              exit 2: a bad address, a wrong option, images that the model cannot take
        │   └── ImageError                a picture that cannot be read
        └── ServerError                   exit 1: the server's error, by its gRPC status code, over either API
            ├── ServerUnreachableError    UNAVAILABLE: no server answers at the address
            └── DeadlineExceededError     DEADLINE_EXCEEDED: no answer in time

Errors of gRPC and httpx become these in `client.transports.grpc` and `client.transports.rest`, those of Pillow and
numpy in `client.pictures`; the library's error is kept as the cause.
"""

from __future__ import annotations

import re

from fashion_common.errors import EXIT_USAGE, FashionError
from fashion_common.trace_context import TraceContext


class ClientError(FashionError):
    """The root of the client's errors."""


class ClientUsageError(ClientError):
    """The client cannot do what it was asked for: a bad address, a wrong option, an unreadable picture."""

    exit_code = EXIT_USAGE


class ImageError(ClientUsageError):
    """A picture that cannot be read; the text begins with its name."""


class ImageWarning(UserWarning):
    """A picture was read, but the answer for it may mean nothing; the text begins with its name."""


class ServerError(ClientError):
    """The server answered an error, or the call never reached it.

    `code` is a gRPC status code's name (`NOT_FOUND`), over both APIs; `details` is the server's own text. `request_id`
    and `trace_id` find the request in the server's logs and traces, where the server told them. The text has the id of
    a trace that the caller belongs to (`client.trace`). `http_status`: what was answered over REST, if anything.
    """

    def __init__(self, code: str, details: str, hint: str = "") -> None:
        super().__init__(f"{code}: {details}" + (f" ({hint})" if hint else ""))
        self.code = code
        self.details = details
        self.hint = hint
        self.request_id = ""
        self.trace_id = ""
        self.in_trace = False
        self.http_status: int | None = None

    def __str__(self) -> str:
        return super().__str__() + (f" [trace {self.trace_id}]" if self.in_trace else "")

    def with_hint(self, hint: str) -> ServerError:
        """The same error with this hint; its own where this one is empty."""
        error = type(self)(self.code, self.details, hint or self.hint)
        error.request_id, error.trace_id, error.in_trace = self.request_id, self.trace_id, self.in_trace
        error.http_status = self.http_status
        return error

    def locate(self, request_id: str, trace: TraceContext | None, *, in_trace: bool = False) -> ServerError:
        """Notes by what its request is found; gives itself. in_trace: whether the caller belongs to the trace."""
        self.request_id = request_id or self.request_id
        self.in_trace = self.in_trace or (in_trace and trace is not None)
        self.trace_id = trace.trace_id if trace is not None else self.trace_id
        return self


class ServerUnreachableError(ServerError):
    """No server answers at the address (UNAVAILABLE)."""


class DeadlineExceededError(ServerError):
    """No answer within the deadline (DEADLINE_EXCEEDED)."""


_HINTS = {
    "UNAVAILABLE": "start a server with `fashion serve`, or name one with --server",
    "DEADLINE_EXCEEDED": "give it longer with --timeout SECONDS",
    "UNAUTHENTICATED": "--token-file names the file with your token; `fashion token` makes one for a server of yours",
    "PERMISSION_DENIED": "ask who runs the server for a token with that scope: `fashion token NAME --scope SCOPE`",
    "NOT_FOUND": "is this name served? --model-name names another model; `fashion status` shows a model's versions",
    "UNIMPLEMENTED": "is this address TF Serving's? gRPC is usually on port 8500, REST on 8501",
}
_VERSION_HINT = "`fashion status` shows the versions; --model-version or --version-label names one"
# TF Serving's words for a version or a label that it does not have.
_NO_VERSION = re.compile(r"Specific\(|version \d+ of|version label")
# Those of gRPC and of the embedded server for a request above --max_request_bytes.
_TOO_LARGE = re.compile(r"larger than (max|\d+ bytes)")
_TOO_LARGE_HINT = "send fewer rows at a time, or raise the server's limit"
# The embedded server's, over REST.
_NO_CERTIFICATE = "client certificate"
_CERTIFICATE_HINT = "--tls-certificate FILE --tls-key FILE"
_CLASSES: dict[str, type[ServerError]] = {
    "UNAVAILABLE": ServerUnreachableError,
    "DEADLINE_EXCEEDED": DeadlineExceededError,
}


def server_error(code: str, details: str) -> ServerError:
    """The error for a gRPC status code's name, with a hint where there is one."""
    if code == "RESOURCE_EXHAUSTED" and _TOO_LARGE.search(details):
        hint = _TOO_LARGE_HINT
    elif code == "UNAUTHENTICATED" and _NO_CERTIFICATE in details:
        hint = _CERTIFICATE_HINT
    else:
        hint = _VERSION_HINT if _NO_VERSION.search(details) else _HINTS.get(code, "")
    return _CLASSES.get(code, ServerError)(code, " ".join(details.split()), hint)

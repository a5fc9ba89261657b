"""The client's errors: what was asked wrongly (exit 2), and what the server or the way to it answered (exit 1)."""

from __future__ import annotations

from fashion_common.errors import EXIT_USAGE, FashionError


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

"""HTTP requests as they are answered, and answers as bytes (RFC 9112, https://www.rfc-editor.org/rfc/rfc9112)."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import lru_cache
from http import HTTPStatus
from typing import NamedTuple

from serving.apis.status import Code

JSON = b"application/json"
_REASONS = {status.value: status.phrase for status in HTTPStatus}


@dataclass(slots=True)
class HttpRequest:
    """A whole request. target: as it was sent, without scheme and host. headers: by lower-case name.

    keeps_alive: whether its connection may live on. is_old: HTTP/1.0, which takes that for an exception. caller: the
    name of its token, if any.
    """

    method: str
    target: str
    headers: Mapping[bytes, bytes]
    body: bytes | bytearray
    keeps_alive: bool
    is_old: bool
    caller: str = ""

    def take_body(self) -> bytes | bytearray:
        """The body, which the request holds no more."""
        body, self.body = self.body, b""
        return body


class Refusal(Exception):  # noqa: N818 - an answer, to be caught where it is sent
    """What HTTP, or a limit, forbids in a request; its connection ends with the answer.

    method, target: of the request, as far as they are known. caller: the name of its token, if any. challenge: what
    `WWW-Authenticate` says, if anything.
    """

    def __init__(self, status: int, text: str, caller: str = "", challenge: str = "") -> None:
        super().__init__(text)
        self.status = status
        self.method = ""
        self.target = ""
        self.caller = caller
        self.challenge = challenge

    @property
    def code(self) -> Code:
        """What the status stands for: of those that are HTTP's own, that the request was wrong."""
        code = Code.of_http_status(self.status)
        return Code.INVALID_ARGUMENT if code == Code.UNKNOWN else code


class Answer(NamedTuple):
    """An answer: the lines that are its own among the headers, each with its end, and the body."""

    status: int
    body: bytes | bytearray
    content_type: bytes = JSON
    headers: bytes = b""

    def data(self, request: HttpRequest | None, date: bytes, *, closes: bool) -> tuple[bytes, bytes | bytearray]:
        """Head and body to send. request: the one that is answered, or None. closes: whether the connection ends."""
        connection = b""
        if closes:
            connection = b"connection: close\r\n"
        elif request is not None and request.is_old:
            connection = b"connection: keep-alive\r\n"
        head = b"HTTP/1.1 %s\r\ncontent-type: %s\r\ncontent-length: %d\r\ndate: %s\r\n%s%s\r\n" % (
            _status_text(self.status), self.content_type, len(self.body), date,
            self.headers, connection,
        )  # fmt: skip
        # RFC 9110, section 9.3.2: HEAD is told the length of what GET would give.
        return head, b"" if request is not None and request.method == "HEAD" else self.body


@lru_cache(64)
def _status_text(status: int) -> bytes:
    return f"{status} {_REASONS.get(status, '')}".encode()

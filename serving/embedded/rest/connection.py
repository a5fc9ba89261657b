"""One REST connection as a state: takes the client's bytes, gives whole requests.

It knows no socket, task, timer or clock; `protocol.py` has those. HTTP/1.1's rules: RFC 9112,
https://www.rfc-editor.org/rfc/rfc9112. The parser is llhttp, strict as it comes (https://github.com/nodejs/llhttp).
"""

from __future__ import annotations

import enum
import re
from collections import deque
from collections.abc import Callable, Mapping
from typing import cast

import httptools

from fashion_common.trace_context import FIELDS
from serving.embedded.admission.budget import Budget, Holding
from serving.embedded.limits import Limits
from serving.embedded.rest.messages import HttpRequest, Refusal
from serving.errors import ServingError

# The requests that a client may send before it has read the first answer.
MAX_PIPELINED = 64
# What a request takes beside its bytes: objects, headers as a mapping.
_OVERHEAD = 1024
# RFC 9110, section 5.3: each header with 32 bytes on top, as HTTP/2 counts them.
_HEADER_OVERHEAD = 32
# What the chunks of a body may take beside it.
_MAX_CHUNK_OVERHEAD = 2**20
_ABSOLUTE = re.compile(rb"https?://[^/?]*", re.IGNORECASE)
_CONTINUE = b"HTTP/1.1 100 Continue\r\n\r\n"

Admit = Callable[[str, str, Mapping[bytes, bytes]], str]


class Phase(enum.Enum):
    """What the client is due to send next."""

    REQUEST = "a request"
    HEAD = "the rest of a request's headers"
    BODY = "the rest of a request's body"
    NOTHING = "nothing more is taken"


class Connection:
    """The server's side of an HTTP/1.1 connection.

    Call `receive_data` with what arrives, answer `requests` in their order, then `refusal` if there is one; send
    `interim` at once. What waits to be answered, or has not arrived whole, holds bytes of the budget.

    refused: called when a refusal comes up while no data is taken: others needed the bytes. admit: whether a request
    with a method, a target and headers is answered, before anything of its body is taken: the caller's name, or it
    raises Refusal.
    """

    def __init__(self, limits: Limits, budget: Budget, refused: Callable[[], None], admit: Admit) -> None:
        self._limits = limits
        self._budget = budget
        self._holding = Holding(self._give_up)
        self._refused = refused
        self._admit = admit
        self._parser = httptools.HttpRequestParser(self)
        self.requests: deque[HttpRequest] = deque()
        self.refusal: Refusal | None = None
        self.interim = b""
        self.phase = Phase.REQUEST
        # Of the request that arrives: its target, headers, their size, the body, and how much of all that came.
        self._is_old = False
        self._method = ""
        self._target = b""
        self._headers: dict[bytes, bytes] = {}
        self._hosts = 0
        self._caller = ""
        self._head_bytes = 0
        self._body: bytes | bytearray = b""
        self._received = 0
        self._complete = 0

    def receive_data(self, data: bytes) -> None:
        """Takes bytes of the client."""
        if self.phase == Phase.NOTHING:
            return
        complete = self._complete
        try:
            self._feed(data)
            if complete == self._complete:
                self._count(len(data))
            self._hold()
        except Refusal as refusal:
            self._refuse(refusal)

    def next_request(self) -> HttpRequest:
        """Takes the first of `requests`: it holds nothing any more."""
        request = self.requests.popleft()
        self._hold()
        return request

    def end(self) -> None:
        """Takes nothing more, and holds nothing."""
        self.phase = Phase.NOTHING
        self.interim = self._body = b""
        self._budget.release(self._holding)

    def lose(self) -> None:
        """The transport is gone. Whatever refers to this connection goes, so that no cycle is left."""
        self.end()
        self.requests.clear()
        self._budget.end(self._holding)
        self._refused, self._admit = _nobody, _everybody
        del self._parser

    def time_out(self) -> None:
        """What was due has not come in time."""
        self._refuse(Refusal(408, f"The client did not send {self.phase.value} in time: the connection is closed"))

    # The parser's callbacks

    def on_message_begin(self) -> None:
        """A request begins."""
        if len(self.requests) >= MAX_PIPELINED:
            raise Refusal(429, f"More than {MAX_PIPELINED} requests wait for their answers on one connection")
        self.phase = Phase.HEAD
        self._method, self._target, self._headers, self._body = "", b"", {}, b""
        self._hosts = self._head_bytes = self._received = 0

    def on_url(self, piece: bytes) -> None:
        """A piece of the target."""
        self._target += piece
        self._count_head(len(piece))

    def on_header(self, name: bytes, value: bytes) -> None:
        """A header; of the body's trailers, none is wanted."""
        self._count_head(len(name) + len(value) + _HEADER_OVERHEAD)
        if self.phase == Phase.HEAD:
            name = name.lower()
            self._hosts += name == b"host"
            if name in self._headers and name in FIELDS:
                # A list may come in several fields (RFC 9110, section 5.2); several traceparents are none.
                value = b"%s,%s" % (self._headers[name], value)
            self._headers[name] = value

    def on_headers_complete(self) -> None:
        """The headers are there: checks what need not wait for the body."""
        self._method = self._parser.get_method().decode("ascii")
        if not self._target.startswith(b"/") and (absolute := _ABSOLUTE.match(self._target)) is not None:
            # RFC 9112, section 3.2.2.
            self._target = self._target[absolute.end() :] or b"/"
        self._is_old = self._parser.get_http_version() == "1.0"
        # RFC 9112, section 3.2.
        if self._hosts != 1 and (self._hosts or not self._is_old):
            raise Refusal(400, f"The request has {self._hosts} Host headers: HTTP/1.1 wants one")
        coding = self._headers.get(b"transfer-encoding", b"chunked")
        if coding.lower() != b"chunked":
            raise Refusal(501, "The transfer coding is not known here: send chunked, or a Content-Length")
        self._caller = self._admit(self._method, self._target.decode("latin-1"), self._headers)
        self._check_length(int(self._headers.get(b"content-length", b"0")))
        self.phase = Phase.BODY
        if self._headers.get(b"expect", b"").lower() == b"100-continue" and not self.requests:
            self.interim = _CONTINUE

    def on_body(self, piece: bytes) -> None:
        """A piece of the body."""
        self._check_length(len(self._body) + len(piece))
        if not self._body:
            self._body = piece
        else:
            if isinstance(self._body, bytes):
                self._body = bytearray(self._body)
            self._body += piece

    def on_message_complete(self) -> None:
        """The request is whole."""
        parser = self._parser
        if parser.should_upgrade():
            # `_decline_upgrade` feeds it again.
            return
        self._complete += 1
        request = HttpRequest(
            self._method,
            self._target.decode("latin-1"),
            self._headers,
            self._body,
            parser.should_keep_alive(),
            self._is_old,
            self._caller,
        )
        self.requests.append(request)
        self.interim = b""
        self._body = b""
        self.phase = Phase.REQUEST if request.keeps_alive else Phase.NOTHING

    def _feed(self, data: bytes) -> None:
        while data and self.phase != Phase.NOTHING:
            try:
                self._parser.feed_data(data)
                data = b""
            except httptools.HttpParserUpgrade as upgrade:
                data = self._decline_upgrade() + data[upgrade.args[0] :]
            except httptools.HttpParserCallbackError as error:
                raise cast("Refusal", error.__context__) from None
            except httptools.HttpParserError as error:
                # After a request that ends its connection, whatever comes is an error.
                if self.requests and not self.requests[-1].keeps_alive:
                    return
                raise _malformed(self._parser.get_http_version(), str(error)) from error

    def _decline_upgrade(self) -> bytes:
        """The request's head without its offer, for a new parser: this one would take the body for another protocol.

        RFC 9110, section 7.8: a server may ignore an upgrade. Java's clients offer h2c with every first request.
        """
        if self._method == "CONNECT":
            raise Refusal(501, "CONNECT is for proxies, which this server is not")
        self._parser = httptools.HttpRequestParser(self)
        closes = b"close" in self._headers[b"connection"].lower()
        headers = self._headers | {b"connection": b"close" if closes else b"keep-alive"}
        del headers[b"upgrade"]
        lines = (b"%s: %s\r\n" % header for header in headers.items())
        return b"%s %s HTTP/1.1\r\n%s\r\n" % (self._method.encode(), self._target, b"".join(lines))

    def _count(self, size: int) -> None:
        """Counts what the parser keeps to itself: a header without an end, the chunks of a body.

        What comes in one piece with the end of the request before is not counted: a read's worth at most.
        """
        self._received += size
        if self.phase == Phase.HEAD and self._received > self._limits.max_header_bytes:
            raise self._head_too_long()
        if self.phase == Phase.BODY and self._received > self._limits.max_body_bytes + _MAX_CHUNK_OVERHEAD:
            raise self._body_too_long()

    def _count_head(self, size: int) -> None:
        self._head_bytes += size
        if self._head_bytes > self._limits.max_header_bytes:
            raise self._head_too_long()

    def _check_length(self, size: int) -> None:
        if size > self._limits.max_body_bytes:
            raise self._body_too_long()

    def _head_too_long(self) -> Refusal:
        return Refusal(431, f"The request's headers take more than {self._limits.max_header_bytes} bytes")

    def _body_too_long(self) -> Refusal:
        limit = self._limits.max_body_bytes
        return Refusal(429, f"The request body is larger than {limit} bytes, the server's --max_request_bytes")

    def _hold(self) -> None:
        """Holds as many bytes of the budget as are kept, but for one whole request. Raises Refusal."""
        is_partial = self.phase in (Phase.HEAD, Phase.BODY)
        if not (is_partial or self._holding.size or len(self.requests) > 1):
            return
        size = sum(len(request.body) + _OVERHEAD for request in self.requests)
        if is_partial:
            size += max(self._received, self._head_bytes + len(self._body))
        if not size:
            self._budget.release(self._holding)
            return
        try:
            self._budget.hold(self._holding, size - self._holding.size)
        except ServingError as error:
            raise Refusal(error.code.http_status, str(error)) from error

    def _refuse(self, refusal: Refusal) -> None:
        # Requests before it are answered first. Not as it was raised: its traceback keeps what was read last, and this
        # connection, until the garbage collector comes by.
        self.refusal = refusal = Refusal(refusal.status, str(refusal), refusal.caller, refusal.challenge)
        if self._method:
            refusal.method, refusal.target = self._method, self._target.decode("latin-1")
        self.end()

    def _give_up(self, error: ServingError) -> None:
        if self.phase != Phase.NOTHING:
            self._refuse(Refusal(error.code.http_status, str(error)))
            self._refused()


def _nobody() -> None:
    """Who is told of refusals when the transport is gone."""


def _everybody(_method: str, _target: str, _headers: Mapping[bytes, bytes]) -> str:
    """Who lets everybody in."""
    return ""


def _malformed(version: str, reason: str) -> Refusal:
    if version.startswith("2"):
        return Refusal(505, "This is the REST port: it speaks HTTP/1.1 only. gRPC is on the other one (--port)")
    return Refusal(400, f"The request is not HTTP/1.1: {reason}")

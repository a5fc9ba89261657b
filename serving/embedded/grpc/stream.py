"""One call on a gRPC connection, as its handler sees it, and how far it has come."""

from __future__ import annotations

from collections import deque
from collections.abc import AsyncIterator, Awaitable, Callable
from typing import NamedTuple, Protocol

from fashion_common.trace_context import TraceContext
from serving.apis.status import Code
from serving.embedded.access.tokens import Gate
from serving.embedded.admission.budget import Holding
from serving.embedded.grpc.messages import Head, Message, MessageReader


class Method(NamedTuple):
    """How a path is answered: by `unary`, one message to one, or by `streaming`, messages to messages.

    gate: who may ask, before anything of a request's body is read; None for everybody.
    """

    unary: Callable[[Message, Stream], Awaitable[bytes]] | None = None
    streaming: Callable[[AsyncIterator[Message], Stream], AsyncIterator[bytes]] | None = None
    gate: Gate | None = None


class CallRecord(Protocol):
    """What a handler keeps of its call. code: set for one that is cancelled because the call has failed otherwise."""

    code: Code

    @property
    def request_id(self) -> str:
        """What an error names it by."""

    @property
    def trace(self) -> TraceContext:
        """Its place in a distributed trace."""


class Stream:
    """One call.

    For its handler: `path`; `deadline`, by the clock whose time the connection is told; `metadata`, the request's
    headers; `peer()`, who asks, and `caller`, the name of its token; `trailers`, a header block that goes back beside
    the status; `call`, which the handler sets. The rest is the connection's own.
    """

    __slots__ = (
        "call", "caller", "content_length", "credit", "deadline", "final_block", "has_headers", "header_bytes", "input",
        "input_ended", "is_over", "is_queued", "is_whole", "message", "metadata", "method", "number", "output", "path",
        "peer", "pending", "reader", "received_bytes", "trailers", "untaken_bytes", "untaken_messages",
    )  # fmt: skip

    def __init__(
        self, number: int, method: Method, head: Head, reader: MessageReader, peer: Callable[[], str], now: float
    ) -> None:
        self.number = number
        self.method = method
        self.path = head.path
        self.metadata = head.metadata
        self.header_bytes = head.size
        self.deadline = None if head.timeout is None else now + head.timeout
        self.peer = peer
        self.caller = ""
        self.trailers = b""
        self.call: CallRecord | None = None
        # Answered or cancelled.
        self.is_over = False
        # Input: its bytes, those that the headers promise, the message of a unary call until its handler takes it, the
        # messages of a streaming one that its handler has not taken, whether a unary call's request is whole, what
        # waits for the peer to send the rest.
        self.reader = reader
        self.received_bytes = 0
        self.content_length = head.content_length
        self.message: Message | None = None
        self.untaken_messages = 0
        self.untaken_bytes = 0
        self.input: Holding | None = None
        self.input_ended = False
        self.is_whole = False
        # Output: whether its headers are sent, the messages that wait, the trailers that follow them, whether it is in
        # the queue for the connection's window, by how many bytes its own window differs from a new stream's, what
        # waits for the peer to read.
        self.has_headers = False
        self.pending: deque[memoryview] = deque()
        self.output: Holding | None = None
        self.final_block: bytes | None = None
        self.is_queued = False
        self.credit = 0

    def take_message(self) -> Message:
        """The message of a unary call, once: nothing but its handler keeps it then."""
        message, self.message = self.message, None
        assert message is not None
        return message

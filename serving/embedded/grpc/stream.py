"""One call on a gRPC connection, from both sides: what its handler sees, and what waits to be sent."""

from __future__ import annotations

import asyncio
import time
from collections import deque
from collections.abc import AsyncIterator, Awaitable, Callable
from typing import NamedTuple

from serving.embedded.grpc.messages import Head, MessageReader
from serving.embedded.observe.calls import Call


class Method(NamedTuple):
    """How a path is answered: by `unary`, one message to one, or by `streaming`, messages to messages."""

    unary: Callable[[bytes, Stream], Awaitable[bytes]] | None = None
    streaming: Callable[[AsyncIterator[bytes], Stream], AsyncIterator[bytes]] | None = None


class Stream:
    """One call.

    For its handler: `path`; `deadline` by `time.monotonic`; `metadata`, the request's headers; `peer()`, who asks;
    `trailers`, what goes back beside the status; `call`, the interceptor's record once the handler has begun. The rest
    belongs to the connection.
    """

    __slots__ = (
        "call", "credit", "deadline", "drained", "ended", "headed", "incoming", "length", "metadata", "method",
        "number", "path", "peer", "pending", "queued", "reader", "received", "taken", "task", "trailers",
    )  # fmt: skip

    def __init__(self, number: int, method: Method, head: Head, reader: MessageReader, peer: Callable[[], str]) -> None:
        self.number = number
        self.method = method
        self.path = head.path
        self.metadata = head.metadata
        self.deadline = None if head.timeout is None else time.monotonic() + head.timeout
        self.peer = peer
        self.trailers = b""
        self.call: Call | None = None
        self.reader = reader
        # What has come: the one message of a unary call, or the queue of a streaming one; None ends the queue.
        self.received: bytes | None = None
        self.incoming: asyncio.Queue[bytes | None] | None = None
        self.ended = False
        # The bytes that its headers promise and those that have come.
        self.length = head.length
        self.taken = 0
        self.task: asyncio.Task[None] | None = None
        # What is to go: whether its headers went, what the peer's windows hold up, whether it is among those whose turn
        # comes, and by how many bytes its window differs from a new one's.
        self.headed = False
        self.queued = False
        self.credit = 0
        self.pending: deque[memoryview] = deque()
        self.drained: asyncio.Future[None] | None = None

    async def messages(self) -> AsyncIterator[bytes]:
        """The messages of a streaming call, as they come."""
        assert self.incoming is not None
        while (message := await self.incoming.get()) is not None:
            yield message

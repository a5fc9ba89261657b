"""What a connection's bytes mean to the methods: the events of `Connection`."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TypeAlias

from serving.embedded.grpc.stream import Stream
from serving.errors import ServingError


@dataclass(slots=True)
class RequestReceived:
    """The one message of a unary call is complete, and so is its input."""

    stream: Stream
    message: bytes


@dataclass(slots=True)
class StreamOpened:
    """A streaming call begins."""

    stream: Stream


@dataclass(slots=True)
class MessageReceived:
    """A message of a streaming call. `Calls.message_taken` says that its handler has it."""

    stream: Stream
    message: bytes


@dataclass(slots=True)
class InputEnded:
    """A streaming call has no more messages."""

    stream: Stream


@dataclass(slots=True)
class MessagesSent:
    """All messages that a streaming call has to send are given to the transport: there is room for the next."""

    stream: Stream


@dataclass(slots=True)
class CallRejected:
    """The connection has answered a call with an error; its handler may not run, or not run any longer."""

    stream: Stream
    error: ServingError


@dataclass(slots=True)
class CallCancelled:
    """Nobody waits for the answer of a call any more: its handler may be stopped."""

    stream: Stream


@dataclass(slots=True)
class ConnectionClosed:
    """The connection is over: the transport is closed once `data_to_send` has given the last bytes."""


Event: TypeAlias = (
    RequestReceived
    | StreamOpened
    | MessageReceived
    | InputEnded
    | MessagesSent
    | CallRejected
    | CallCancelled
    | ConnectionClosed
)

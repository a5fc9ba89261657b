"""What a connection's bytes mean to those who run the methods: the events of `Connection`."""

from __future__ import annotations

from dataclasses import dataclass

from serving.embedded.grpc.messages import Message
from serving.embedded.grpc.stream import Stream
from serving.errors import ServingError


@dataclass(slots=True)
class Event:
    """Something that happened to a call."""

    stream: Stream


@dataclass(slots=True)
class RequestReceived(Event):
    """The one message of a unary call is complete, and so is its input: `Stream.take_message` has it."""


class StreamOpened(Event):
    """A streaming call begins."""


@dataclass(slots=True)
class MessageReceived(Event):
    """A message of a streaming call. `Calls.message_taken` says that its handler has it."""

    message: Message


class InputEnded(Event):
    """A streaming call has no more messages."""


class MessagesSent(Event):
    """All messages that a streaming call has to send are on their way: there is room for the next."""


@dataclass(slots=True)
class CallRejected(Event):
    """The connection has answered a call with an error; its handler may not run, or not run any longer."""

    error: ServingError


class CallCancelled(Event):
    """Nobody waits for the answer of a call any more: its handler may be stopped."""

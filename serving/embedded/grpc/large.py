"""A large request on its way from bytes to a message: unpacked, measured and parsed in a thread, within the budget."""

from __future__ import annotations

import threading
from collections.abc import Generator
from functools import partial
from typing import Any, cast

from google.protobuf.descriptor import Descriptor
from google.protobuf.message import DecodeError, Message

from serving.embedded.grpc import messages, wire
from serving.embedded.observe.calls import Call
from serving.embedded.offload import LARGE_BYTES, Offload, work_size
from serving.errors import InvalidArgument

# As much is unpacked at a time, the second from the second time on.
_FIRST_BYTES = LARGE_BYTES
_STEP_BYTES = 2**22
# The parser holds the interpreter: with one at a time, whoever waits for it waits for one message at most.
_PARSING = threading.Lock()


class Large:
    """The bytes of one request. As a `with` block it lets go of them, whatever becomes of the call. size: of them."""

    def __init__(self, message: messages.Message) -> None:
        self._message: messages.Message | bytearray | None = message
        self._measure: Generator[None, None, wire.Cost] | None = None
        self.size = messages.message_bytes(message)

    def __enter__(self) -> Large:
        return self

    def __exit__(self, *_: object) -> None:
        # Work that is still queued for a thread has this object only.
        if isinstance(self._message, messages.Parcel):
            self._message.drop()
        self._message = None
        self._measure = None

    async def request(self, request_class: type[Message], max_elements: int, offload: Offload, call: Call) -> Any:
        """The message, for which the call is charged; its bytes, for which it was, are let go of.

        Raises ServingError: ResourceExhausted for too many elements, or bytes.
        """
        if isinstance(self._message, messages.Parcel):
            await self._unpack(self._message, offload, call)
        try:
            cost = await self._cost(request_class, max_elements, offload)
            call.charge(cost.nbytes)
            request = await offload.run(work_size(self.size, cost.elements), partial(self._parse, request_class))
        except DecodeError as error:
            raise broken(error) from error
        call.refund(self.size)
        return request

    async def _unpack(self, parcel: messages.Parcel, offload: Offload, call: Call) -> None:
        size, step = 0, _FIRST_BYTES
        while not parcel.is_unpacked:
            call.charge(step)
            count = await offload.run(step, partial(parcel.unpack, step))
            call.refund(step - count)
            size += count
            step = _STEP_BYTES
        if size:
            call.refund(parcel.size)
            self.size = size
        self._message = await offload.run(work_size(self.size), parcel.joined)

    async def _cost(self, request_class: type[Message], max_elements: int, offload: Offload) -> wire.Cost:
        """A thread measures in steps: beside one that runs for long, the loop waits at each of thousands of sockets."""
        self._measure = wire.cost(self._data(), cast("Descriptor", request_class.DESCRIPTOR), max_elements)
        cost = self._step()
        while cost is None:
            cost = await offload.run(self.size, self._step)
        return cost

    def _step(self) -> wire.Cost | None:
        """What the message costs, once that is known."""
        measure = self._measure
        if measure is None:
            # The call is over, and nobody waits.
            return None
        try:
            next(measure)
        except StopIteration as end:
            cost: wire.Cost = end.value
            return cost
        return None

    def _parse(self, request_class: type[Message]) -> Message:
        with _PARSING:
            # A bytearray will do, whatever its type says.
            message = request_class.FromString(cast("bytes", self._data()))
        self._message = None
        return message

    def _data(self) -> bytes | bytearray:
        # None once the call is over, when nobody waits for the result.
        return self._message if isinstance(self._message, (bytes, bytearray)) else b""


def broken(error: DecodeError) -> InvalidArgument:
    """The error of a request that cannot be parsed."""
    return InvalidArgument(f"The request is not the method's message: {error}")

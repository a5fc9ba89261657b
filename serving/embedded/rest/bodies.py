"""The way of a body between its bytes and its arrays: a large one away from the event loop, and within the budget."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from functools import partial
from typing import TypeVar

from serving.apis import tensors
from serving.apis.tensors import Array
from serving.embedded.limits import Limits
from serving.embedded.observe.calls import Call
from serving.embedded.offload import LARGE_BYTES, Offload
from serving.embedded.rest.json import outputs, values
from serving.embedded.rest.json.size import json_size
from serving.embedded.rest.json.values import Value
from serving.embedded.rest.messages import HttpRequest
from serving.errors import ResourceExhausted

# A message of examples takes so many times what the JSON values take that it is made of.
_MESSAGE_FACTOR = 2

T = TypeVar("T")


class Document:
    """A JSON object that a body holds. value: empty once it is read. size: of the body, in bytes.

    no_booleans: whether it is known to hold neither `true` nor `false`.
    """

    __slots__ = ("no_booleans", "size", "value")

    def __init__(self, value: dict[str, Value], size: int, *, no_booleans: bool) -> None:
        self.value = value
        self.size = size
        self.no_booleans = no_booleans


class Bodies:
    """Reads and writes bodies; each call is charged for what that takes."""

    def __init__(self, offload: Offload, limits: Limits) -> None:
        self._offload = offload
        self._limits = limits

    async def parse(self, request: HttpRequest, call: Call) -> Document:
        """The JSON object in a body, which the request lets go of. Raises ServingError."""
        body = request.take_body()
        size = len(body)
        if size > min(LARGE_BYTES, self._limits.max_request_elements):
            await self._charge(body, call)
        if size <= LARGE_BYTES:
            value = values.parse_object(body)
        else:
            value = await self._offload.run(size, partial(values.parse_object, body))
        return Document(value, size, no_booleans=not _has_booleans(body))

    async def read(self, document: Document, call: Call, convert: Callable[[Mapping[str, Value]], T]) -> T:
        """What `convert` makes of a document, which is let go of. Raises ServingError."""
        if document.size <= LARGE_BYTES:
            return _converted(document, convert)
        result = await self._offload.run(document.size, partial(_converted, document, convert))
        # What was made of it is smaller than what it was: the call goes on being charged for its body.
        call.refund(max(0, call.size - document.size))
        return result

    async def read_message(self, document: Document, call: Call, convert: Callable[[Mapping[str, Value]], T]) -> T:
        """The message that `convert` makes of a document, which is let go of. Raises ServingError."""
        if document.size <= LARGE_BYTES:
            return _converted(document, convert)
        size = _MESSAGE_FACTOR * call.size
        call.charge(size)
        result = await self._offload.run(document.size, partial(_converted, document, convert))
        call.refund(call.size - size)
        return result

    async def written(self, arrays: Mapping[str, Array], call: Call, *, by_rows: bool) -> bytes | bytearray:
        """The body of a Predict answer, for which the call is charged where it is large. Raises ServingError."""
        size = sum(map(tensors.array_bytes, arrays.values()))
        if size <= LARGE_BYTES:
            return encoded(outputs.outputs_json(arrays, row_format=by_rows))
        call.charge(size + outputs.outputs_bytes(arrays, row_format=by_rows))
        return await self._offload.run(size, partial(_put_together, outputs.outputs_pieces(arrays, row_format=by_rows)))

    async def text(self, size: int, write: Callable[[], str]) -> bytes:
        """The body that `write` gives, as bytes. size: in bytes of what it writes about. Raises ServingError."""
        return await self._offload.run(size, lambda: encoded(write()))

    async def _charge(self, body: bytes | bytearray, call: Call) -> None:
        """Charges a call for what a large body takes once it is parsed. Raises ResourceExhausted."""
        limits = self._limits
        if len(body) > limits.max_unpacked_bytes:
            raise ResourceExhausted(
                f"A JSON body of {len(body)} bytes is too large: the limit is {limits.max_unpacked_bytes}, send gRPC"
            )
        most = limits.max_request_elements
        elements, parsed_bytes = await self._offload.run(len(body), partial(json_size, body, most))
        if elements > most:
            raise ResourceExhausted(
                f"The request has more than {most} JSON values, the server's --max_request_elements: send fewer rows "
                "at a time, or send gRPC"
            )
        call.charge(parsed_bytes)


def encoded(text: str) -> bytes:
    """A text as a body."""
    return text.encode("utf-8", "surrogateescape")


def _put_together(pieces: Iterable[str]) -> bytearray:
    body = bytearray()
    for piece in pieces:
        body += encoded(piece)
    return body


def _has_booleans(body: bytes | bytearray) -> bool:
    """Whether `true` or `false` is anywhere in a body. Its letters are looked for first: that takes a tenth of it."""
    return (b"u" in body and b"true" in body) or (b"l" in body and b"false" in body)


def _converted(document: Document, convert: Callable[[Mapping[str, Value]], T]) -> T:
    """What is made of a document, which is freed here: freeing a large one takes time too."""
    value, document.value = document.value, {}
    return convert(value)

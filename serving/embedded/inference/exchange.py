"""What is kept of a request and its answer: arrays, which become bytes when they are recorded."""

from __future__ import annotations

import functools
from collections.abc import Mapping
from functools import partial

from google.protobuf.message import Message

from serving.apis import tensors
from serving.apis.messages import ModelSpec, PredictRequest
from serving.apis.tensors import Array
from serving.embedded.admission.samples import Sample, Samples
from serving.embedded.inference.model import Signature

# PredictRequest.inputs, PredictResponse.outputs, `input` of the other requests, Input.example_list and
# ExampleList.examples, as on the wire.
_INPUTS, OUTPUTS, _INPUT, _EXAMPLE_LIST, _EXAMPLE = b"\x12", b"\x0a", b"\x12", b"\x0a", b"\x0a"
# A slice that is so much smaller than what it keeps alive is copied.
_MAX_SLICE_FACTOR = 2

# A request's samples.
Exchange = Sample | Samples


class Tensors:
    """The tensors of a map, by alias. Called, it gives the bytes of its entries, and `end`.

    tag: of the map. arrays: with their DataTypes. tensor_content: whether numbers are raw bytes.
    """

    def __init__(
        self, tag: bytes, arrays: Mapping[str, tuple[Array, int]], end: bytes = b"", *, tensor_content: bool = False
    ) -> None:
        self._tag = tag
        self._arrays = arrays
        self._end = end
        self._tensor_content = tensor_content

    @property
    def arrays(self) -> dict[str, Array]:
        """The arrays alone."""
        return {alias: array for alias, (array, _) in self._arrays.items()}

    @property
    def size(self) -> int:
        """The bytes of the arrays."""
        return sum(tensors.array_bytes(array) for array, _ in self._arrays.values())

    def __call__(self) -> list[bytes]:
        """The bytes, in pieces."""
        pieces: list[bytes] = []
        for alias, (array, dtype) in self._arrays.items():
            tensor = tensors.tensor_proto_pieces(array, dtype, tensor_content=self._tensor_content)
            pieces.append(map_entry(self._tag, alias, sum(map(len, tensor))))
            pieces += tensor
        return [*pieces, self._end]


def predict_head(request: PredictRequest) -> bytes:
    """The bytes of a Predict request without its inputs."""
    if request.output_filter:
        spec, output_filter = request.model_spec, request.output_filter
        return PredictRequest(model_spec=spec, output_filter=output_filter).SerializeToString()
    return _spec_field(request.model_spec.SerializeToString())


def ask_predict(exchange: Exchange, head: bytes, signature: Signature, feeds: Mapping[str, Array]) -> None:
    """Takes a Predict request. head: its bytes without the inputs. feeds: by tensor name."""
    arrays = {alias: (_own(feeds[tensor]), dtype) for alias, tensor, dtype in signature.inputs if tensor in feeds}
    inputs = Tensors(_INPUTS, arrays, tensor_content=True)
    exchange.ask("PredictRequest", head, inputs.size, inputs)


def answer_predict(
    exchange: Exchange, signature: Signature, outputs: Mapping[str, Array], response: bytes | None = None
) -> None:
    """Takes the answer to a Predict request. outputs: by alias. response: its bytes, where they are at hand."""
    if response is not None and not exchange.wants_arrays:
        exchange.answer(signature.spec, len(response), lambda: [response])
        return
    arrays = {alias: (_own(outputs[alias]), signature.output_types[alias]) for alias in sorted(outputs)}
    values = Tensors(OUTPUTS, arrays, signature.spec_field)
    exchange.answer(signature.spec, values.size, values)


def ask_examples(exchange: Exchange, request: Message, examples: Array) -> None:
    """Takes a request of examples. request: without its input. examples: strings [N] of serialized tf.Example."""
    head = request.SerializeToString()
    exchange.ask(request.DESCRIPTOR.name, head, tensors.array_bytes(examples), partial(_input, examples))


def answer_examples(exchange: Exchange, spec: ModelSpec, size: int, response: Message) -> None:
    """Takes the answer to a request of examples."""
    exchange.answer(spec, size, lambda: [response.SerializeToString(deterministic=True)])


@functools.lru_cache(256)
def _spec_field(spec: bytes) -> bytes:
    """PredictRequest.model_spec as on the wire."""
    return b"\x0a" + tensors.varint(len(spec)) + spec


def _own(array: Array) -> Array:
    """The array, or a copy where it keeps much more memory than it has: a row of a merged batch does."""
    base = array.base
    return array.copy() if base is not None and getattr(base, "nbytes", 0) > _MAX_SLICE_FACTOR * array.nbytes else array


@functools.lru_cache(1024)
def map_entry(tag: bytes, name: str, size: int) -> bytes:
    """The beginning of an entry of a map of messages, before the bytes of its message; an entry has key = 1, value = 2.

    tag: of the map. https://protobuf.dev/programming-guides/encoding/#maps
    """
    key = name.encode()
    begin = b"\x0a" + tensors.varint(len(key)) + key + b"\x12" + tensors.varint(size)
    return tag + tensors.varint(len(begin) + size) + begin


def _input(examples: Array) -> list[bytes]:
    fields = [piece for each in examples for piece in (_EXAMPLE, tensors.varint(len(each)), each)]
    size = sum(map(len, fields))
    head = _EXAMPLE_LIST + tensors.varint(size)
    return [_INPUT, tensors.varint(len(head) + size), head, *fields]

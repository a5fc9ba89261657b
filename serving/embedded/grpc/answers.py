"""The bytes of an answer to Predict."""

from __future__ import annotations

import functools

from serving.apis import tensors
from serving.apis.tensors import Array
from serving.embedded.inference.model import Signature


def predict_response(signature: Signature, outputs: dict[str, Array], *, tensor_content: bool) -> bytes:
    """A PredictResponse as it is on the wire; of `outputs`, by name, nothing is left.

    Message objects would take three times as long. Fields are those of predict.proto: outputs = 1, model_spec = 2, and
    a map's entries have key = 1, value = 2 (https://protobuf.dev/programming-guides/encoding/#maps).
    """
    types = signature.output_types
    parts = [signature.spec_field]
    while outputs:
        name, array = outputs.popitem()
        pieces = tensors.tensor_proto_pieces(array, types[name], tensor_content=tensor_content)
        parts.append(_entry(name, sum(map(len, pieces))))
        parts += pieces
    return b"".join(parts)


@functools.lru_cache(1024)
def _entry(name: str, size: int) -> bytes:
    """The beginning of an output's entry, before the bytes of its TensorProto."""
    key = name.encode()
    begin = b"\x0a" + tensors.varint(len(key)) + key + b"\x12" + tensors.varint(size)
    return b"\x0a" + tensors.varint(len(begin) + size) + begin

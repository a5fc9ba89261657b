"""The bytes of an answer to Predict."""

from __future__ import annotations

from serving.apis import tensors
from serving.apis.tensors import Array
from serving.embedded.inference.exchange import OUTPUTS, map_entry
from serving.embedded.inference.model import Signature


def predict_response(signature: Signature, outputs: dict[str, Array], *, tensor_content: bool) -> bytes:
    """A PredictResponse as it is on the wire; of `outputs`, by name, nothing is left.

    Message objects would take three times as long. Fields are those of predict.proto: outputs = 1, model_spec = 2.
    """
    types = signature.output_types
    parts = [signature.spec_field]
    while outputs:
        name, array = outputs.popitem()
        pieces = tensors.tensor_proto_pieces(array, types[name], tensor_content=tensor_content)
        parts.append(map_entry(OUTPUTS, name, sum(map(len, pieces))))
        parts += pieces
    return b"".join(parts)

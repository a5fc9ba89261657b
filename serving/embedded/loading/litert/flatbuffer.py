"""What is in a model file, for one that an interpreter has verified.

https://github.com/google-ai-edge/LiteRT/blob/main/tflite/converter/schema/schema.fbs
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any, NamedTuple

import numpy as np
from ai_edge_litert import schema_py_generated as schema
from flatbuffers import flexbuffers

from serving.apis import messages
from serving.apis.messages import SignatureDef

# What TensorFlow's lite/tools/signature writes, and TF Serving reads: a FlexBuffer's map of serialized SignatureDefs.
_SIGNATURES = b"signature_defs_metadata"
_LOOPS = {schema.BuiltinOperator.WHILE, schema.BuiltinOperator.STABLEHLO_WHILE}
_TYPES = {
    schema.TensorType.FLOAT32: messages.DT_FLOAT,
    schema.TensorType.FLOAT16: messages.DT_HALF,
    schema.TensorType.BFLOAT16: messages.DT_BFLOAT16,
    schema.TensorType.FLOAT64: messages.DT_DOUBLE,
    schema.TensorType.INT8: messages.DT_INT8,
    schema.TensorType.INT16: messages.DT_INT16,
    schema.TensorType.INT32: messages.DT_INT32,
    schema.TensorType.INT64: messages.DT_INT64,
    schema.TensorType.UINT8: messages.DT_UINT8,
    schema.TensorType.UINT16: messages.DT_UINT16,
    schema.TensorType.UINT32: messages.DT_UINT32,
    schema.TensorType.UINT64: messages.DT_UINT64,
    schema.TensorType.COMPLEX64: messages.DT_COMPLEX64,
    schema.TensorType.COMPLEX128: messages.DT_COMPLEX128,
    schema.TensorType.BOOL: messages.DT_BOOL,
    schema.TensorType.STRING: messages.DT_STRING,
}


class Tensor(NamedTuple):
    """An input or output: its subgraph, its number there, its DataType, and its shape with -1 for any size."""

    subgraph: int
    number: int
    name: str
    data_type: int
    shape: tuple[int, ...]


class Subgraph(NamedTuple):
    """The inputs and outputs of a subgraph."""

    inputs: tuple[Tensor, ...]
    outputs: tuple[Tensor, ...]


class Signature(NamedTuple):
    """A signature of the file's own, as the converter writes them: its tensors by their aliases."""

    inputs: Mapping[str, Tensor]
    outputs: Mapping[str, Tensor]


class ModelFile:
    """A model file. Everything that reads it raises ValueError for what cannot be served."""

    def __init__(self, content: bytes) -> None:
        self._model = schema.Model.GetRootAs(content, 0)

    def subgraphs(self) -> list[Subgraph]:
        """All of them; the first one is the primary one."""
        return [
            Subgraph(
                tuple(self._tensor(number, graph.Inputs(index)) for index in range(graph.InputsLength())),
                tuple(self._tensor(number, graph.Outputs(index)) for index in range(graph.OutputsLength())),
            )
            for number, graph in enumerate(map(self._model.Subgraphs, range(self._model.SubgraphsLength())))
        ]

    def own_signatures(self) -> dict[str, Signature]:
        """The signatures that the converter has written, by name."""
        definitions = map(self._model.SignatureDefs, range(self._model.SignatureDefsLength()))
        return {
            definition.SignatureKey().decode(): Signature(
                self._tensors(definition.SubgraphIndex(), definition.Inputs, definition.InputsLength()),
                self._tensors(definition.SubgraphIndex(), definition.Outputs, definition.OutputsLength()),
            )
            for definition in definitions
        }

    def metadata_signatures(self) -> dict[str, SignatureDef]:
        """The signatures in the file's metadata, by name."""
        for metadata in map(self._model.Metadata, range(self._model.MetadataLength())):
            if metadata.Name() == _SIGNATURES:
                try:
                    return dict(_signature_map(self._model.Buffers(metadata.Buffer()).DataAsNumpy()))
                except Exception as error:  # a FlexBuffer is not verified: its reader raises anything
                    text = f"its metadata {_SIGNATURES.decode()} is no map of SignatureDefs: {error}"
                    raise ValueError(text) from error
        return {}

    def has_loops(self) -> bool:
        """Whether there is an operation whose time is not bounded by the size of the inputs."""
        codes = map(self._model.OperatorCodes, range(self._model.OperatorCodesLength()))
        return any(code.BuiltinCode() in _LOOPS for code in codes)

    def _tensors(self, subgraph: int, entry: Any, count: int) -> dict[str, Tensor]:
        entries = map(entry, range(count))
        return {entry.Name().decode(): self._tensor(subgraph, entry.TensorIndex()) for entry in entries}

    def _tensor(self, subgraph: int, index: int) -> Tensor:
        tensor = self._model.Subgraphs(subgraph).Tensors(index)
        name = tensor.Name().decode()
        if tensor.Type() not in _TYPES:
            raise ValueError(f"tensor {name} is of the type {tensor.Type()}, which no message can carry")
        if tensor.ShapeSignatureLength():
            shape = tuple(map(tensor.ShapeSignature, range(tensor.ShapeSignatureLength())))
        else:
            shape = tuple(map(tensor.Shape, range(tensor.ShapeLength())))
        return Tensor(subgraph, index, name, _TYPES[tensor.Type()], shape)


def _signature_map(buffer: object) -> Iterator[tuple[str, SignatureDef]]:
    if not isinstance(buffer, np.ndarray):
        raise TypeError("it is empty")
    signatures = flexbuffers.GetRoot(buffer.tobytes()).AsMap
    for key, value in zip(signatures.Keys, signatures.Values, strict=True):
        yield key.AsKey, SignatureDef.FromString(value.AsStringBytes)

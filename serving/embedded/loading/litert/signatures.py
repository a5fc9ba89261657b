"""The signatures that a model file is served under, and which tensors their names stand for.

Those of the file's metadata are TF Serving's, and come first. Those that the converter has written are added under
names that are not taken: TF Serving does not read them. A file with neither has the one that TF Serving makes.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field

from serving.apis import tensors
from serving.apis.messages import SignatureDef, TensorInfo, TensorShapeProto
from serving.apis.signatures import DEFAULT_SIGNATURE
from serving.embedded.inference.predict import PREDICT_METHOD
from serving.embedded.loading.litert.flatbuffer import ModelFile, Tensor


@dataclass
class Signatures:
    """Signatures by name, and the tensors by the names that the signatures have for them."""

    definitions: dict[str, SignatureDef] = field(default_factory=dict)
    inputs: dict[str, Tensor] = field(default_factory=dict)
    outputs: dict[str, Tensor] = field(default_factory=dict)


def read_signatures(file: ModelFile) -> Signatures:
    """Reads them all. Raises ValueError for one that names what there is not, and for a file without any."""
    signatures = Signatures()
    primary = file.subgraphs()[0]
    for name, definition in file.metadata_signatures().items():
        _correct(name, definition.inputs, primary.inputs, signatures.inputs)
        _correct(name, definition.outputs, primary.outputs, signatures.outputs)
        signatures.definitions[name] = definition
    for name, own in file.own_signatures().items():
        if name not in signatures.definitions:
            _add(signatures, name, own.inputs, own.outputs)
    if not signatures.definitions:
        _add(signatures, DEFAULT_SIGNATURE, _by_name(primary.inputs), _by_name(primary.outputs))
    return signatures


def _correct(
    signature: str, infos: Mapping[str, TensorInfo], of_graph: Iterable[Tensor], names: dict[str, Tensor]
) -> None:
    """Holds one side of a signature to the tensors that there are."""
    by_name = {tensor.name: tensor for tensor in of_graph}
    for alias, info in infos.items():
        if info.name not in by_name:
            info.name = _legacy(info.name)
        if info.name not in by_name:
            raise ValueError(f"{alias} of signature {signature} names the tensor {info.name}, which there is not")
        tensor = names[info.name] = by_name[info.name]
        if info.dtype != tensor.data_type:
            types = [tensors.data_type_name(data_type) for data_type in (info.dtype, tensor.data_type)]
            raise ValueError(f"{alias} of signature {signature} is {types[0]}, its tensor {types[1]}")


def _add(signatures: Signatures, name: str, inputs: Mapping[str, Tensor], outputs: Mapping[str, Tensor]) -> None:
    definition = SignatureDef(method_name=PREDICT_METHOD)
    for side, names, infos in (
        (inputs, signatures.inputs, definition.inputs),
        (outputs, signatures.outputs, definition.outputs),
    ):
        for alias, tensor in side.items():
            # Tensors of two subgraphs may have one name.
            tensor_name = tensor.name if names.get(tensor.name, tensor) == tensor else f"{name}/{alias}"
            names[tensor_name] = tensor
            shape = TensorShapeProto(dim=[TensorShapeProto.Dim(size=size) for size in tensor.shape])
            infos[alias].CopyFrom(TensorInfo(name=tensor_name, dtype=tensor.data_type, tensor_shape=shape))
    signatures.definitions[name] = definition


def _by_name(of_graph: Iterable[Tensor]) -> dict[str, Tensor]:
    """Tensors by their names as aliases. Raises ValueError for a name that two have."""
    aliases: dict[str, Tensor] = {}
    for tensor in of_graph:
        if aliases.setdefault(_legacy(tensor.name), tensor) != tensor:
            raise ValueError(f"the tensor name {tensor.name} has multiple indices")
    return aliases


def _legacy(name: str) -> str:
    """A tensor's name as earlier converters had it."""
    return name.removesuffix(":0")

"""The version's graph for LiteRT: `model.tflite`, which TF Serving reads too with `--prefer_tflite_model`.

The file holds its signatures twice: as the converter writes them, for LiteRT, and as TF Serving reads them, a map of
serialized SignatureDefs whose tensors are all of the first subgraph.
https://github.com/tensorflow/tensorflow/blob/master/tensorflow/lite/tools/signature/signature_def_util.h
https://github.com/tensorflow/serving/blob/master/tensorflow_serving/servables/tensorflow/tflite_session.cc
"""

from __future__ import annotations

import copy
import re
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

import flatbuffers
import numpy as np
import tensorflow as tf
from ai_edge_litert import schema_py_generated as schema
from flatbuffers import flexbuffers
from google.protobuf.message import DecodeError
from tensorflow.lite.python.convert import ConverterError

from fashion_common.layout import LITE_MODEL_FILE, SAVED_MODEL_FILE
from fashion_common.served_model import SIGNATURES
from serving.apis.messages import SavedModel, SignatureDef
from training.errors import TrainingError

# What of the garments' signatures needs none of TensorFlow's decoders.
_GARMENTS = ("serving_default", "float_images")
# The one that TF Serving finds in the first subgraph.
_FIRST = "serving_default"

_METADATA_NAME = "signature_defs_metadata"
_FILE_IDENTIFIER = b"TFL3"
_ALIGNMENT = 16


def converted_signatures(names: Iterable[str]) -> list[str]:
    """Those of a version's signatures that its `model.tflite` has: all, but of the garments' four."""
    known = sorted(names)
    return list(_GARMENTS) if set(known) == set(SIGNATURES) else known


def write_lite_model(version_path: Path) -> None:
    """Writes the model of a SavedModel's directory beside it, unquantised. Raises TrainingError."""
    try:
        saved_model = SavedModel.FromString((version_path / SAVED_MODEL_FILE).read_bytes())
        signatures = saved_model.meta_graphs[0].signature_def
        keys = converted_signatures(name for name in signatures if not name.startswith("__"))
        converter = tf.lite.TFLiteConverter.from_saved_model(str(version_path), signature_keys=keys)
        content = converter.convert()
        first = _FIRST if _FIRST in keys else keys[0]
        content = _with_served_signature(content, keys, first, signatures[first])
    except (ConverterError, DecodeError, OSError, ValueError, KeyError, RuntimeError, tf.errors.OpError) as error:
        raise TrainingError(_reason(str(error))) from error
    try:
        (version_path / LITE_MODEL_FILE).write_bytes(content)
    except OSError as error:
        raise TrainingError(f"it cannot be written ({error.strerror})") from error


def _reason(converter_error: str) -> str:
    """One line of the converter's hundreds."""
    missing = sorted(set(re.findall(r"'tf\.(\w+)' op is neither a custom op nor a flex op", converter_error)))
    if missing:
        return f"LiteRT has no operation {', '.join(missing)}"
    line = next((line.strip() for line in converter_error.splitlines() if line.strip()), "no reason was given")
    # Where in the graph it is goes before it, in names that nobody gave.
    return re.sub(r"^.*error: loc\(.*\)\)?: ", "", line)


def _with_served_signature(content: bytes, keys: Sequence[str], name: str, definition: SignatureDef) -> bytes:
    """The model with a signature in its first subgraph, and that signature's definition in its metadata.

    keys: the signatures that it must have. Raises ValueError for one that the converter left out.
    """
    model = schema.ModelT.InitFromPackedBuf(content)
    _add_twins(model, keys)
    signatures = {signature.signatureKey.decode(): signature for signature in model.signatureDefs}
    _put_first(model, signatures[name].subgraphIndex)
    for signature in signatures.values():
        # The converter's names have colons (`StatefulPartitionedCall:2`): early TF Servings read no further than that.
        tensors = model.subgraphs[signature.subgraphIndex].tensors
        # One tensor may be several of them: an input that is an output too keeps the input's name.
        for tensor_map in (*signature.outputs, *signature.inputs):
            tensors[tensor_map.tensorIndex].name = tensor_map.name
    served = SignatureDef()
    served.CopyFrom(definition)
    tensors, first = model.subgraphs[0].tensors, signatures[name]
    for infos, tensor_maps in ((served.inputs, first.inputs), (served.outputs, first.outputs)):
        for tensor_map in tensor_maps:
            infos[tensor_map.name.decode()].name = tensors[tensor_map.tensorIndex].name.decode()
    _add_metadata(model, _string_map(name, served.SerializeToString(deterministic=True)))
    builder = _AlignedBuilder()
    builder.Finish(model.Pack(builder), file_identifier=_FILE_IDENTIFIER)
    return bytes(builder.Output())


def _add_twins(model: Any, keys: Sequence[str]) -> None:
    """Adds signatures that are another one by a second name, as Keras's `Model.export` has them: one is lost."""
    signatures = {signature.signatureKey.decode(): signature for signature in model.signatureDefs}
    for key in keys:
        if key in signatures:
            continue
        if len(signatures) > 1:
            raise ValueError(f"the converter leaves out the signature {key}")
        twin = copy.copy(next(iter(signatures.values())))
        twin.signatureKey = key.encode()
        model.signatureDefs.append(twin)


def _put_first(model: Any, index: int) -> None:
    """Swaps a subgraph with the first one, and every number that names one of the two."""
    subgraphs = model.subgraphs
    subgraphs[0], subgraphs[index] = subgraphs[index], subgraphs[0]
    operators = (operator for subgraph in subgraphs for operator in subgraph.operators)
    options = (option for operator in operators for option in (operator.builtinOptions, operator.builtinOptions2))
    for record in (*model.signatureDefs, *filter(None, options)):
        for field, value in vars(record).items():
            if field.lower().endswith(("subgraphindex", "subgraph")) and value in (0, index):
                setattr(record, field, index - value)


def _add_metadata(model: Any, content: bytes) -> None:
    buffer, metadata = schema.BufferT(), schema.MetadataT()
    buffer.data = np.frombuffer(content, np.uint8)
    metadata.name, metadata.buffer = _METADATA_NAME, len(model.buffers)
    model.buffers.append(buffer)
    model.metadata = [*(model.metadata or ()), metadata]


def _string_map(key: str, value: bytes) -> bytes:
    """A FlexBuffer's map with one string, which need not be text."""
    builder = flexbuffers.Builder()
    with builder.Map():
        builder.Key(key)
        # Its public method for strings takes text only.
        builder._WriteBlob(value, append_zero=True, type_=flexbuffers.Type.STRING)  # noqa: SLF001
    return bytes(builder.Finish())


class _AlignedBuilder(flatbuffers.Builder):  # type: ignore[misc]  # flatbuffers ships no types
    """Aligns weights as the schema asks (`force_align: 16`), which Python's generated code does not."""

    def CreateNumpyVector(self, vector: Any) -> Any:  # noqa: N802 - the base class's name
        self.Prep(_ALIGNMENT, vector.nbytes)
        return super().CreateNumpyVector(vector)

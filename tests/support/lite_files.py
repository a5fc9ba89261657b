"""Model files with other metadata, put together without TensorFlow."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import flatbuffers
import numpy as np
from ai_edge_litert import schema_py_generated as schema
from flatbuffers import flexbuffers


def with_metadata(model: Any, definitions: Mapping[str, bytes]) -> bytes:
    """A model with a map of serialized SignatureDefs."""
    builder = flexbuffers.Builder()
    with builder.Map():
        for name, definition in definitions.items():
            builder.Key(name)
            # Its public method for strings takes text only.
            builder._WriteBlob(definition, append_zero=True, type_=flexbuffers.Type.STRING)
    return with_metadata_bytes(model, bytes(builder.Finish()))


def with_metadata_bytes(model: Any, content: bytes) -> bytes:
    """A model with these bytes where the map should be."""
    buffer, metadata = schema.BufferT(), schema.MetadataT()
    buffer.data = np.frombuffer(content, np.uint8)
    metadata.name, metadata.buffer = "signature_defs_metadata", len(model.buffers)
    model.buffers.append(buffer)
    model.metadata = [*(model.metadata or ()), metadata]
    return packed(model)


def packed(model: Any) -> bytes:
    """A model as a file has it."""
    builder = flatbuffers.Builder()
    builder.Finish(model.Pack(builder), b"TFL3")
    return bytes(builder.Output())

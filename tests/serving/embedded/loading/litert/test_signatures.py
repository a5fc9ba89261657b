"""Which signatures a model file is served under."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from ai_edge_litert import schema_py_generated as schema

from serving.apis.messages import DT_INT32, SignatureDef, TensorInfo
from serving.apis.tensors import data_type_name
from serving.embedded.loading.litert.lite_model import LiteModel
from tests.support.lite_files import packed, with_metadata, with_metadata_bytes

X = np.array([1.0, 4.0], np.float32)


def model_of(toys: Path, name: str) -> Any:
    """A toy model, to be changed."""
    return schema.ModelT.InitFromPackedBuf((toys / name / "1" / "model.tflite").read_bytes())


def sides(definition: SignatureDef) -> list[dict[str, tuple[str, str, list[int]]]]:
    """Name, DataType and shape of each tensor, by alias."""
    return [
        {
            alias: (info.name, data_type_name(info.dtype), [dim.size for dim in info.tensor_shape.dim])
            for alias, info in infos.items()
        }
        for infos in (definition.inputs, definition.outputs)
    ]


def test_the_signatures_of_the_metadata(lite_toys: Path) -> None:
    """Names as the metadata has them; several may share tensors."""
    model = LiteModel((lite_toys / "named" / "1" / "model.tflite").read_bytes())

    assert sorted(model.signatures) == ["other", "serving_default"]
    default, other = model.signatures["serving_default"], model.signatures["other"]
    assert (list(default.inputs), list(default.outputs)) == (["in"], ["out"])
    assert model.run({default.inputs["in"].name: X}, [default.outputs["out"].name])[0].tolist() == [2.5, 4.0]
    assert model.run({other.inputs["x"].name: X}, [other.outputs["bias"].name])[0].tolist() == [2.0, 2.0]


def test_the_signatures_of_the_converter(lite_toys: Path) -> None:
    """With dtypes, and -1 for a size that is free."""
    strings = LiteModel((lite_toys / "strings" / "1" / "model.tflite").read_bytes()).signatures
    assert list(strings) == ["serving_default"]
    assert sides(strings["serving_default"]) == [
        {
            "words": ("serving_default_words:0", "DT_STRING", [-1]),
            "x": ("serving_default_x:0", "DT_FLOAT", [-1, 2]),
        },
        {
            "row": ("serving_default_words:0", "DT_STRING", [-1]),
            "column": ("PartitionedCall:0", "DT_STRING", [-1, 1]),
            "y": ("PartitionedCall:2", "DT_FLOAT", [-1, 2]),
        },
    ]
    assert strings["serving_default"].method_name == "tensorflow/serving/predict"


def test_a_file_without_signatures(lite_toys: Path) -> None:
    """Has the one that TF Serving makes: the tensors' names are the aliases, without `:0`."""
    model = LiteModel((lite_toys / "fixed" / "1" / "model.tflite").read_bytes())

    [(name, definition)] = model.signatures.items()

    assert (name, definition.method_name) == ("serving_default", "tensorflow/serving/predict")
    inputs, outputs = sides(definition)
    [(alias, (tensor, data_type, shape))] = inputs.items()
    assert (f"{alias}:0", data_type, shape) == (tensor, "DT_FLOAT", [1])
    assert outputs == {
        "PartitionedCall": ("PartitionedCall:0", "DT_FLOAT", [1]),
        "PartitionedCall:1": ("PartitionedCall:1", "DT_FLOAT", [1]),
    }
    # A batch of another size than the file has is answered too, as TF Serving does.
    assert model.run({tensor: X}, ["PartitionedCall:1"])[0].tolist() == [2.5, 4.0]


def test_metadata_beside_the_converter_s_signatures(lite_toys: Path) -> None:
    """Metadata comes first; the converter's own are added: metadata can name the first subgraph's tensors only."""
    model = model_of(lite_toys, "two")
    definition = SignatureDef(
        inputs={"in": TensorInfo(name="x:0", dtype=1)}, outputs={"out": TensorInfo(name="y:0", dtype=1)}
    )
    lite_model = LiteModel(with_metadata(model, {"double": definition.SerializeToString()}))

    # A name with `:0` stands for one without it, as in TF Serving.
    assert sides(lite_model.signatures["double"]) == [{"in": ("x", "DT_FLOAT", [])}, {"out": ("y", "DT_FLOAT", [])}]
    assert sides(lite_model.signatures["triple"]) == [
        {"x": ("triple/x", "DT_FLOAT", [-1])},
        {"y": ("triple/y", "DT_FLOAT", [-1])},
    ]
    assert lite_model.run({"triple/x": X}, ["triple/y"])[0].tolist() == [3.0, 12.0]


@pytest.mark.parametrize(
    ("definition", "text"),
    [
        (
            SignatureDef(inputs={"a": TensorInfo(name="z", dtype=1)}),
            "^a of signature s names the tensor z, which there is not$",
        ),
        (
            SignatureDef(outputs={"b": TensorInfo(name="x", dtype=1)}),
            "^b of signature s names the tensor x, which there is not$",
        ),
        (
            SignatureDef(inputs={"a": TensorInfo(name="x", dtype=DT_INT32)}),
            "^a of signature s is DT_INT32, its tensor DT_FLOAT$",
        ),
    ],
    ids=["no tensor", "an input", "another type"],
)
def test_metadata_that_names_what_there_is_not(lite_toys: Path, definition: SignatureDef, text: str) -> None:
    """Fails the load, as in TF Serving: the primary subgraph's tensors alone may be named."""
    with pytest.raises(ValueError, match=text):
        LiteModel(with_metadata(model_of(lite_toys, "two"), {"s": definition.SerializeToString()}))


@pytest.mark.parametrize("content", [b"", b"\0", b"\1\2\3\4\5\6\7\x24\1", b"\xff" * 99], ids=len)
def test_metadata_that_is_no_map(lite_toys: Path, content: bytes) -> None:
    """Fails the load in one line."""
    with pytest.raises(ValueError, match=r"^its metadata signature_defs_metadata is no map of SignatureDefs: "):
        LiteModel(with_metadata_bytes(model_of(lite_toys, "half_plus_two"), content))
    with pytest.raises(ValueError, match="is no map of SignatureDefs: "):
        LiteModel(with_metadata(model_of(lite_toys, "half_plus_two"), {"s": b"\xff"}))


def test_a_type_that_no_message_carries(lite_toys: Path) -> None:
    """Fails the load."""
    model = model_of(lite_toys, "half_plus_two")
    model.subgraphs[0].tensors[0].type = schema.TensorType.INT4
    with pytest.raises((ValueError, RuntimeError)):
        LiteModel(with_metadata(model, {}))


def test_metadata_without_bytes_is_empty(lite_toys: Path) -> None:
    """It is told so."""
    model, metadata = model_of(lite_toys, "half_plus_two"), schema.MetadataT()
    metadata.name, metadata.buffer = "signature_defs_metadata", len(model.buffers)
    model.buffers.append(schema.BufferT())
    model.metadata = [metadata]
    with pytest.raises(
        ValueError, match=r"its metadata signature_defs_metadata is no map of SignatureDefs: it is empty$"
    ):
        LiteModel(packed(model))
